"""Checkpoints: atomic, checked when read, within epochs; and averaged weights, which are what is kept."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from subgrid.base.errors import SubgridError, UsageError
from subgrid.emulator import load_emulator
from subgrid.training import TrainConfig, fit
from subgrid.training import checkpoints as module
from subgrid.training.callbacks import Reporter
from subgrid.training.checkpoints import AtomicCheckpoints, read_checkpoint
from subgrid.training.recipes import recipe

DECAY = 0.9


class Killed(BaseException):
    """A kill, as near as one process can see it."""


@pytest.fixture
def averaged(train_config):
    """Two epochs of 11 steps with dropout and averaged weights, a checkpoint every 4 steps."""
    return train_config(
        network={"widths": [32, 32], "dropout": 0.1},
        recipe_settings={"epochs": 2, "batch_size": 256, "ema_decay": DECAY},
        checkpoint_every=4,
    )


def cut(monkeypatch, at_step):
    """Let the training die after its ``at_step``-th step."""
    real = Reporter.on_train_batch_end

    def dies(self, trainer, *args):
        real(self, trainer, *args)
        if trainer.global_step == at_step:
            raise Killed

    monkeypatch.setattr(Reporter, "on_train_batch_end", dies)


def cut_run(config, run, monkeypatch, at_step=18):
    """A run that was cut; the number of steps in its last checkpoint."""
    with monkeypatch.context() as patch:
        cut(patch, at_step)
        with pytest.raises(Killed):
            fit(config, run)
    return read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"]


def test_what_is_validated_and_kept_is_the_average_of_the_parameters(tmp_path, averaged, monkeypatch):
    followed = {}
    real = Reporter.on_train_batch_end

    def follow(self, trainer, task, *args):
        real(self, trainer, task, *args)
        for name, value in task.named_parameters():
            now = value.detach().clone()
            followed[name] = now if name not in followed else DECAY * followed[name] + (1 - DECAY) * now

    monkeypatch.setattr(Reporter, "on_train_batch_end", follow)
    emulator = fit(averaged, tmp_path / "run")
    last = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert all(name.startswith("emulator.network.") for name in followed)
    for name, wanted in followed.items():
        torch.testing.assert_close(last["state_dict"][name], wanted, rtol=1e-5, atol=1e-7)
        assert not torch.equal(last["current_model_state"][name], last["state_dict"][name])
    best = read_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")["state_dict"]
    for name, value in emulator.state_dict().items():
        assert torch.equal(value, best[f"emulator.{name}"]), name


def test_validation_sees_the_average(tmp_path, averaged, train_config, tiny_store):
    fit(averaged, tmp_path / "run")
    emulator = load_emulator(tmp_path / "run")
    split = tiny_store["validation"]
    rows = [split.read_variables(v, b) for v in (emulator.variables.inputs,) for b in range(split.blocks)]
    truth = [split.read_variables(emulator.variables.targets, b) for b in range(split.blocks)]
    weight = [split.read("weight", b) for b in range(split.blocks)]
    joined = [torch.cat([torch.from_numpy(part) for part in parts]) for parts in (rows, truth, weight)]
    with torch.inference_mode():
        loss = float(recipe("standard", ema_decay=DECAY).loss(emulator, *joined, training=False))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert loss == pytest.approx(metrics["best_val_loss"], rel=1e-4)


@pytest.mark.parametrize("at_step", [6, 18])
def test_a_run_cut_within_an_epoch_goes_on_from_there(tmp_path, averaged, monkeypatch, at_step):
    fit(averaged, tmp_path / "whole")
    assert cut_run(averaged, tmp_path / "cut", monkeypatch, at_step) == at_step - 2
    fit(averaged, tmp_path / "cut")
    whole, again = (read_checkpoint(tmp_path / run / "checkpoints" / "last.ckpt") for run in ("whole", "cut"))
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(again[part][name], value) for name, value in whole[part].items())
    ours, theirs = (json.loads((tmp_path / run / "metrics.json").read_text()) for run in ("cut", "whole"))
    assert ours["losses"] == theirs["losses"]  # the training loss is the mean over all steps, cut or not


def test_without_checkpoints_within_epochs_a_run_goes_on_from_the_last_epoch(tmp_path, train_config, monkeypatch):
    assert cut_run(train_config(checkpoint_every=0), tmp_path / "run", monkeypatch) == 11


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text", "other"])
def test_a_damaged_checkpoint_is_one_clear_line(tmp_path, averaged, monkeypatch, damage):
    run = tmp_path / "run"
    cut_run(averaged, run, monkeypatch)
    last = run / "checkpoints" / "last.ckpt"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 0xFF
    if damage == "other":
        torch.save({"state_dict": {}}, last)
    else:
        texts = {"truncated": data[: len(data) // 2], "flipped": data, "empty": b"", "text": b"weights"}
        last.write_bytes(texts[damage])
    with pytest.raises(SubgridError, match=r"last\.ckpt is damaged \(.+\): remove .*checkpoints and the same command"):
        fit(averaged, run)
    shutil.rmtree(run / "checkpoints")  # as it says
    fit(averaged, run)
    assert (run / "metrics.json").exists()


class _Evil:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_checkpoint_that_names_code_to_run_is_refused_and_nothing_runs(tmp_path, averaged, monkeypatch):
    run, trace = tmp_path / "run", tmp_path / "it ran"
    cut_run(averaged, run, monkeypatch)
    last = run / "checkpoints" / "last.ckpt"
    held = torch.load(last, weights_only=True)
    for part in ("state_dict", "callbacks"):
        torch.save({**held, part: {"x": _Evil(trace)}}, last)
        with pytest.raises(SubgridError, match=r"last\.ckpt is damaged"):
            fit(averaged, run)
        assert not trace.exists()
    torch.load(last, weights_only=False)  # which would have
    assert trace.exists()


def test_a_missing_best_checkpoint_is_named(tmp_path):
    with pytest.raises(SubgridError, match=r"best\.ckpt is missing: remove .*run and train again"):
        read_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")


def test_a_kill_while_a_checkpoint_is_written_keeps_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpoints().save_checkpoint({"step": torch.tensor(1)}, path)
    real = module.Path.write_bytes

    def half(self, data):
        real(self, bytes(data)[:20])
        raise Killed

    monkeypatch.setattr(module.Path, "write_bytes", half)
    with pytest.raises(Killed):
        AtomicCheckpoints().save_checkpoint({"step": torch.tensor(2)}, path)
    assert torch.load(path, weights_only=True)["step"] == 1


def test_a_run_folder_that_was_moved_keeps_its_best_epoch(tmp_path, train_config, monkeypatch):
    config = train_config(recipe_settings={"epochs": 3, "batch_size": 256})
    cut_run(config, tmp_path / "before", monkeypatch, at_step=30)
    kept = read_checkpoint(tmp_path / "before" / "checkpoints" / "best.ckpt")
    (tmp_path / "before").rename(tmp_path / "after")
    monkeypatch.setattr(Reporter, "on_validation_epoch_end", _no_better)
    fit(config, tmp_path / "after")
    metrics = json.loads((tmp_path / "after" / "metrics.json").read_text())
    assert metrics["best_val_loss"] == min(entry["val_loss"] for entry in metrics["losses"][:2])
    weights = load_emulator(tmp_path / "after").state_dict()
    assert all(torch.equal(value, kept["state_dict"][f"emulator.{name}"]) for name, value in weights.items())


def _no_better(self, trainer, task):
    trainer.callback_metrics["val_loss"].fill_(1e6)


def test_settings_that_change_no_result_may_change_between_parts(tmp_path, averaged, train_config, monkeypatch):
    cut_run(averaged, tmp_path / "run", monkeypatch)
    held = json.loads((tmp_path / "run" / "config.json").read_text())
    fit(TrainConfig(**{**vars(averaged), "checkpoint_every": 9, "log_every": 5}), tmp_path / "run")
    held["recipe_settings"]["loss"] = "mse"  # the default, spelt out
    held.pop("checkpoint_every")  # of a run begun before there was this setting
    (tmp_path / "run" / "config.json").write_text(json.dumps(held))
    fit(averaged, tmp_path / "run")
    with pytest.raises(SubgridError, match="begun with another recipe_settings"):
        fit(train_config(network=averaged.network), tmp_path / "run")


def test_wrong_settings_are_refused():
    with pytest.raises(UsageError, match=r"checkpoint_every=-1 must not be negative"):
        TrainConfig(data="x", checkpoint_every=-1)
    for decay in (-0.1, 1.0):
        with pytest.raises(UsageError, match=r"recipe.ema_decay=.* must lie in \[0, 1\)"):
            recipe("standard", ema_decay=decay)
