"""Training runs: what a run folder holds, resume after a kill bit for bit, and refusals."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from subgrid.base.errors import SubgridError, UsageError
from subgrid.emulator import FlatEmulator, load_emulator
from subgrid.training import TrainConfig, fit
from subgrid.training.callbacks import Reporter

EPOCHS = 3
#: Everything that draws random numbers: shuffle, input noise, dropout.
RANDOM = {
    "network": {"widths": [32, 32], "dropout": 0.1},
    "recipe_settings": {"epochs": EPOCHS, "batch_size": 256, "input_noise": 0.1},
}


def results(run):
    """What must be equal after a kill: metrics without the clock, weights, and the last optimiser state."""
    metrics = json.loads((run / "metrics.json").read_text())
    metrics.pop("seconds")
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return metrics, load_emulator(run).state_dict(), last


def assert_same(a, b, path=""):
    """Equal to the last bit, through dicts, lists and tensors."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}/{i}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, train_config):
    run = tmp_path_factory.mktemp("whole") / "run"
    fit(train_config(**RANDOM), run)
    return run


def cut(monkeypatch, at_step, error):
    """Let the training die after its ``at_step``-th optimiser step."""

    real = Reporter.on_train_batch_end

    def dies(self, trainer, *args):
        real(self, trainer, *args)
        if trainer.global_step == at_step:
            raise error

    monkeypatch.setattr(Reporter, "on_train_batch_end", dies)


