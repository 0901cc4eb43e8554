"""The stability page: every figure in it comes from the runs, and an unstable one says where it broke."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from subgrid.base.errors import SubgridError
from subgrid.report.study import stability_page
from subgrid.workflows.stability import NETWORKS, RUNS, write_page

from .builder import UNSTABLE, coupled_metrics, make_coupled

R2 = {"temperature_tendency": 0.851, "specific_humidity_tendency": 0.825}


def row(name: str, days: int, unstable: dict[str, Any] | None = None) -> dict[str, Any]:
    """One row of the study whose periods are all alike."""
    metrics = coupled_metrics(unstable)
    figures = {k: v for k, v in metrics["periods"][0].items() if not k.endswith("_day")}
    periods = [{"first_day": d, "last_day": d + 30} | figures for d in range(0, days, 30)]
    return metrics | {"name": name, "text": f"run {name}", "network": name, "r2": R2, "days": days, "periods": periods}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("study")
    for name in ("design-s0", "raw-free"):
        make_coupled(root / name)
    return {"design-s0": root / "design-s0", "raw-free": root / "raw-free"}


def test_the_page_says_what_the_runs_did(folders: dict[str, Path], tmp_path: Path):
    broken = row("raw-free", 45, UNSTABLE) | {"first_unstable_day": 45, "finite": False}
    tuned = {"steps": 6, "iterations": 400, "seconds": 300.0, "first": 0.5, "last": 0.25}
    results = {"start": "2002-01-01", "rows": [row("design-s0", 360), broken], "rollout": tuned}
    text = stability_page(results, folders, tmp_path).read_text(encoding="utf-8")
    assert "{{" not in text
    assert "| run design-s0 | 0.851 | 0.825 | 360 |" in text and "| -10.80 | +8.20 |" in text
    assert "| run raw-free | 0.851 | 0.825 | **45, then unstable** | – | – | – |" in text
    assert "*run raw-free* left the bounds on 2002-02-14 03:30: temperature 112.5 at level 1 (σ 0.095)" in text
    assert "6 coupled steps" in text and "from 0.500 to 0.250" in text
    pictures = sorted(p.name for p in (tmp_path / "images").iterdir())
    assert pictures == ["stability_ablation.png", "stability_series.png", "stability_year.png"]


def test_every_run_has_its_network_and_names_are_unique():
    networks = [one.name for one in NETWORKS]
    assert len(set(networks)) == len(networks) and len({run.name for run in RUNS}) == len(RUNS)
    assert {run.network for run in RUNS} == set(networks)
    assert {one.tuned_from for one in NETWORKS} - {""} <= set(networks)


def test_a_page_needs_a_finished_run(tmp_path: Path):
    with pytest.raises(SubgridError, match="no finished run"):
        write_page(tmp_path, tmp_path / "docs")
