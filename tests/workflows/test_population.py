"""The study of populations: its files, going on from them, and a page that says what they say."""

from __future__ import annotations

import json

import pytest

from subgrid.base.errors import SubgridError
from subgrid.hosts.sampling import GenerateConfig
from subgrid.workflows import population as module
from subgrid.workflows.population import Case, Design, population, write_page

SAMPLING = GenerateConfig(
    spin_up_days=3, train_days=6, evaluation_days=8, gap_days=0, fraction=0.6, evaluation_fraction=0.6
)
FREE = {"emulator": {"clip_inputs": False, "clip_outputs": False}}
CASE = Case(
    "rings",
    "lorenz96",
    {"columns": 8, "slow": 8, "fast": 4},
    SAMPLING,
    (Design("plain", "no noise", {"epochs": 2, **FREE}), Design("noisy", "noise", {"epochs": 2, "input_noise": 0.5})),
    4,
    2,
)


def test_a_hundred_are_done_once_and_told_from_their_files(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CASES", (CASE,))
    monkeypatch.setattr(module, "MEMBERS", 5)
    page = population(None, tmp_path / "out", tmp_path / "docs")
    files = {file.stem: file for file in (tmp_path / "docs" / "results_population").iterdir()}
    assert set(files) == {"rings-plain", "rings-noisy"}
    records = {name: json.loads(file.read_text()) for name, file in files.items()}
    for record in records.values():
        assert len(record["r2"]) == len(record["lasted"]) == len(record["ended"]) == len(record["rmse"]) == 5
        assert (record["days"], record["online_days"]) == (4, 2) and len(set(record["r2"])) == 5
    text = page.read_text()
    assert "| rings | no noise | 5 |" in text and "| rings | noise | 5 |" in text and "{{" not in text
    images = {file.name for file in (tmp_path / "docs" / "images").iterdir()}
    assert images == {"population_survival.png", "population_foretold.png"}
    before = {file: file.stat().st_mtime_ns for file in files.values()}
    assert population(None, tmp_path / "elsewhere", tmp_path / "docs").read_text() == text
    assert {file: file.stat().st_mtime_ns for file in files.values()} == before
    assert not (tmp_path / "elsewhere" / "rings.zarr").exists()


def test_no_results_are_refused(tmp_path):
    with pytest.raises(SubgridError, match="subgrid study population"):
        write_page(tmp_path, tmp_path)
