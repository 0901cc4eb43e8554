"""ClimSim from its files to a page, by the command line: sample, convert, train, evaluate, predict, report."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import subgrid as sg
from subgrid.cli.app import main
from subgrid.columns.variables import offsets

Call = Callable[..., str]


@pytest.fixture
def call(tmp_path, monkeypatch, capsys) -> Call:
    """Runs a command in an empty folder; returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["subgrid", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        assert stop.value.code == code, said.err
        return said.err if code else said.out

    return run


@pytest.fixture
def files(call) -> Path:
    """One day of each period, 24 columns of 9 levels."""
    made = json.loads(call("data", "sample", "climsim", "sample", "--columns", "24", "--levels", "9", "--json"))
    assert (made["files"], made["columns"], made["levels"]) == (432, 24, 9)
    return Path(made["folder"])


@pytest.mark.parametrize("variables", ["v1", "v2_rh_mc", "v6"])
def test_from_files_to_a_page(call, files, variables):
    call("data", "convert", "climsim", str(files), "store.zarr", "--variables", variables)
    # no set of variables is named: it is the one that the store was made for
    call(
        *("train", "data=store.zarr", "out=run", "architecture=mlp", "architecture.widths=[16]"),
        *("recipe.epochs=2", "recipe.batch_size=64", "precision=32-true"),
    )
    scored = json.loads(call("evaluate", "run", "--json"))
    store = sg.open_store("store.zarr")
    targets = store.variable_set(variables).targets
    assert set(scored["models"]) == {"emulator", "ridge", "mean"}
    assert set(scored["models"]["emulator"]) == {v.name for v in targets}
    assert all(np.isfinite(one["mae"]) for one in scored["models"]["emulator"].values())
    sections = xr.open_zarr("run/evaluation/sections", consolidated=False)
    assert set(sections.latitude.values % 10) == {5.0}, "bands: the columns of this grid share no latitude"
    call("evaluate", "run", "split=scoring", "metrics=climsim", "out=scoring")
    assert "climsim" in json.loads(Path("scoring/scores.json").read_text())["metrics"]
    assert predicted_as_scored(store, variables)
    assert call("report", "run").strip() == "run/report.html"
    page = Path("run/report.html").read_text()
    assert "climsim" in page
    assert "Heating" in page


def predicted_as_scored(store, variables: str) -> bool:
    """``sg.predict`` on labelled columns has the mean absolute error that the evaluation found."""
    emulator, split = sg.load("run"), store["test"]
    held, levels = store.variable_set(variables), store.grid.levels

    def labelled(wanted):
        flat = split.read_variables(wanted, 0)
        parts = {
            v.name: (v.kind, flat[:, part]) for v, part in zip(wanted, offsets(wanted, levels).values(), strict=True)
        }
        return xr.Dataset(
            {
                n: (("sample", "level"), x) if kind == "profile" else ("sample", x[:, 0])
                for n, (kind, x) in parts.items()
            }
        )

    found, truth = sg.predict(emulator, labelled(held.inputs)), labelled(held.targets)
    told = json.loads(Path("run/evaluation/scores.json").read_text())["models"]["emulator"]["cam_out_FLWDS"]
    weight = split.read("weight", 0)
    error = np.abs(found["cam_out_FLWDS"] - truth["cam_out_FLWDS"]).values
    np.testing.assert_allclose(np.average(error, weights=weight), told["mae"], rtol=1e-5)
    return set(found) == set(truth)


def test_a_broken_file_by_the_command_line(call, files):
    bad = files / "0001-02" / "E3SM-MMF.mlo.0001-02-01-08400.nc"
    bad.write_bytes(bad.read_bytes()[:-1])
    words = ("data", "convert", "climsim", str(files), "store.zarr", "--variables", "v1", "--split", "train")
    said = call(*words, code=1).splitlines()[-1]
    assert said.startswith("subgrid: ")
    assert f"{bad.name} is truncated" in said
    assert not Path("store.zarr").exists()
    made = json.loads(call(*words, "--on-error", "skip", "--json"))
    assert made["splits"]["train"]["samples"] == 10 * 24
    assert made["provenance"]["found"]["losses"]["first"][0]["file"] == bad.name
