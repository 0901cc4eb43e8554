"""Training from another run's weights: what is taken over, what is refitted, what is refused, and the words."""

from __future__ import annotations

import json

import pytest
import torch

from subgrid.base.errors import SubgridError, UsageError
from subgrid.cli.verbs import train_settings
from subgrid.emulator import load_emulator
from subgrid.training import TrainConfig, fit
from subgrid.training.fit import prepare


@pytest.fixture(scope="module")
def warmer(tmp_path_factory, write_store, make_rows):
    """A store like the tiny one but for a scalar that is twice as large."""
    rows = {name: make_rows(count, seed) for name, count, seed in (("train", 600, 31), ("validation", 100, 32))}
    for part in rows.values():
        part["inputs"][:, 32:] *= 2.0
    return write_store(tmp_path_factory.mktemp("warmer") / "warmer.zarr", rows)


def begun(train_config, store, run, **changes):
    config = train_config(data=str(store.path), from_run=str(run), **changes)
    return prepare(config, store)[0]


def test_weights_and_transforms_are_taken_over(train_config, warmer, tiny_run):
    held = load_emulator(tiny_run)
    emulator = begun(train_config, warmer, tiny_run)
    for name, value in held.state_dict().items():
        assert torch.equal(emulator.state_dict()[name], value), name
    assert emulator.metadata["from"] == {
        "run": str(tiny_run),
        "transforms": "kept",
        "store": held.metadata["store"],
        "recipe": "standard",
        "seed": 0,
        "weights": "best epoch by validation loss",
    }


def test_transforms_are_refitted_on_request(train_config, warmer, tiny_run):
    held = load_emulator(tiny_run)
    emulator = begun(train_config, warmer, tiny_run, transforms="refitted")
    for name, value in held.network.state_dict().items():
        assert torch.equal(emulator.network.state_dict()[name], value), name
    ours, theirs = emulator.inputs.scalar_mean, held.inputs.scalar_mean
    assert ours[1] == pytest.approx(2.0 * theirs[1].item(), rel=0.1)
    assert emulator.metadata["from"]["transforms"] == "refitted"


def test_a_fine_tuned_run_begins_better_than_one_from_the_start(tmp_path, train_config, tiny_run):
    def first_loss(name, **changes):
        settings = {"epochs": 1, "batch_size": 256, "learning_rate": 1e-5, "warmup": 0.0}
        emulator = fit(train_config(recipe_settings=settings, **changes), tmp_path / name)
        assert ("from" in emulator.metadata) == bool(changes)
        return json.loads((tmp_path / name / "metrics.json").read_text())["val_loss"]

    assert first_loss("tuned", from_run=tiny_run) < 0.9 * first_loss("fresh")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"network": {"widths": [16]}}, "size of the network"),
        ({"architecture": "unet", "network": {}}, "architecture"),
        ({"variables": "speedy_expanded"}, "set of variables"),
        ({"recipe": "confidence"}, "emulator.confidence"),
    ],
)
def test_what_its_weights_do_not_fit_is_refused_by_name(tmp_path, train_config, tiny_store, tiny_run, changes, what):
    with pytest.raises(UsageError, match=f"cannot begin this run, which has another .*{what}"):
        fit(train_config(from_run=tiny_run, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_step_is_refused(tmp_path, train_config, write_store, make_rows, tiny_run):
    rows = {"train": make_rows(300, 1), "validation": make_rows(50, 2)}
    other = write_store(tmp_path / "step.zarr", rows, time_step=600.0)
    with pytest.raises(UsageError, match="another time step"):
        fit(train_config(data=str(other.path), from_run=tiny_run), tmp_path / "run")


def test_wrong_words_are_refused(tmp_path, train_config):
    with pytest.raises(UsageError, match="unknown transforms 'keep'; did you mean kept"):
        TrainConfig(data="x", transforms="keep", from_run="y")
    with pytest.raises(UsageError, match="add from=RUN"):
        TrainConfig(data="x", transforms="refitted")
    with pytest.raises(SubgridError, match="holds no emulator"):
        fit(train_config(from_run=tmp_path), tmp_path / "run")


def test_the_words_take_what_they_do_not_say_from_the_run(tiny_run, tiny_store):
    words = [f"data={tiny_store.path}", "out=x", f"from={tiny_run}", "recipe.learning_rate=1e-5"]
    config, _ = train_settings(words)
    assert (config.from_run, config.architecture, config.network["widths"]) == (str(tiny_run), "mlp", [32, 32])
    assert config.variables == "speedy" and config.transforms == "kept"
    config, _ = train_settings([*words, "transforms=refitted", "architecture.dropout=0.2", "emulator.condense=true"])
    assert config.transforms == "refitted" and config.emulator.condense
    assert config.network["widths"] == [32, 32] and config.network["dropout"] == 0.2
