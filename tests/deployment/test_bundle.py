"""A bundle: whole or not there, equal to the emulator, with everything a Fortran model needs to know."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch

from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.formats import BUNDLE, read_record
from subgrid.columns.variables import channel_labels, offsets
from subgrid.deployment import ExportConfig, export
from subgrid.deployment import bundle as bundles
from subgrid.deployment.fortran import as_name
from subgrid.deployment.torchscript import BATCHES, script
from subgrid.emulator import FlatEmulator, load_emulator, save_emulator
from subgrid.emulator.published import load_published
from subgrid.physics.vertical import VerticalGrid


@pytest.fixture(scope="module")
def contract(bundle):
    return json.loads((bundle / "contract.json").read_text())


@pytest.fixture(scope="module")
def report(bundle):
    return read_record(bundle / "report.json", BUNDLE)


@pytest.fixture
def config(tiny_store):
    return ExportConfig(str(tiny_store.path))


def test_everything_is_there_and_as_its_checksum_says(bundle):
    found = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    assert found >= {
        "model.pt",
        "contract.json",
        "report.json",
        "README.md",
        "MODEL_CARD.md",
        "CMakeLists.txt",
        "tiny.mk",
        "tiny_ftorch.F90",
        "test/driver.F90",
        "test/vectors.txt",
        "emulator/emulator.json",
        "emulator/weights.safetensors",
    }
    listed = {line.split("  ")[1] for line in (bundle / "SHA256SUMS").read_text().splitlines()}
    assert listed == found - {"SHA256SUMS"}
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=bundle, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_report_tells_of_no_difference_at_the_same_batch_and_rounding_otherwise(report, bundle):
    assert report["same_batch"] == 0.0
    assert report["batches"].keys() == {str(b) for b in BATCHES}
    assert 0.0 <= max(report["batches"].values()) == report["max_relative_difference"] <= 1e-5
    assert report["bytes"] == (bundle / "model.pt").stat().st_size
    assert set(report["milliseconds"]) == {"16", "384"} and min(report["milliseconds"].values()) > 0


def test_the_contract_says_what_goes_in_and_out(contract, tiny_run):
    emulator = load_emulator(tiny_run)
    assert contract["inputs"] == channel_labels(emulator.variables.inputs, 8)
    assert contract["outputs"] == channel_labels(emulator.variables.targets, 8)
    assert (contract["n_in"], contract["n_out"], contract["levels"]) == (45, 44, 8)
    assert contract["time_step_s"] == 2400.0 and contract["level_order"] == "0 = top"
    for role, variables in (("inputs", emulator.variables.inputs), ("outputs", emulator.variables.targets)):
        place = offsets(variables, 8)
        for entry in contract["variables"][role]:
            at = place[entry["name"]]
            assert (entry["first"], entry["width"]) == (at.start + 1, at.stop - at.start)
    units = {entry["name"]: entry["units"] for entry in contract["variables"]["outputs"]}
    assert units["evaporation"] == "kg/m2/s" and units["temperature_tendency"] == "K/s"
    assert contract["provenance"]["settings"]["architecture"] == "mlp"
    assert set(contract["provenance"]["checksums"]) == {"emulator/emulator.json", "emulator/weights.safetensors"}


def test_the_contract_travels_inside_the_model_which_it_describes(bundle, contract):
    extra = {"contract.json": ""}
    torch.jit.load(str(bundle / "model.pt"), _extra_files=extra)
    held = {**contract}
    model = held.pop("model")
    assert json.loads(extra["contract.json"]) == held
    assert model["bytes"] == (bundle / "model.pt").stat().st_size and len(model["sha256"]) == 64


def test_it_can_be_exported_again_from_its_own_weights(bundle, contract, config, tmp_path):
    export(bundle / "emulator", tmp_path / "again", replace(config, name=contract["name"]))
    x = torch.from_numpy(np.fromfile(bundle / "test" / "grid.x.bin", "<f4").reshape(-1, contract["n_in"]))
    with torch.inference_mode():
        both = [torch.jit.load(str(folder / "model.pt"))(x) for folder in (bundle, tmp_path / "again")]
    assert torch.equal(*both)


@pytest.mark.parametrize(
    "settings", [{"architecture": "unet"}, {"variables": "speedy_expanded", "water": "projection"}]
)
def test_other_emulators_export_too(tmp_path, make_emulator, config, settings):
    save_emulator(make_emulator(**settings), tmp_path / "emulator")
    assert export(tmp_path / "emulator", tmp_path / "out", config)["same_batch"] == 0.0


def test_constraints_of_what_is_shipped_can_differ_from_those_of_training(tmp_path, tiny_run, config):
    export(tiny_run, tmp_path / "out", replace(config, constraints={"top": 3, "clip_outputs": False}))
    held = json.loads((tmp_path / "out" / "contract.json").read_text())
    assert held["pruning"]["trained"]["outputs"] == 0 and held["pruning"]["deployed"]["outputs"] == 3
    told = {one["name"]: one["what"] for one in held["constraints"]}
    assert "clip_outputs" not in told and all(told.values())
    assert told["top"] == "no tendencies of waters and winds on the top 3 levels"
    assert "what a layer holds" in told["positive_water"]
    assert told["top"] in (tmp_path / "out" / "MODEL_CARD.md").read_text()
    y = np.fromfile(tmp_path / "out" / "test" / "grid.y.bin", "<f4").reshape(-1, held["n_out"])
    place = {one["name"]: one["first"] - 1 for one in held["variables"]["outputs"]}
    moistening = y[:, place["specific_humidity_tendency"] :]
    assert not moistening[:, :3].any() and moistening[:, 4].any()
    assert y[:, place["temperature_tendency"]].any()


def test_a_small_test_split_is_enough(tmp_path, tiny_run, make_rows, write_store):
    store = write_store(tmp_path / "s.zarr", {"test": make_rows(10)})
    assert export(tiny_run, tmp_path / "out", ExportConfig(str(store.path)))["same_batch"] == 0.0


def test_a_model_that_differs_is_refused_and_nothing_left_behind(tmp_path, tiny_run, config, monkeypatch):
    def other(view, sample):
        emulator = load_emulator(tiny_run)
        with torch.no_grad():
            emulator.network.output.bias += 1e-3
        return script(FlatEmulator(emulator), sample)

    monkeypatch.setattr(bundles, "script", other)
    with pytest.raises(SubgridError, match=r"the scripted model differs from the emulator.*1e-05 otherwise"):
        export(tiny_run, tmp_path / "out", config)
    assert not list(tmp_path.iterdir())


def test_an_older_bundle_is_replaced_and_anything_else_is_not(tmp_path, bundle, tiny_run, config):
    shutil.copytree(bundle, tmp_path / "old")
    (tmp_path / "old" / "stale.txt").write_text("of before")
    export(tiny_run, tmp_path / "old", config)
    assert not (tmp_path / "old" / "stale.txt").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(SubgridError, match=r"mine is there and holds no bundle"):
        export(tiny_run, tmp_path / "mine", config)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_an_unfinished_run_is_refused(tmp_path, tiny_run, config):
    shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    with pytest.raises(SubgridError, match=r"run is not finished: give its `subgrid train` command again"):
        export(tmp_path / "run", tmp_path / "out", config)


def test_what_fortran_or_the_target_does_not_allow_is_refused(tmp_path, tiny_run, config):
    with pytest.raises(UsageError, match=r"--target 'ftroch'.*ftorch"):
        replace(config, target="ftroch")
    for name in ("1st", "Mine", "a-b", "x" * 41):
        with pytest.raises(UsageError, match="cannot name a Fortran module"):
            replace(config, name=name)
    with pytest.raises(UsageError, match="pcols=0"):
        replace(config, pcols=0)
    with pytest.raises(UsageError, match="hands over the inputs of ClimSim's sets"):
        export(tiny_run, tmp_path / "out", replace(config, target="e3sm"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("folder", "name"),
    [("U-Net s7", "u_net_s7"), ("7", "emulator_7"), ("mlp", "mlp"), ("x" * 60, "x" * 40), ("__", "emulator")],
)
def test_a_name_for_fortran_is_made_of_the_runs(folder, name):
    assert as_name(folder) == name


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
        export(tiny_run, tmp_path / "out", ExportConfig(str(without.path)))
    grid = replace(column_grid, vertical=VerticalGrid.sigma((0.0, 0.2, 0.5, 0.8, 1.0)))
    for name, variables in arrays.items():
        few[name] = np.ones((10, sum(v.width(4) for v in variables)), np.float32)
    other = write_store(tmp_path / "b.zarr", {"test": few}, grid=grid, arrays=arrays)
    with pytest.raises(SubgridError, match="has 4 levels, the emulator 8"):
        export(tiny_run, tmp_path / "out", ExportConfig(str(other.path)))


@pytest.mark.parametrize(("variables", "confidence"), [("v2_rh_mc", False), ("v2_rh_mc", True), ("v6", False)])
def test_e3sm_gets_its_order_its_namelist_and_notes(tmp_path, climsim_store, make_emulator, variables, confidence):
    store = climsim_store("v6", 60)
    emulator = make_emulator(
        variables=variables, store=store, inputs="raw", saturation="sam", positive_water=False, confidence=confidence,
        night=True,
    )  # fmt: skip
    save_emulator(emulator, tmp_path / "emulator")
    out = tmp_path / "out"
    report = export(tmp_path / "emulator", out, ExportConfig(str(store.path), target="e3sm", name="mine"))
    n_in, n_out = (1519 if variables == "v6" else 557), (676 if confidence else 368)
    assert (report["n_in"], report["n_out"], report["same_batch"]) == (n_in, n_out, 0.0)
    namelist = (out / "e3sm" / "user_nl_eam").read_text()
    words = {
        k.strip(): v.strip()
        for k, v in (line.split("=") for line in namelist.splitlines() if "  =" in line or " = " in line)
    }
    combination = "v6" if variables == "v6" else "v2_conf" if confidence else "v2"
    assert words["inputlength"] == str(n_in) and words["outputlength"] == str(n_out)
    assert words["cb_nn_var_combo"] == f"'{combination}'" and words["input_rh"] == ".true."
    notes = (out / "e3sm" / "NOTES.md").read_text()
    assert "| 121 | 180 | state_q0002 | kg/kg |" in notes and "state_qn, liq_partition" in notes
    assert "are 0 where insolation is | inside; leave the host's on" in notes
    if not confidence:  # another session reads it back as a published network of E3SM
        again = load_published(out / "model.pt", variables, store.grid.vertical)
        split = store["test"]
        own = split.read_variables(emulator.variables.inputs, 0)
        assert again.variables.name == {"v2_rh_mc": "v2_rh", "v6": "v6_raw"}[variables] and len(own)


def test_cam_gets_its_namelist_and_where_each_number_comes_from(tmp_path, tiny_run, config):
    export(tiny_run, tmp_path / "out", replace(config, target="cam", name="deep"))
    assert "deep_model = '/path/to/model.pt'" in (tmp_path / "out" / "cam" / "user_nl_cam").read_text()
    notes = (tmp_path / "out" / "cam" / "INTERFACE.md").read_text()
    assert "| 1 | 8 | temperature | K | `state%t(1:ncol,1:pver)` |" in notes
    assert "ptend%s(1:ncol,1:pver) = cpair * (this)" in notes and "yours to supply" in notes
    assert "deep_message(status)" in notes


def test_pytorch_alone_needs_no_fortran(tmp_path, tiny_run, config):
    export(tiny_run, tmp_path / "out", replace(config, target="torchscript"))
    assert not list((tmp_path / "out").rglob("*.F90")) and not (tmp_path / "out" / "CMakeLists.txt").exists()
    assert "torch.jit.load('model.pt')" in (tmp_path / "out" / "README.md").read_text()
