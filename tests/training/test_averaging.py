"""Averaged weights: exponential, of epochs' ends and of checkpoints, by hand; accumulated gradients; all resumed."""

from __future__ import annotations

import json

import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.emulator import load_emulator
from subgrid.training import fit, recipe
from subgrid.training.callbacks import Reporter
from subgrid.training.checkpoints import read_checkpoint
from subgrid.training.recipes import RecipeConfig

EPOCHS, STEPS = 4, 11
#: What each kind of average asks for, and what the emulator says of its weights.
KINDS = {
    "ema": (
        {"ema_decay": 0.9, "ema_every": 4, "ema_after": 5},
        "exponential average of steps (decay 0.9), best epoch by validation loss",
    ),
    "swa": ({"swa_from": 2, "swa_learning_rate": 1e-3}, "mean of the ends of epochs 2 to 4"),
    "mean": ({"average_checkpoints": 2}, "mean of the 2 best epochs by validation loss"),
    "last": ({"keep": "last"}, "last epoch"),
    "best": ({}, "best epoch by validation loss"),
}


class Killed(BaseException):
    """A kill, as near as one process can see it."""


def settings(train_config, **changes):
    changes = {"epochs": EPOCHS, "batch_size": 256, **changes}
    network = {"widths": [16], "dropout": 0.1}
    return train_config(network=network, recipe_settings=changes, checkpoint_every=3)


def parameters(task):
    return {name: value.detach().clone() for name, value in task.named_parameters()}


def followed(monkeypatch):
    """Parameters after every batch."""
    found = []
    real = Reporter.on_train_batch_end

    def follow(self, trainer, task, *args):
        real(self, trainer, task, *args)
        found.append(parameters(task))

    monkeypatch.setattr(Reporter, "on_train_batch_end", follow)
    return found


def held(emulator):
    return {f"emulator.network.{name}": value for name, value in emulator.network.named_parameters()}


def assert_close(found, wanted):
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_the_emulator_says_which_weights_it_ships(tmp_path, train_config, kind):
    changes, words = KINDS[kind]
    emulator = fit(settings(train_config, **changes), tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert emulator.metadata["weights"] == metrics["weights"] == words
    assert load_emulator(tmp_path / "run").metadata["weights"] == words


def test_the_exponential_average_takes_every_few_steps_after_the_first(tmp_path, train_config, monkeypatch):
    steps = followed(monkeypatch)
    fit(settings(train_config, **KINDS["ema"][0]), tmp_path / "run")
    wanted = steps[4]  # up to step 5 it is the weights
    for step in range(9, EPOCHS * STEPS + 1, 4):
        wanted = {name: 0.9 * value + 0.1 * steps[step - 1][name] for name, value in wanted.items()}
    assert_close(read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["state_dict"], wanted)


def test_the_average_of_epochs_is_of_their_ends(tmp_path, train_config, monkeypatch):
    steps = followed(monkeypatch)
    emulator = fit(settings(train_config, **KINDS["swa"][0]), tmp_path / "run")
    ends = [steps[epoch * STEPS - 1] for epoch in (2, 3, 4)]
    assert_close(held(emulator), {name: sum(end[name] for end in ends) / 3 for name in ends[0]})


def test_before_it_begins_the_weights_themselves_are_validated(tmp_path, train_config):
    fit(settings(train_config, swa_from=3), tmp_path / "averaged")
    fit(settings(train_config), tmp_path / "plain")
    ours, theirs = (
        json.loads((tmp_path / run / "metrics.json").read_text())["losses"] for run in ("averaged", "plain")
    )
    assert ours[:3] == theirs[:3]  # the first average is one epoch's end
    assert ours[3]["val_loss"] != theirs[3]["val_loss"]
    assert ours[3]["train_loss_epoch"] == theirs[3]["train_loss_epoch"]


def test_the_mean_of_checkpoints_is_of_the_best_and_its_loss_is_its_own(tmp_path, train_config, tiny_store):
    emulator = fit(settings(train_config, **KINDS["mean"][0]), tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    ranked = sorted(metrics["losses"], key=lambda epoch: epoch["val_loss"])
    kept = sorted(p.name for p in (tmp_path / "run" / "checkpoints").glob("epoch-*"))
    assert kept == sorted(f"epoch-{epoch['epoch'] - 1}.ckpt" for epoch in ranked[:2])
    states = [read_checkpoint(tmp_path / "run" / "checkpoints" / name)["state_dict"] for name in kept]
    assert_close(held(emulator), {name: (states[0][name] + states[1][name]) / 2 for name in held(emulator)})
    split = tiny_store["validation"]
    rows = [
        torch.cat([torch.from_numpy(split.read_variables(v, b).copy()) for b in range(split.blocks)])
        for v in (emulator.variables.inputs, emulator.variables.targets)
    ]
    weight = torch.cat([torch.from_numpy(split.read("weight", b).copy()) for b in range(split.blocks)])
    with torch.inference_mode():
        loss = float(recipe("standard").loss(emulator, *rows, weight, training=False))
    assert metrics["val_loss"] == pytest.approx(loss, rel=1e-4)
    assert metrics["val_loss"] != metrics["best_val_loss"]


@pytest.mark.parametrize("kind", ["ema", "swa", "mean"])
@pytest.mark.parametrize("at_step", [16, 41])
def test_a_cut_run_goes_on_to_the_same_bits(tmp_path, train_config, monkeypatch, kind, at_step):
    config = settings(train_config, **KINDS[kind][0])
    whole = fit(config, tmp_path / "whole")
    real = Reporter.on_train_batch_end

    def dies(self, trainer, *args):
        real(self, trainer, *args)
        if trainer.global_step == at_step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "on_train_batch_end", dies)
        with pytest.raises(Killed):
            fit(config, tmp_path / "cut")
    again = fit(config, tmp_path / "cut")
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    ours, theirs = (json.loads((tmp_path / run / "metrics.json").read_text()) for run in ("cut", "whole"))
    assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}


