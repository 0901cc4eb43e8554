"""The matrix online, on the rings of Lorenz: what each stage runs, the files it leaves, a page made of these alone."""

from __future__ import annotations

import json
import shutil

import pytest

from subgrid.base.errors import SubgridError
from subgrid.hosts.base import host
from subgrid.hosts.sampling import GenerateConfig
from subgrid.report.leaderboard import entries
from subgrid.report.results_online import results_online_page, within
from subgrid.training import TrainConfig
from subgrid.workflows import coupled as coupled_module
from subgrid.workflows import matrix_online as module
from subgrid.workflows.jobs import Launch
from subgrid.workflows.matrix_online import best_of_each, matrix_online, merit
from subgrid.workflows.sweep import Cell, SweepConfig

SAMPLING = GenerateConfig(
    spin_up_days=3, train_days=6, evaluation_days=8, gap_days=0, fraction=0.6, evaluation_fraction=0.6
)
LENGTHS = {"MONTH": 2, "QUARTER": 3, "YEAR": 4}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return host("lorenz96", columns=8, slow=8, fast=4).generate(tmp_path_factory.mktemp("rings") / "s.zarr", SAMPLING)


@pytest.fixture(scope="module")
def done(store, tmp_path_factory):
    """Two recipes, two seeds of one architecture, through all stages."""
    folder = tmp_path_factory.mktemp("matrix")
    with pytest.MonkeyPatch.context() as patch:
        _small(patch, store)
        page = matrix_online(store.path, folder / "runs", folder / "docs")
    return folder, page


def _small(patch, store):
    start = store and sorted((store.path / "restarts").glob("*.safetensors"))[1].stem
    changes = {**LENGTHS, "START": start, "CONTROLS": 3, "NOISE": 0.1, "SEEDS": (7, 43), "ARCHITECTURES": ("mlp",)}
    changes["RECIPES"] = ("standard", "confidence")
    changes |= {"plan": _plan, "CLOSED": {}}
    for name, value in changes.items():
        patch.setattr(module, name, value)
    patch.setattr(coupled_module, "Launch", lambda out, workers: Launch(out, launcher="debug"))
    patch.setattr(coupled_module, "SweepConfig", lambda out, workers: SweepConfig(out, launcher="debug"))


def _plan(store):
    return [
        Cell(
            f"mlp-{recipe}-s{seed}",
            TrainConfig(
                str(store),
                variables="lorenz96",
                recipe=recipe,
                network={"widths": [16]},
                recipe_settings={"epochs": 4, "batch_size": 64},
                seed=seed,
            ),
        )
        for seed in (7, 43)
        for recipe in ("standard", "confidence")
    ]


def test_one_seed_runs_longer_and_says_which_is_best(done):
    folder, _ = done
    held = {file.stem: json.loads(file.read_text()) for file in (folder / "docs" / "results_online").glob("*d.json")}
    best = min(("standard", "confidence"), key=lambda recipe: merit(held[f"mlp-{recipe}-s7-3d"]))
    with pytest.MonkeyPatch.context() as patch:
        _small(patch, None)
        assert best_of_each(folder / "docs" / "results_online") == [f"mlp-{best}-s7"]
    assert set(held) == {
        *(f"mlp-{recipe}-s{seed}-2d" for recipe in ("standard", "confidence") for seed in (7, 43)),
        *(f"mlp-{recipe}-s7-3d" for recipe in ("standard", "confidence")),
    }
    # the scores after two days of a run of three are those of two days
    assert not (folder / "runs" / "online" / "mlp-standard-s7-2d").exists()
    short = held["mlp-standard-s7-2d"]
    assert (short["days"], short["requested_days"], short["finite"]) == (2, 2, True)
    assert short["ratio"]["x"] > 0 and short["ratio"]["x"] != held["mlp-standard-s7-3d"]["ratio"]["x"]
    floor = json.loads((folder / "docs" / "results_online" / "floor.json").read_text())
    assert set(floor["floors"]) == {"2", "3", "4"} and floor["controls"] == 3
    assert short["rmse"]["x"] / floor["floors"]["2"]["x"] == pytest.approx(short["ratio"]["x"])


def test_another_machine_goes_on_from_the_files_alone(done, store, tmp_path, monkeypatch):
    folder, page = done
    docs = tmp_path / "docs"
    shutil.copytree(folder / "docs", docs)
    lacks = docs / "results_online" / "mlp-standard-s43-2d.json"
    kept = json.loads(lacks.read_text())
    lacks.unlink()
    _small(monkeypatch, store)
    matrix_online(store.path, tmp_path / "runs", docs)
    ran = {path.name for path in (tmp_path / "runs" / "online").iterdir() if path.name.startswith("mlp")}
    assert ran == {"mlp-standard-s43-2d"}
    again = json.loads(lacks.read_text())
    assert again["ratio"] == pytest.approx(kept["ratio"], rel=0.05)
    assert page.read_text().count("| mlp | standard |") == (docs / "results_online.md").read_text().count(
        "| mlp | standard |"
    )


def test_scores_make_a_leaderboard(done):
    folder, page = done
    assert len(entries([folder / "docs" / "results_online"])) == 6
    assert "## Noise floor" in page.read_text() and "2 of 2" in page.read_text()


def test_what_blew_up_is_neither_within_nor_best():
    lost = {"finite": False, "ratio": {"temperature": 0.5}}
    assert merit(lost) == float("inf") and not within(lost)
    assert merit({"finite": True, "ratio": {"temperature": 2.0, "u_wind": 9.0, "precipitation": 3.0}}) == 3.0


def test_no_scores_are_refused(tmp_path):
    with pytest.raises(SubgridError, match="make matrix-online"):
        results_online_page(tmp_path, tmp_path)
