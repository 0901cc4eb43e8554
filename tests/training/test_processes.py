"""Two processes that train one emulator: the same as one alone to rounding, a cut run, and refusals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from subgrid.base.errors import SubgridError, UsageError
from subgrid.emulator import load_emulator
from subgrid.training import TrainConfig, fit
from subgrid.training import processes as module
from subgrid.training.batches import TorchBatches
from subgrid.training.callbacks import RandomState
from subgrid.training.processes import Processes, tell_of_batch_norms, this_process

#: Noise-free, of two epochs, with an average, clipping, two batches a step and columns of all weights.
WORDS = [
    "architecture.widths=[32,32]",
    "recipe.epochs=2",
    "recipe.batch_size=250",
    "recipe.accumulate=2",
    "recipe.ema_decay=0.9",
    "recipe.gradient_clip=0.1",
    "precision=32-true",
    "buffer_blocks=4",
    "log_every=1",
    "accelerator=cpu",
    "seed=3",
]
_KILLED = """
import os, signal, sys
from subgrid.training.callbacks import Reporter
real = Reporter.on_train_batch_end
def dies(self, trainer, *args):
    real(self, trainer, *args)
    if trainer.global_step == 9 and trainer.is_global_zero:
        os.kill(os.getpid(), signal.SIGKILL)
Reporter.on_train_batch_end = dies
from subgrid.cli.app import main
sys.argv[0] = "subgrid"
main()
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory, write_store, split_rows):
    """Validation rows that two processes share unequally, and perturbed columns."""
    perturbed = {**split_rows["test"], "weight": np.zeros(520, np.float32)}
    splits = {"train": split_rows["train"], "validation": split_rows["validation"], "perturbed": perturbed}
    splits["validation"] = {name: values[:377] for name, values in splits["validation"].items()}
    return write_store(tmp_path_factory.mktemp("shared") / "s.zarr", splits)


def train(store, out, *words, program=("-m", "subgrid.cli.app")):
    """``subgrid train`` in a process of its own."""
    command = [sys.executable, *program, "train", f"data={store.path}", f"out={out}", *WORDS, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def together(store, tmp_path_factory):
    """A run of two processes."""
    run = tmp_path_factory.mktemp("together") / "run"
    done = train(store, run, "devices=2", "--json")
    assert done.returncode == 0, done.stderr
    return run, done


@pytest.fixture(scope="module")
def alone(store, tmp_path_factory):
    """The same run of one process."""
    run = tmp_path_factory.mktemp("alone") / "run"
    done = train(store, run)
    assert done.returncode == 0, done.stderr
    return run


def weights(run):
    return load_emulator(run).state_dict()


def metrics(run):
    return json.loads((run / "metrics.json").read_text())


def test_two_processes_are_one_to_rounding(together, alone):
    ours, theirs = weights(together[0]), weights(alone)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=2e-5, atol=1e-6 * float(value.abs().max()), msg=name)
    changed = torch.load(alone / "checkpoints/last.ckpt", weights_only=True)["optimizer_states"][0]["state"]
    assert all(float(part["exp_avg"].abs().max()) > 0 for part in changed.values())  # there was something to compare
    for a, b in zip(metrics(together[0])["losses"], metrics(alone)["losses"], strict=True):
        assert a == pytest.approx(b, rel=1e-6)
    for name in ("steps", "columns_per_epoch", "parameters", "weights", "epochs"):
        assert metrics(together[0])[name] == metrics(alone)[name], name


def test_one_process_writes_and_tells(together):
    run, done = together
    assert json.loads(done.stdout) == metrics(run)  # once
    assert "Initializing" not in done.stderr and done.stderr.count("28 of 28 batches") == 1
    assert len(list((run / "logs/tensorboard").glob("events.*"))) == 1
    assert (run / "log.txt").read_text().count("train: begins") == 1
    assert sorted(p.name for p in run.iterdir()) == [
        "checkpoints",
        "config.json",
        "emulator",
        "log.txt",
        "logs",
        "metrics.json",
        "provenance.json",
    ]


@pytest.mark.kill
def test_a_killed_run_of_two_processes_goes_on_to_the_same_bits(store, together, tmp_path):
    script = tmp_path / "dies.py"
    script.write_text(_KILLED.replace('sys.argv[0] = "subgrid"\n', ""))
    run = tmp_path / "run"
    assert train(store, run, "devices=2", program=(str(script),)).returncode == -9
    assert (run / "checkpoints/last.ckpt").exists() and not (run / "metrics.json").exists()
    done = train(store, run, "devices=2")
    assert done.returncode == 0, done.stderr
    found, wanted = weights(run), weights(together[0])
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert metrics(run)["losses"] == metrics(together[0])["losses"]