class Killed(BaseException):
    """A kill, as near as one process can see it."""


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), Killed()], ids=["ctrl-c", "exit", "kill"])
@pytest.mark.parametrize("at_step", [15, 22])  # in the second epoch, at the end of the second
def test_a_cut_run_goes_on_to_the_same_bits(tmp_path, train_config, uninterrupted, monkeypatch, at_step, error):
    import signal

    before = signal.getsignal(signal.SIGINT)
    run, config = tmp_path / "run", train_config(**RANDOM)
    cut(monkeypatch, at_step, error)
    with pytest.raises(type(error)):  # Ctrl-C stays Ctrl-C, of which the command line tells
        fit(config, run)
    monkeypatch.undo()
    signal.signal(signal.SIGINT, before)
    assert not (run / "metrics.json").exists()
    assert (run / "checkpoints" / "last.ckpt").exists()
    resumed_from = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert resumed_from == 11 * (at_step // 11 if at_step % 11 else at_step // 11 - 1)
    fit(config, run)
    for found, wanted in zip(results(run)[:2], results(uninterrupted)[:2], strict=True):
        assert_same(found, wanted)
    ours, theirs = results(run)[2], results(uninterrupted)[2]
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch"):
        assert_same(ours[part], theirs[part], part)
    noise = next(v for k, v in ours["callbacks"].items() if "RandomState" in k)
    assert_same(noise, next(v for k, v in theirs["callbacks"].items() if "RandomState" in k))
    assert sorted(p.name for p in (run / "logs").glob("csv*")) == ["csv", "csv-2"]  # the first part's log is kept


def test_a_run_cut_before_its_first_checkpoint_begins_anew(tmp_path, train_config, uninterrupted, monkeypatch):
    run, config = tmp_path / "run", train_config(**RANDOM)
    cut(monkeypatch, 3, Killed())
    with pytest.raises(Killed):
        fit(config, run)
    monkeypatch.undo()
    fit(config, run)
    for found, wanted in zip(results(run)[:2], results(uninterrupted)[:2], strict=True):
        assert_same(found, wanted)


_KILLED = """
import json, os, signal, sys
from subgrid.training import TrainConfig, fit
from subgrid.training.callbacks import Reporter
real = Reporter.on_train_batch_end
def dies(self, trainer, *args):
    real(self, trainer, *args)
    if trainer.global_step == 25:
        os.kill(os.getpid(), signal.SIGKILL)
Reporter.on_train_batch_end = dies
fit(TrainConfig(**json.loads(sys.argv[1])), sys.argv[2])
"""


def test_a_run_killed_for_good_goes_on_to_the_same_bits(tmp_path, train_config, uninterrupted, tiny_store):
    config = train_config(**RANDOM)
    plain = {
        k: getattr(config, k) for k in ("data", "network", "recipe_settings", "precision", "buffer_blocks", "log_every")
    }
    command = [sys.executable, "-c", _KILLED, json.dumps(plain), str(tmp_path / "run")]
    assert subprocess.run(command, capture_output=True, timeout=120).returncode == -9
    fit(config, tmp_path / "run")
    for found, wanted in zip(results(tmp_path / "run")[:2], results(uninterrupted)[:2], strict=True):
        assert_same(found, wanted)


def test_the_run_folder_holds_what_it_promises(tiny_run, train_config):
    for name in (
        "config.json",
        "provenance.json",
        "metrics.json",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "logs/csv/metrics.csv",
        "emulator/emulator.json",
        "emulator/weights.safetensors",
    ):
        assert (tiny_run / name).stat().st_size > 0, name
    assert list((tiny_run / "logs" / "tensorboard").glob("events.*"))
    config = json.loads((tiny_run / "config.json").read_text())
    assert config["recipe_settings"] == {"epochs": 2, "batch_size": 256}
    assert config["emulator"]["inputs"] == "relative_humidity_buoyancy"
    provenance = json.loads((tiny_run / "provenance.json").read_text())
    assert provenance["store"] == {"made": "by the tests"}
    assert {"torch", "lightning", "python"} <= provenance["versions"].keys()


def test_metrics_tell_of_every_epoch(tiny_run):
    metrics = json.loads((tiny_run / "metrics.json").read_text())
    assert (metrics["epochs"], metrics["steps"], metrics["columns_per_epoch"]) == (2, 22, 11 * 256)
    assert [entry["epoch"] for entry in metrics["losses"]] == [1, 2]
    losses = [entry["val_loss"] for entry in metrics["losses"]]
    assert metrics["best_val_loss"] == pytest.approx(min(losses))
    emulator = load_emulator(tiny_run)
    assert metrics["parameters"] == sum(p.numel() for p in emulator.network.parameters())
    assert emulator.metadata["parameters"] == metrics["parameters"]


def test_the_log_keeps_every_step(uninterrupted):
    with (uninterrupted / "logs" / "csv" / "metrics.csv").open() as handle:
        steps = [int(row["step"]) for row in csv.DictReader(handle) if row.get("train_loss_step")]
    assert steps == list(range(11 * EPOCHS))


def test_the_loss_decreases(tmp_path, train_config):
    fit(train_config(recipe_settings={"epochs": 4, "batch_size": 128, "learning_rate": 5e-3}), tmp_path / "run")
    losses = json.loads((tmp_path / "run" / "metrics.json").read_text())["losses"]
    assert losses[-1]["val_loss"] < 0.6 * losses[0]["val_loss"]
    assert losses[-1]["train_loss_epoch"] < 0.6 * losses[0]["train_loss_epoch"]


def test_the_emulator_has_the_weights_of_the_best_epoch(tiny_run):
    best = torch.load(tiny_run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    for name, value in load_emulator(tiny_run).state_dict().items():
        assert torch.equal(value, best[f"emulator.{name}"]), name


def test_a_finished_run_is_reused(tiny_run, train_config):
    before = {p: p.stat().st_mtime_ns for p in Path(tiny_run).rglob("*") if p.is_file()}
    emulator = fit(train_config(), tiny_run)
    assert {p: p.stat().st_mtime_ns for p in Path(tiny_run).rglob("*") if p.is_file()} == before
    assert_same(dict(emulator.state_dict()), dict(load_emulator(tiny_run).state_dict()))


@pytest.mark.parametrize("changes", [{"seed": 1}, {"architecture": "unet", "network": {}}])
def test_a_finished_run_of_another_config_is_refused(tiny_run, train_config, changes):
    with pytest.raises(
        SubgridError, match=f"was begun with another .*{next(iter(changes))}.*choose another run folder"
    ):
        fit(train_config(**changes), tiny_run)


def test_a_begun_run_of_another_config_is_refused(tmp_path, train_config, monkeypatch):
    cut(monkeypatch, 12, Killed())
    with pytest.raises(Killed):
        fit(train_config(), tmp_path / "run")
    monkeypatch.undo()
    with pytest.raises(SubgridError, match="was begun with another seed"):
        fit(train_config(seed=4), tmp_path / "run")


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path, train_config, tiny_run):
    short = {"recipe_settings": {"epochs": 1, "batch_size": 256}}
    made = [
        fit(train_config(seed=seed, **short), tmp_path / f"run{i}").state_dict() for i, seed in enumerate((3, 3, 4))
    ]
    assert_same(dict(made[0]), dict(made[1]))
    assert not torch.equal(made[0]["network.output.weight"], made[2]["network.output.weight"])


@pytest.mark.parametrize(
    ("architecture", "network"),
    [("mlp", {"widths": [16]}), ("unet", {"channels": 16, "multipliers": [1], "blocks": 1})],
)
@pytest.mark.parametrize("variables", ["speedy", "speedy_expanded"])
def test_both_architectures_train_on_both_variable_sets(
    tmp_path, train_config, tiny_store, architecture, network, variables
):
    config = train_config(
        architecture=architecture,
        network=network,
        variables=variables,
        max_train_samples=512,
        recipe_settings={"epochs": 1, "batch_size": 128},
    )
    emulator = fit(config, tmp_path / "run")
    assert emulator.network.architecture == architecture
    assert not emulator.training
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["columns_per_epoch"] == 512
    x = torch.from_numpy(tiny_store["test"].read_variables(emulator.variables.inputs, 0))
    with torch.inference_mode():
        assert torch.equal(FlatEmulator(emulator)(x)[0], FlatEmulator(load_emulator(tmp_path / "run"))(x)[0])


def test_mixed_precision_trains(tmp_path, train_config):
    config = train_config(
        precision="bf16-mixed", max_train_samples=512, recipe_settings={"epochs": 1, "batch_size": 256}
    )
    emulator = fit(config, tmp_path / "run")
    assert {p.dtype for p in emulator.state_dict().values()} == {torch.float32}
    loss = json.loads((tmp_path / "run" / "metrics.json").read_text())["best_val_loss"]
    assert np.isfinite(loss)


def test_a_path_object_is_as_good_as_its_text(tmp_path, train_config, tiny_store):
    config = train_config(data=tiny_store.path, max_train_samples=256, recipe_settings={"epochs": 1, "batch_size": 256})
    fit(config, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"] == str(tiny_store.path)


def test_bf16_true_is_refused_with_the_reason():
    with pytest.raises(UsageError, match=r"'bf16-true'.*bf16-mixed.*would round the tendencies"):
        TrainConfig(data="x", precision="bf16-true")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": "standrad"}, "unknown recipe 'standrad'; did you mean standard"),
        (
            {"recipe_settings": {"learnin_rate": 1}},
            "unknown setting of recipe 'standard' 'learnin_rate'; did you mean learning_rate",
        ),
        ({"recipe_settings": {"loss": "mes"}}, "unknown recipe.loss 'mes'; did you mean mse"),
        ({"architecture": "unte"}, "unknown architecture 'unte'; did you mean unet"),
        ({"network": {"width": [3]}}, "unknown setting of architecture 'mlp' 'width'; did you mean widths"),
        ({"size": "smal"}, "unknown size of architecture 'mlp' 'smal'; did you mean small"),
        ({"variables": "spedy"}, "unknown variable set 'spedy'; did you mean speedy"),
        ({"recipe_settings": {"batch_size": 5000}}, "has 3000 samples, fewer than one batch of 5000"),
    ],
)
def test_unknown_names_give_the_nearest(tmp_path, train_config, changes, message):
    with pytest.raises(UsageError, match=message):
        fit(train_config(**changes), tmp_path / "run")


