"""From ClimSim's files to TorchScript with the published normalisation, through every room, on a synthetic sample."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from subgrid.columns.climsim.convert import ConvertConfig, convert
from subgrid.columns.climsim.sample import SampleConfig, write_sample
from subgrid.columns.variables import offsets, variable_set
from subgrid.deployment import ExportConfig, export
from subgrid.emulator import EmulatorConfig, FlatEmulator, load_emulator
from subgrid.evaluation import EvaluateConfig, evaluate
from subgrid.training import TrainConfig, fit

REFERENCE = Path(os.environ.get("SUBGRID_REFERENCE", Path(__file__).parents[3] / "shared" / "reference"))
FILES = REFERENCE / "climsim" / "preprocessing" / "normalizations"
pytestmark = pytest.mark.skipif(not FILES.is_dir(), reason=f"needs the reference data in {FILES}")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("climsim") / "files"
    write_sample(folder, SampleConfig(columns=24))
    return folder


@pytest.fixture(scope="module", params=["v2_rh", "v2_rh_mc"])
def store(request, files):
    config = ConvertConfig(str(files), request.param, "train,val,test")
    return convert(config, files.with_name(f"{request.param}.zarr"))


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "run"
    emulator = EmulatorConfig.from_dict(variable_set(store.own_set()).emulator)
    config = TrainConfig(
        data=str(store.path),
        variables=store.own_set(),
        network={"widths": [64, 64]},
        recipe_settings={"epochs": 15, "batch_size": 64, "learning_rate": 3e-3},
        emulator=replace(emulator, normalization="official", normalization_folder=str(FILES)),
        precision="32-true",
    )
    fit(config, run)
    return run


def test_it_learns_with_the_published_units(run, store, tmp_path):
    scores = evaluate(EvaluateConfig(str(run), str(store.path), metrics="climsim,kaggle"), tmp_path / "e")
    ours = scores["models"]["emulator"]
    for name in ("ptend_t", "cam_out_FLWDS"):
        assert ours[name]["r2"] > 0.2, (name, ours[name]["r2"])
    assert np.isfinite(scores["metrics"]["kaggle"]["r2_368"])


def test_what_is_pruned_stays_zero_and_nothing_is_nan(run, store):
    emulator = load_emulator(run)
    x = torch.from_numpy(store["test"].read_variables(emulator.variables.inputs, 0).copy())
    with torch.inference_mode():
        y = FlatEmulator(emulator)(x)[0].numpy()
    assert np.isfinite(y).all()
    for variable in emulator.variables.targets:
        part = y[:, offsets(emulator.variables.targets, 60)[variable.name]]
        if variable.name.startswith("ptend_") and variable.name != "ptend_t":
            assert (part[:, :12] == 0).all() and (part[:, 12:] != 0).any(), variable.name


def test_its_torchscript_gives_the_same_numbers_without_the_files(run, store, tmp_path):
    report = export(run, tmp_path / "export", ExportConfig(str(store.path)))
    assert report["max_relative_difference"] <= 1e-5 and report["same_batch"] == 0.0
    emulator = load_emulator(run)
    x = torch.from_numpy(store["test"].read_variables(emulator.variables.inputs, 0)[:96].copy())
    module = torch.jit.load(str(tmp_path / "export" / "model.pt"))
    with torch.inference_mode():
        assert torch.equal(module(x), FlatEmulator(emulator)(x)[0])
    assert emulator.metadata["normalization"][0].startswith("input_mean")