def test_ctrl_c_ends_all_processes_and_is_told_once(store, tmp_path):
    """A terminal sends it to all of them."""
    words = [f"data={store.path}", f"out={tmp_path / 'run'}", *WORDS, "devices=2", "recipe.epochs=500"]
    begun = subprocess.Popen(
        [sys.executable, "-m", "subgrid.cli.app", "train", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell that runs the tests in the background makes them, and what they begin, deaf to it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        end = time.monotonic() + 240
        while not (tmp_path / "run/checkpoints/last.ckpt").exists():
            assert time.monotonic() < end and begun.poll() is None
            time.sleep(0.1)
        os.killpg(begun.pid, signal.SIGINT)
        _, said = begun.communicate(timeout=180)  # until the last of them has closed it
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(begun.pid, signal.SIGKILL)
    assert begun.returncode == 130
    assert said.count("subgrid: interrupted; the same command goes on from here") == 1 and "Traceback" not in said


def test_a_finished_run_is_one_of_any_number_of_processes(store, together):
    assert "is finished already" in train(store, together[0]).stderr


class _Batches(TorchBatches):
    def __init__(self):
        pass

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_each_process_gets_its_own_random_state_back(monkeypatch):
    monkeypatch.setattr(sys.modules[RandomState.__module__], "gathered", lambda own: [own, {**own, "torch": other}])
    torch.manual_seed(8)
    other = torch.get_rng_state()
    torch.manual_seed(7)
    state = RandomState(_Batches(), Processes(0, 2)).state_dict()
    for rank, seed in ((0, 7), (1, 8)):
        torch.manual_seed(0)
        RandomState(_Batches(), Processes(rank, 2)).load_state_dict(state)
        assert torch.initial_seed() == seed
    torch.manual_seed(5)
    RandomState(_Batches(), Processes(2, 3)).load_state_dict(state)  # a third has none
    assert torch.initial_seed() == 5


def test_processes_draw_different_numbers_and_the_first_those_of_one_alone():
    assert Processes().seed(3) == Processes(0, 2).seed(3) == 3
    assert len({Processes(rank, 4).seed(3) for rank in range(4)}) == 4


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"devices": 0}, "devices=0 must be at least 1"),
        ({"num_nodes": 0}, "num_nodes=0 must be at least 1"),
        ({"accelerator": "gpus"}, "unknown accelerator 'gpus'; did you mean gpu"),
        ({"devices": 3, "recipe_settings": {"batch_size": 256}}, "recipe.batch_size=256 must be a multiple of the 3"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, says):
    with pytest.raises(UsageError, match=says):
        TrainConfig(data="x", **settings)


@pytest.mark.parametrize(
    ("count", "on_gpu", "says"),
    [(1, False, None), (2, False, "each process's part of a batch"), (2, True, "SyncBatchNorm")],
)
def test_batch_norms_are_spoken_of_once(caplog, count, on_gpu, says):
    caplog.set_level("INFO", logger="subgrid")
    tell_of_batch_norms(torch.nn.Linear(2, 2), Processes(0, count), on_gpu)
    assert not caplog.messages
    tell_of_batch_norms(
        torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)), Processes(0, count), on_gpu
    )
    assert len(caplog.messages) == (says is not None) and all(says in line for line in caplog.messages)


def test_more_processes_than_there_are_cores_are_refused(train_config, tmp_path):
    many = 2 * (os.cpu_count() or 1)
    config = train_config(devices=many, accelerator="cpu", recipe_settings={"batch_size": many})
    with pytest.raises(UsageError, match=f"devices={many}: this machine has .* cores; choose at most"):
        fit(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_gpus_that_are_not_there_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="torch finds no GPU"):
        this_process("gpu", 1, 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="this machine has 2 GPUs; choose at most 2"):
        this_process("auto", 4, 1)
    assert this_process("gpu", 2, 1) == Processes(0, 2)


def test_several_nodes_need_a_launcher(train_config, tmp_path):
    config = train_config(num_nodes=2, accelerator="cpu")
    with pytest.raises(UsageError, match="start the same command on every node with torchrun or srun"):
        fit(config, tmp_path / "run")


TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "GROUP_RANK": "1"}
SLURM = {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "2", "SLURM_PROCID": "3"}


@pytest.mark.parametrize("launcher", [TORCHRUN, SLURM], ids=["torchrun", "slurm"])
def test_a_launcher_says_which_process_this_is(monkeypatch, launcher):
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    assert this_process("cpu", 2, 2) == Processes(3, 4)
    with pytest.raises(UsageError, match="devices=2 num_nodes=1 do not fit the launcher"):
        this_process("cpu", 2, 1)


def test_torchrun_with_one_device_is_refused(monkeypatch):
    """Each process would train the whole run, and all but one would meet its lock."""
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="devices=1 num_nodes=1 do not fit the launcher"):
        this_process("cpu", 1, 1)


def test_too_few_validation_columns_are_refused(tmp_path, write_store, split_rows, monkeypatch):
    monkeypatch.setattr(module.os, "cpu_count", lambda: 8)
    one = {name: values[:1] for name, values in split_rows["validation"].items()}
    store = write_store(tmp_path / "s.zarr", {"train": split_rows["train"], "validation": one})
    config = TrainConfig(data=store.path, devices=2, accelerator="cpu", recipe_settings={"batch_size": 256})
    with pytest.raises(SubgridError, match="fewer validation samples than 2 processes"):
        fit(config, tmp_path / "run")
