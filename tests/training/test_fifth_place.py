"""The fifth place's recipes end to end at tiny size, and their published settings."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.emulator import EmulatorConfig, FlatEmulator, load_emulator
from subgrid.training import TrainConfig, fit, recipe
from subgrid.training.schedules import rate_factor

TINY = {"hidden": 8, "layers": 1}


@pytest.fixture(scope="module")
def stores(climsim_store):
    """Two stores of the competition's set on 6 levels."""
    return climsim_store("kaggle"), climsim_store("kaggle", splits=(("train", 200), ("validation", 64)))


def rates(chosen, steps_of_epoch=10):
    config = chosen.config
    total = steps_of_epoch * config.epochs
    return [config.learning_rate * rate_factor(config, total)(k * steps_of_epoch) for k in range(config.epochs)]


def test_published_rates_of_family_a():
    found = rates(recipe("fifth_place_a"))
    wanted = [6.5e-4 * 0.65 ** sum(k >= m for m in (3, 6, 8, 11, 14, 17)) for k in range(20)]
    assert found == pytest.approx(wanted)


def test_published_rates_of_family_b():
    assert rates(recipe("fifth_place_b")) == pytest.approx([1e-3] * 10 + [1e-4] * 6)


def check(run, stores, inputs):
    """A finished run: the loss fell, and what it saved gives finite numbers for other columns."""
    losses = [epoch["val_loss"] for epoch in json.loads((run / "metrics.json").read_text())["losses"]]
    assert losses[-1] < losses[0] and np.isfinite(losses).all()
    emulator = load_emulator(run)
    assert len(emulator.features.names) == inputs
    x = torch.from_numpy(stores[0]["test"].read_variables(emulator.variables.inputs, 0).copy())
    with torch.inference_mode():
        for columns in (x, torch.zeros_like(x), 1e3 * x):
            assert torch.isfinite(FlatEmulator(emulator)(columns)[0]).all()
    return emulator


@pytest.mark.parametrize(("inputs", "profiles"), [("raw", 9), ("fifth_place", 18)])
def test_family_a(tmp_path, stores, inputs, profiles):
    config = TrainConfig(
        data=str(stores[0].path),
        variables="kaggle",
        architecture="fifth_place_a",
        network=TINY,
        recipe="fifth_place_a",
        recipe_settings={"epochs": 4, "batch_size": 100, "average_checkpoints": 2, "learning_rate": 3e-3},
        emulator=EmulatorConfig(inputs=inputs, saturation="sam"),
        precision="32-true",
    )
    fit(config, tmp_path / "run")
    emulator = check(tmp_path / "run", stores, profiles)
    assert emulator.metadata["weights"] == "mean of the 2 best epochs by validation loss"
    assert emulator.metadata["recipe"] == "fifth_place_a"


def test_family_b_on_two_stores_and_then_fine_tuned_with_swa(tmp_path, stores):
    first, second = (str(store.path) for store in stores)
    network = {**TINY, "embedding": 8, "inner": 16}
    common = {"variables": "kaggle", "architecture": "fifth_place_b", "network": network, "precision": "32-true"}
    settings = {"epochs": 5, "batch_size": 50, "ema_after": 10, "learning_rate": 5e-3}
    base = TrainConfig(data=first, data2=second, recipe="fifth_place_b", recipe_settings=settings, **common)
    fit(base, tmp_path / "base")
    emulator = check(tmp_path / "base", stores, 9)
    assert emulator.config.normalization == "pooled" and emulator.metadata["second_store"] == second
    assert emulator.metadata["weights"] == ("exponential average of steps (decay 0.99), best epoch by validation loss")
    tuned = TrainConfig(
        data=second,
        from_run=tmp_path / "base",
        recipe="fifth_place_b",
        recipe_settings={"epochs": 3, "batch_size": 50, "ema_decay": 0.0, "swa_from": 2, "swa_learning_rate": 1e-4},
        **common,
    )
    fit(tuned, tmp_path / "tuned")
    emulator = check(tmp_path / "tuned", stores, 9)
    assert emulator.metadata["weights"] == "mean of the ends of epochs 2 to 3"
    assert emulator.metadata["from"]["store"] == first


def test_family_b_needs_its_normalisation():
    with pytest.raises(UsageError, match=r"emulator\.normalization=pooled"):
        TrainConfig(data="x", recipe="fifth_place_b", emulator=EmulatorConfig(inputs="raw"))


def test_further_numbers_are_the_published_ones():
    for name, wanted in (
        ("fifth_place_a", {"loss": "huber", "batch_size": 4000, "weight_decay": 2e-3, "energy_weight": 0.0}),
        ("fifth_place_b", {"loss": "mae", "batch_size": 6912, "weight_decay": 2e-4, "ema_every": 8, "ema_after": 50}),
    ):
        config = recipe(name).config
        assert {key: getattr(config, key) for key in wanted} == wanted
