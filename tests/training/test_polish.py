"""Switches of any recipe: a polish by squared error, and outputs that alone count; by hand and in a run of seconds."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.emulator import load_emulator
from subgrid.training import fit, recipe
from subgrid.training.recipes import RecipeConfig
from subgrid.training.recipes.standard import channel_weights
from subgrid.training.schedules import rate_factor


@pytest.fixture(scope="module")
def batch(tiny_emulator, tiny_store):
    train, held = tiny_store["train"], tiny_emulator.variables
    x, y = (torch.from_numpy(train.read_variables(v, 2).copy()) for v in (held.inputs, held.targets))
    return x, y, torch.ones(len(x))


@pytest.mark.parametrize("name", ["standard", "difference", "confidence"])
def test_the_last_epochs_and_every_validation_are_of_the_squared_error(name, make_emulator, batch):
    emulator = make_emulator(confidence=name == "confidence")
    polished = recipe(name, loss="huber", epochs=5, polish_epochs=2, mse_weight=0.3)
    huber, squared = recipe(name, loss="huber", mse_weight=0.3), recipe(name, loss="mse")
    with torch.no_grad():
        for epoch in range(5):
            polished.epoch = epoch
            wanted = squared if epoch >= 3 else huber
            found = polished.loss(emulator, *batch, training=True).item()
            assert found == pytest.approx(wanted.loss(emulator, *batch, training=True).item(), rel=1e-6)
            found = polished.loss(emulator, *batch, training=False).item()
            assert found == pytest.approx(squared.loss(emulator, *batch, training=False).item(), rel=1e-6)
    assert huber.loss(emulator, *batch, training=True) != squared.loss(emulator, *batch, training=True)


def test_the_second_store_is_polished_too(tiny_emulator, batch):
    polished = recipe("standard", loss="mae", epochs=2, polish_epochs=1, second_weight=0.5, second_mse_weight=0.1)
    squared = recipe("standard", loss="mse", second_weight=0.5)
    polished.epoch = 1
    found, wanted = (one.second_loss(tiny_emulator, *batch).item() for one in (polished, squared))
    assert found == pytest.approx(wanted, rel=1e-6)


def test_the_rate_of_the_polish():
    config = RecipeConfig(
        epochs=4, loss="mae", schedule="constant", warmup=0.0, polish_epochs=1, polish_learning_rate=1e-5
    )
    factor = rate_factor(config, 40)
    np.testing.assert_allclose([factor(step) for step in (0, 29, 30, 39)], [1.0, 1.0, 5e-3, 5e-3])
    plain = rate_factor(RecipeConfig(epochs=4, loss="mae", schedule="constant", warmup=0.0, polish_epochs=1), 40)
    assert plain(39) == 1.0


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"polish_epochs": 2}, "loss=mse"),
        ({"polish_epochs": 14, "loss": "mae"}, "polish_epochs=14"),
        ({"polish_epochs": -1, "loss": "mae"}, "polish_epochs=-1"),
        ({"polish_learning_rate": 1e-4, "loss": "mae"}, "there are none"),
        ({"polish_learning_rate": -1.0, "polish_epochs": 1, "loss": "mae"}, "polish_learning_rate"),
        (
            {
                "polish_epochs": 1,
                "loss": "mae",
                "polish_learning_rate": 1e-4,
                "swa_from": 2,
                "swa_learning_rate": 1e-4,
            },
            "choose one",
        ),
        ({"outputs": "ptend_t"}, "recipe.outputs"),
        ({"outputs": [3]}, "recipe.outputs"),
    ],
)
def test_what_cannot_be_is_refused_by_name(settings, what):
    with pytest.raises(UsageError, match=what):
        RecipeConfig(**settings)


def test_a_network_that_brings_its_own_loss_is_not_polished(train_config, tmp_path):
    settings = {"epochs": 2, "batch_size": 256, "loss": "mae", "polish_epochs": 1}
    with pytest.raises(UsageError, match=r"architecture hsr brings its own loss: recipe\.loss=mae"):
        fit(train_config(architecture="hsr", network={}, recipe_settings=settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_polished_run_is_cut_and_goes_on_to_the_same_weights(train_config, tmp_path, monkeypatch):
    """Cut in the middle of the polish: what goes on is still the polish."""
    settings = {"epochs": 2, "batch_size": 256, "loss": "mae", "polish_epochs": 1}
    config = train_config(recipe_settings=settings, checkpoint_every=3)
    fit(config, tmp_path / "whole")
    plain = train_config(recipe_settings={"epochs": 2, "batch_size": 256, "loss": "mae"}, checkpoint_every=3)
    fit(plain, tmp_path / "plain")

    class CutError(Exception):
        pass

    from subgrid.training.task import EmulatorTask

    step = EmulatorTask.training_step

    def cutting(self, batch, index):
        if self.current_epoch == 1 and index == 5:
            raise CutError
        return step(self, batch, index)

    monkeypatch.setattr(EmulatorTask, "training_step", cutting)
    with pytest.raises(CutError):
        fit(config, tmp_path / "cut")
    monkeypatch.setattr(EmulatorTask, "training_step", step)
    fit(config, tmp_path / "cut")
    weights = [load_emulator(tmp_path / name).state_dict() for name in ("whole", "cut", "plain")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert any(not torch.equal(value, weights[2][name]) for name, value in weights[0].items())
    losses = [json.loads((tmp_path / n / "metrics.json").read_text())["losses"] for n in ("whole", "plain")]
    assert losses[0][0]["train_loss_epoch"] == losses[1][0]["train_loss_epoch"]  # by its own loss until the polish
    assert losses[0][0]["val_loss"] != losses[1][0]["val_loss"]


def test_named_outputs_alone_weigh(tiny_emulator):
    profiles, scalars = channel_weights(tiny_emulator, 0.5)
    names = [v.name for v in tiny_emulator.variables.targets]
    found_p, found_s = channel_weights(tiny_emulator, 0.5, ("specific_humidity_tendency", "evaporation"))
    assert torch.equal(found_p[:, 1], profiles[:, 1]) and not found_p[:, [0, 2, 3]].any()
    at = names.index("evaporation") - 4
    assert found_s[at] == scalars[at] > 0 and found_s.sum() == scalars[at]


def test_a_run_of_named_outputs_learns_those(train_config, tiny_store, tmp_path):
    settings = {"epochs": 2, "batch_size": 256, "learning_rate": 1e-2, "outputs": ["evaporation"]}
    emulator = fit(train_config(recipe_settings=settings), tmp_path / "run")
    losses = {}
    for name in ("evaporation", "outgoing_longwave"):
        chosen = recipe("standard", outputs=[name])
        x, y = (
            torch.from_numpy(tiny_store["test"].read_variables(v, 0).copy())
            for v in (emulator.variables.inputs, emulator.variables.targets)
        )
        with torch.no_grad():
            losses[name] = chosen.loss(emulator, x, y, torch.ones(len(x)), training=False).item()
    assert losses["evaporation"] < 0.5 < 0.7 < losses["outgoing_longwave"]


@pytest.mark.parametrize(
    ("outputs", "what"), [(["evaporatoin"], "evaporation"), (["u_wind_tendency_top"], "u_wind_tendency")]
)
def test_outputs_that_are_not_there_are_refused_before_anything_is_written(train_config, tmp_path, outputs, what):
    settings = {"epochs": 1, "batch_size": 256, "outputs": outputs}
    with pytest.raises(UsageError, match=rf"unknown recipe.outputs '{outputs[0]}'.*{what}"):
        fit(train_config(recipe_settings=settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()
