"""The matrix: cells leave scores that another machine goes on from, and a page that is made of those files alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from subgrid.base.errors import SubgridError
from subgrid.workflows import matrix as matrix_module
from subgrid.workflows.matrix import ARCHITECTURES, RECIPES, SEEDS, matrix, plan
from subgrid.workflows.results_page import SURENESS, mean_r2, write_page
from subgrid.workflows.sweep import Cell, SweepConfig


@pytest.fixture
def cells(tiny_store, monkeypatch):
    """Three cells of seconds, in this process."""
    monkeypatch.setattr(matrix_module, "SweepConfig", lambda out, workers: SweepConfig(out, launcher="debug"))
    settings = {"recipe_settings": {"epochs": 1, "batch_size": 256}, "precision": "32-true", "architecture": "mlp"}
    made = []
    for cell in plan(tiny_store.path)[:2]:
        network = {"widths": [16]}
        made.append(Cell(cell.name, replace(cell.train, network=network, **settings)))
    made.append(Cell("other-seed", replace(made[0].train, seed=43)))
    return made


def test_the_plan_has_every_cell_once_and_a_seed_at_a_time():
    every = plan("store.zarr")
    assert len({cell.name for cell in every}) == len(every) == 90
    assert {cell.train.seed for cell in every[:30]} == {SEEDS[0]}
    first = {(cell.train.architecture, cell.train.recipe) for cell in every[:30]}
    assert first == {(a, r) for a in ARCHITECTURES for r in RECIPES}


def test_cells_leave_scores_from_which_another_machine_goes_on(cells, tiny_store, tmp_path):
    page = matrix(tiny_store.path, tmp_path / "runs", tmp_path / "docs", cells[:2])
    files = sorted((tmp_path / "docs" / "results").iterdir())
    assert [f.name for f in files] == sorted(f"{cell.name}.json" for cell in cells[:2])
    assert all(f.stat().st_size < 8000 for f in files)
    shutil.rmtree(tmp_path / "runs")
    # a fresh machine has the files alone: it runs what lacks, and needs no store where nothing does
    assert matrix(tiny_store.path, tmp_path / "runs", tmp_path / "docs", cells) == page
    assert not (tmp_path / "runs" / cells[0].name).exists() and (tmp_path / "runs" / "other-seed").exists()
    shutil.rmtree(tmp_path / "runs")
    nowhere = [Cell(c.name, replace(c.train, data="nowhere")) for c in cells]
    assert matrix(tmp_path / "nowhere", tmp_path / "runs", tmp_path / "docs", nowhere) == page
    # a file from before a setting was there is as good; one from before a score was there is not
    plain, sure = (tmp_path / "docs" / "results" / f"{cell.name}.json" for cell in cells[:2])
    held = json.loads(plain.read_text())
    del held["train"]["emulator"]["mask"]
    plain.write_text(json.dumps(held))
    assert matrix(tmp_path / "nowhere", tmp_path / "runs", tmp_path / "docs", nowhere) == page
    held, kept = json.loads(sure.read_text()), sure.read_text()
    del held["rank_correlation"]["columns"]
    sure.write_text(json.dumps(held))
    with pytest.raises(SubgridError, match="nowhere"):
        matrix(tmp_path / "nowhere", tmp_path / "runs", tmp_path / "docs", nowhere)
    sure.write_text(kept)
    other = [Cell(cells[0].name, replace(cells[0].train, recipe_settings={"epochs": 2, "batch_size": 256}))]
    with pytest.raises(SubgridError, match="nowhere"):
        matrix(tmp_path / "nowhere", tmp_path / "runs", tmp_path / "docs", other)


def test_the_page_says_what_the_files_say(cells, tiny_store, tmp_path):
    page = matrix(tiny_store.path, tmp_path / "runs", tmp_path / "docs", cells).read_text()
    records = [json.loads(p.read_text()) for p in (tmp_path / "docs" / "results").iterdir()]
    plain = {r["seed"]: mean_r2(r) for r in records if r["recipe"] == "standard"}
    mean, half = sum(plain.values()) / 2, abs(plain[7] - plain[43]) / 2
    assert f"| mlp | {mean:.4f} ± {half:.4f} |" in page
    ridge = mean_r2(records[0], "ridge_r2")
    assert f"| ridge, same inputs | {ridge:.4f} ± 0.0000 | {ridge:.4f} |" in page
    margins = [mean_r2(r) - mean_r2(r, "ridge_r2") for r in records]
    above = sum(m > 0 for m in margins)
    assert f"{above} of 3 runs are above ridge regression" in page and f"by {min(margins):.3f}" in page
    sure = next(r for r in records if r["recipe"] == "confidence")
    assert f"| mlp | {mean_r2(sure) - plain[7]:+.4f} |" in page
    assert set(sure["rank_correlation"]) == set(SURENESS)
    assert "| mlp | " + " | ".join(f"{sure['rank_correlation'][k]:.4f}" for k in SURENESS) + " |" in page
    assert all(f"| {name} |" in page for name in sure["r2"])
    assert "3 of 3 runs" in page
    assert f"| mlp | confidence | {sure['parameters']:,} | {sure['columns_per_second']:,} |" in page
    assert 0 < sure["matmul_share"] < 1


def test_no_scores_are_refused(tmp_path):
    with pytest.raises(SubgridError, match="make matrix-small"):
        write_page(tmp_path, tmp_path / "page.md", 90)
