"""The exported model: equal to the emulator, checked by its shell, and loadable where subgrid is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.formats import BUNDLE, read_record
from subgrid.columns.variables import channel_labels
from subgrid.deployment import export, torchscript
from subgrid.deployment.torchscript import BATCHES, relative_difference, script
from subgrid.emulator import FlatEmulator, load_emulator, save_emulator
from subgrid.physics.vertical import VerticalGrid


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("export") / "model"


@pytest.fixture(scope="module")
def report(out, tiny_run, tiny_store):
    return export(tiny_run, tiny_store.path, out)


@pytest.fixture(scope="module")
def module(report, out):
    return torch.jit.load(str(out / "model.pt"))


@pytest.fixture(scope="module")
def columns(tiny_run, tiny_store):
    return torch.from_numpy(tiny_store["test"].read_variables(load_emulator(tiny_run).variables.inputs, 1).copy())


def test_the_folder_holds_model_contract_and_report(report, out):
    assert sorted(p.name for p in out.iterdir()) == ["contract.json", "log.txt", "model.pt", "report.json"]
    assert read_record(out / "report.json", BUNDLE) == report
    assert report["bytes"] == (out / "model.pt").stat().st_size


def test_the_report_tells_of_no_difference_at_the_same_batch_and_rounding_otherwise(report):
    assert report["same_batch"] == 0.0
    assert report["batches"].keys() == {str(b) for b in BATCHES}
    assert 0.0 <= max(report["batches"].values()) == report["max_relative_difference"] <= 1e-5


@pytest.mark.parametrize("batch", [1, 7, 100, 256])
def test_the_model_equals_the_emulator(module, columns, tiny_run, batch):
    with torch.inference_mode():
        wanted = FlatEmulator(load_emulator(tiny_run)).eval()(columns[:batch])[0]
        assert torch.equal(module(columns[:batch]), wanted)


def test_the_contract_says_what_goes_in_and_out(out, report, tiny_run):
    contract = json.loads((out / "contract.json").read_text())
    emulator = load_emulator(tiny_run)
    assert contract["inputs"] == channel_labels(emulator.variables.inputs, 8)
    assert contract["outputs"] == channel_labels(emulator.variables.targets, 8)
    assert (contract["n_in"], contract["n_out"]) == (45, 44) == (report["n_in"], report["n_out"])
    assert contract["time_step_s"] == 2400.0 and contract["levels"] == 8
    assert contract["units"]["temperature"] == "K" and contract["units"]["evaporation"] == "kg/m2/s"


def test_the_contract_travels_inside_the_model(out, report):
    extra = {"contract.json": ""}
    torch.jit.load(str(out / "model.pt"), _extra_files=extra)
    assert json.loads(extra["contract.json"]) == json.loads((out / "contract.json").read_text())


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


def test_no_device_is_written_down_in_the_model(module, report, out):
    """What tracing notes of the machine that exports would bind every caller to it."""
    with zipfile.ZipFile(out / "model.pt") as archive:
        code = [archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")]
    assert code and not any('torch.device("' in part for part in code)
    assert any("ops.prim.device(" in part for part in code)


def test_what_cannot_be_scripted_is_named(tiny_run, columns, monkeypatch):
    emulator = load_emulator(tiny_run)
    monkeypatch.setattr(emulator.network, "forward", lambda p, *_: p.to_sparse().to_mkldnn())
    with pytest.raises(SubgridError, match=r"cannot be written as TorchScript: .*mkldnn"):
        script(emulator, columns)


_FRESH = """
import sys, torch
model = torch.jit.load(sys.argv[1])
torch.save(model(torch.load(sys.argv[2])), sys.argv[3])
assert not any(name.split(".")[0] in ("subgrid", "lightning", "jax") for name in sys.modules)
"""


def test_it_loads_in_a_process_that_knows_torch_alone(out, report, module, columns, tmp_path):
    torch.save(columns[:50].clone(), tmp_path / "x.pt")
    command = [
        sys.executable,
        "-I",
        "-c",
        _FRESH,
        str(out / "model.pt"),
        str(tmp_path / "x.pt"),
        str(tmp_path / "y.pt"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with torch.inference_mode():
        assert torch.equal(torch.load(tmp_path / "y.pt"), module(columns[:50]))


@pytest.mark.parametrize(
    "settings", [{"architecture": "unet"}, {"variables": "speedy_expanded", "water": "projection"}]
)
def test_other_emulators_export_too(tmp_path, make_emulator, tiny_store, settings):
    save_emulator(make_emulator(**settings), tmp_path / "emulator")
    found = export(tmp_path / "emulator", tiny_store.path, tmp_path / "out")
    assert found["same_batch"] == 0.0


def test_a_small_test_split_is_enough(tmp_path, tiny_run, make_rows, write_store):
    store = write_store(tmp_path / "s.zarr", {"test": make_rows(10)})
    assert export(tiny_run, store.path, tmp_path / "out")["same_batch"] == 0.0


def test_a_model_that_differs_is_refused_and_not_left_behind(tmp_path, tiny_run, tiny_store, monkeypatch):
    def other(emulator, sample):
        emulator = load_emulator(tiny_run)
        with torch.no_grad():
            emulator.network.output.bias += 1e-3
        return script(emulator, sample)

    monkeypatch.setattr(torchscript, "script", other)
    with pytest.raises(SubgridError, match=r"the scripted model differs from the emulator.*1e-05 otherwise"):
        export(tiny_run, tiny_store.path, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["log.txt"]


def test_the_shell_is_the_same_before_it_is_scripted(module, report, columns, tiny_run):
    core = torchscript._Core(FlatEmulator(load_emulator(tiny_run)).eval())
    eager = torchscript.Shell(core, report["n_in"], report["n_out"], columns[:1])
    with torch.inference_mode():
        assert torch.equal(eager(columns[:7]), module(columns[:7]))
    for wrong in (columns[0], columns[:7, 1:], columns[:7].double()):
        with pytest.raises(AssertionError, match="subgrid: "):
            eager(wrong)


def test_nan_counts_as_a_difference():
    good, spread = np.ones((3, 2), np.float32), np.ones(2)
    bad = good.copy()
    bad[1, 0] = np.nan
    assert relative_difference(good, good, spread) == 0.0
    assert relative_difference(bad, good, spread) == np.inf
    assert relative_difference(good, bad, spread) == np.inf
    assert relative_difference(good + 0.5, good, np.array([2.0, 0.0])) == 0.25  # constant channels do not count


def test_a_store_of_other_variables_or_levels_is_refused(
    tmp_path, tiny_run, column_grid, make_spec, make_rows, write_store
):
    few = {k: v for k, v in make_rows(10).items() if k != "history"}
    arrays = {k: v for k, v in make_spec().arrays.items() if k != "history"}
    without = write_store(
        tmp_path / "a.zarr",
        {"test": {**few, "inputs": few["inputs"][:, 8:]}},
        arrays={**arrays, "inputs": arrays["inputs"][1:]},
    )
    with pytest.raises(UsageError, match="lacks the variable 'temperature'"):
        export(tiny_run, without.path, tmp_path / "out")
    grid = replace(column_grid, vertical=VerticalGrid.sigma((0.0, 0.2, 0.5, 0.8, 1.0)))
    for name, variables in arrays.items():
        few[name] = np.ones((10, sum(v.width(4) for v in variables)), np.float32)
    other = write_store(tmp_path / "b.zarr", {"test": few}, grid=grid, arrays=arrays)
    with pytest.raises(SubgridError, match="has 4 levels, the emulator 8"):
        export(tiny_run, other.path, tmp_path / "out")