@pytest.mark.parametrize("batch", [64, 128])
def test_accumulated_batches_make_the_step_of_one_large_batch(tmp_path, train_config, batch):
    """The shuffle mixes rows alike whatever the batch; the last step of an epoch may have fewer."""
    one = {"epochs": 1, "batch_size": 256, "gradient_clip": 0.0, "loss": "mse"}
    network = {"widths": [16]}
    made = [
        fit(train_config(network=network, max_train_samples=2560, recipe_settings=change), tmp_path / str(i))
        for i, change in enumerate((one, {**one, "batch_size": batch, "accumulate": 256 // batch}))
    ]
    assert_close(held(made[1]), held(made[0]))
    ours, theirs = (json.loads((tmp_path / str(i) / "metrics.json").read_text()) for i in (1, 0))
    assert (ours["steps"], ours["columns_per_epoch"]) == (theirs["steps"], theirs["columns_per_epoch"]) == (10, 2560)
    assert ours["losses"][0]["train_loss_epoch"] == pytest.approx(theirs["losses"][0]["train_loss_epoch"], rel=1e-5)


def test_a_run_cut_between_accumulated_batches_goes_on_to_the_same_bits(tmp_path, train_config, monkeypatch):
    config = settings(train_config, epochs=2, batch_size=128, accumulate=2)
    whole = fit(config, tmp_path / "whole")
    real, count = Reporter.on_train_batch_end, []

    def dies(self, *args):
        real(self, *args)
        count.append(1)
        if len(count) == 33:  # the eleventh batch of the second epoch, with one gradient waiting
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "on_train_batch_end", dies)
        with pytest.raises(Killed):
            fit(config, tmp_path / "cut")
    assert read_checkpoint(tmp_path / "cut" / "checkpoints" / "last.ckpt")["global_step"] == 15
    again = fit(config, tmp_path / "cut")
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    ours, theirs = (json.loads((tmp_path / run / "metrics.json").read_text())["losses"] for run in ("cut", "whole"))
    assert ours == theirs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "step"}, "schedule"),
        ({"keep": "first"}, "best"),
        ({"milestones": (3,)}, "milestones belong to multistep"),
        ({"schedule": "multistep"}, "multistep needs them"),
        ({"schedule": "multistep", "milestones": (3, 3)}, "rising epochs"),
        ({"schedule": "multistep", "milestones": (0, 3)}, "rising epochs"),
        ({"schedule": "multistep", "milestones": 3}, "rising epochs"),
        ({"schedule": "multistep", "milestones": (3,), "gamma": 0.0}, "gamma"),
        ({"accumulate": 0}, "accumulate"),
        ({"ema_every": 0}, "ema_every"),
        ({"ema_after": -1}, "ema_after"),
        ({"swa_from": 15}, "after the last of 14 epochs"),
        ({"swa_learning_rate": -1.0}, "swa_learning_rate"),
        ({"average_checkpoints": 1}, "average_checkpoints"),
        ({"average_checkpoints": -2}, "average_checkpoints"),
        ({"average_checkpoints": 5, "epochs": 4}, "average_checkpoints=5 must be .* of the 4 epochs"),
        ({"ema_decay": 0.9, "swa_from": 3}, "choose one"),
        ({"average_checkpoints": 2, "swa_from": 3}, "choose one"),
        ({"average_checkpoints": 2, "keep": "last"}, "choose one"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(changes, message):
    with pytest.raises(UsageError, match=message):
        RecipeConfig(**changes)


def rates(total, **changes):
    from subgrid.training.schedules import rate_factor

    config = RecipeConfig(**{"warmup": 0.0, "learning_rate": 1e-3, **changes})
    return [config.learning_rate * factor for factor in map(rate_factor(config, total), range(total))]


def test_the_published_step_schedule_by_words():
    """StepLR with step 3 and gamma .05, twelve epochs: 1e-4, 5e-6, 2.5e-7, 1.25e-8."""
    found = rates(60, learning_rate=1e-4, epochs=12, schedule="multistep", milestones=[3, 6, 9], gamma=0.05)
    wanted = [rate for rate in (1e-4, 5e-6, 2.5e-7, 1.25e-8) for _ in range(15)]
    assert found == pytest.approx(wanted)


def test_a_constant_rate_after_its_rise():
    found = rates(100, schedule="constant", warmup=0.1)
    assert found[:10] == pytest.approx([1e-4 * k for k in range(1, 11)])
    assert found[10:] == pytest.approx([1e-3] * 90)


def test_the_rate_of_the_averaged_epochs():
    found = rates(30, epochs=3, schedule="constant", swa_from=2, swa_learning_rate=1e-4)
    assert found == pytest.approx([1e-3] * 10 + [1e-4] * 20)
