"""The exported model: equal to the emulator, checked by its shell, and loadable where subgrid is not installed."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest
import torch

from subgrid.base.errors import SubgridError
from subgrid.deployment import torchscript
from subgrid.deployment.torchscript import script
from subgrid.emulator import FlatEmulator, load_emulator


@pytest.fixture(scope="module")
def module(bundle):
    return torch.jit.load(str(bundle / "model.pt"))


@pytest.fixture(scope="module")
def columns(tiny_run, tiny_store):
    return torch.from_numpy(tiny_store["test"].read_variables(load_emulator(tiny_run).variables.inputs, 1).copy())


@pytest.mark.parametrize("batch", [1, 7, 100, 256])
def test_the_model_equals_the_emulator(module, columns, tiny_run, batch):
    with torch.inference_mode():
        wanted = FlatEmulator(load_emulator(tiny_run)).eval()(columns[:batch])[0]
        assert torch.equal(module(columns[:batch]), wanted)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(3, 44), "wrong number of inputs per column"),
        (torch.zeros(45), "must have two dimensions"),
        (torch.zeros(1, 3, 45), "must have two dimensions"),
        (torch.zeros(3, 45, dtype=torch.float64), "must be float32"),
        (torch.zeros(3, 45, dtype=torch.int32), "must be float32"),
    ],
)
def test_the_shell_refuses_what_a_foreign_caller_gets_wrong(module, wrong, message):
    with pytest.raises(torch.jit.Error, match=message):
        module(wrong)


def test_the_model_keeps_its_weights_and_wants_no_gradients(module, columns):
    assert list(module.parameters()) and not any(weights.requires_grad for weights in module.parameters())
    assert not module(columns[:2]).requires_grad and not module.training


def test_rows_of_zeros_with_which_hosts_fill_a_chunk_are_answered_with_zeros(module, columns):
    """And change nothing of the other columns."""
    chunk = torch.zeros(16, 45)
    chunk[2:9] = columns[:7]
    before = chunk.clone()
    with torch.inference_mode():
        found = module(chunk)
        assert torch.equal(found[2:9], module(columns[:7]))
        assert not found[:2].any() and not found[9:].any()
        assert not module(torch.zeros(1, 45)).any()
    assert torch.equal(chunk, before)  # nothing is written into the caller's columns


def test_no_device_is_written_down_in_the_model(bundle):
    """What tracing notes of the machine that exports would bind every caller to it."""
    with zipfile.ZipFile(bundle / "model.pt") as archive:
        code = [archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")]
    assert code and not any('torch.device("' in part for part in code)
    assert any("ops.prim.device(" in part for part in code)


def test_what_cannot_be_scripted_is_named(tiny_run, columns, monkeypatch):
    emulator = load_emulator(tiny_run)
    monkeypatch.setattr(emulator.network, "forward", lambda p, *_: p.to_sparse().to_mkldnn())
    with pytest.raises(SubgridError, match=r"cannot be written as TorchScript: .*mkldnn"):
        script(FlatEmulator(emulator), columns)


_FRESH = """
import sys, torch
model = torch.jit.load(sys.argv[1])
torch.save(model(torch.load(sys.argv[2])), sys.argv[3])
assert not any(name.split(".")[0] in ("subgrid", "lightning", "jax") for name in sys.modules)
"""


def test_it_loads_in_a_process_that_knows_torch_alone(bundle, module, columns, tmp_path):
    torch.save(columns[:50].clone(), tmp_path / "x.pt")
    command = [
        sys.executable,
        "-I",
        "-c",
        _FRESH,
        str(bundle / "model.pt"),
        str(tmp_path / "x.pt"),
        str(tmp_path / "y.pt"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with torch.inference_mode():
        assert torch.equal(torch.load(tmp_path / "y.pt"), module(columns[:50]))


def test_the_shell_is_the_same_before_it_is_scripted(module, columns, tiny_run):
    core = torchscript._Core(FlatEmulator(load_emulator(tiny_run)).eval())
    eager = torchscript.Shell(core, 45, 44, columns[:1])
    with torch.inference_mode():
        assert torch.equal(eager(columns[:7]), module(columns[:7]))
    for wrong in (columns[0], columns[:7, 1:], columns[:7].double()):
        with pytest.raises(AssertionError, match="subgrid: "):
            eager(wrong)
