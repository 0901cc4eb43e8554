"""The model card says what the run folder says, and what it does not."""

from __future__ import annotations

import json
import shutil

import pytest

from subgrid.base.errors import SubgridError
from subgrid.base.formats import COUPLED, EVALUATION, write_record
from subgrid.deployment.card import model_card


@pytest.fixture
def run(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


@pytest.fixture
def card(bundle):
    contract = json.loads((bundle / "contract.json").read_text())
    report = json.loads((bundle / "report.json").read_text())

    def make(run, online="", licence=""):
        return model_card(run, contract, report, online, licence)

    return make


def couple(folder, run, **metrics):
    folder.mkdir(parents=True)
    write_record(folder / "config.json", COUPLED, {"emulator": str(run), "data": "somewhere/store.zarr"})
    told = {"days": 30, "requested_days": 30, "finite": True, "first_unstable_day": None}
    (folder / "metrics.json").write_text(json.dumps({**told, **metrics}))
    return folder


def test_what_is_not_known_is_said(card, run):
    shutil.rmtree(run / "evaluation", ignore_errors=True)
    found = card(run)
    assert "Never scored here" in found and "Never run online." in found and "Not measured." in found
    assert "None is stated for these weights" in found


def test_scores_and_residuals_come_from_the_runs_evaluation(card, run):
    (run / "evaluation").mkdir(exist_ok=True)
    scores = {"r2": 0.5125, "rmse": 1.5e-5, "bias": None}
    held = {
        "split": "test",
        "samples": 12345,
        "variables": {"heating": {"units": "K/s"}},
        "models": {"emulator": {"heating": scores}},
        "budgets": {"energy": {"units": "W/m2", "emulator": {"rms": 0.25}, "truth": {"rms": 0.02}}},
    }
    write_record(run / "evaluation" / "scores.json", EVALUATION, held)
    found = card(run, licence="CC-BY-4.0")
    assert "Split `test`, 12,345 columns" in found and "| heating | K/s | 0.512 | 1.5e-05 |  |" in found
    assert "- energy: 0.25 W/m2 (0.02)" in found and found.rstrip().endswith("CC-BY-4.0")


def test_a_coupled_run_is_told_of_wherever_it_lies(card, run, tmp_path):
    couple(run / "coupled", run, precipitation_ratio=1.04)
    assert "30 of 30 days in its host: finite." in card(run) and "precipitation / control: 1.040" in card(run)
    other = couple(tmp_path / "other", run, days=3, finite=False, first_unstable_day=3)
    assert "3 of 30 days in its host: unstable on day 3." in card(run, online=str(other))


def test_a_coupled_run_of_another_emulator_or_an_unfinished_one_is_refused(card, run, tmp_path):
    strange = couple(tmp_path / "strange", tmp_path / "another")
    with pytest.raises(SubgridError, match=r"is a coupled run of .*another, not of"):
        card(run, online=str(strange))
    with pytest.raises(SubgridError, match=r"is no finished coupled run"):
        card(run, online=str(tmp_path))