def test_an_unknown_precision_gives_the_nearest():
    with pytest.raises(UsageError, match="unknown precision '32-ture'; did you mean 32-true"):
        TrainConfig(data="x", precision="32-ture")


def test_missing_data_is_refused_before_anything_is_made(tmp_path, train_config):
    with pytest.raises(SubgridError, match="does not exist"):
        fit(train_config(data=str(tmp_path / "absent")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_diverging_run_says_what_to_do(tmp_path, train_config):
    settings = {"epochs": 1, "batch_size": 256, "learning_rate": 1e30, "gradient_clip": 0.0, "warmup": 0.0}
    with pytest.raises(SubgridError, match=r"not finite: lower recipe.learning_rate"):
        fit(train_config(recipe_settings=settings), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize("step", ["save_emulator", "write_json"])
def test_a_run_killed_between_its_last_epoch_and_its_end_is_finished(
    tmp_path, train_config, uninterrupted, monkeypatch, step
):
    module = sys.modules[fit.__module__]
    real = getattr(module, step)

    def dies(*args, **kwargs):
        if step == "write_json" and args[0].name != "metrics.json":
            return real(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(module, step, dies)
    with pytest.raises(Killed):
        fit(train_config(**RANDOM), tmp_path / "run")
    monkeypatch.undo()
    fit(train_config(**RANDOM), tmp_path / "run")
    for found, wanted in zip(results(tmp_path / "run")[:2], results(uninterrupted)[:2], strict=True):
        assert_same(found, wanted)


@pytest.mark.slow
def test_a_compiled_network_learns_the_same_and_is_saved_as_any_other(tmp_path, train_config):
    settings = {"max_train_samples": 512, "recipe_settings": {"epochs": 1, "batch_size": 256, "ema_decay": 0.9}}
    plain = fit(train_config(**settings), tmp_path / "plain")
    compiled = fit(train_config(**settings, compile=True), tmp_path / "compiled")
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, rtol=1e-3, atol=1e-5, msg=name)
    torch.jit.script(FlatEmulator(compiled))
    assert_same(dict(load_emulator(tmp_path / "compiled").state_dict()), dict(compiled.state_dict()))
