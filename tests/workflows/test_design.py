"""The design study: its stages on the rings of Lorenz, what it asks of the real host, and the page of its files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from subgrid.base.datasets import write_dataset
from subgrid.base.errors import SubgridError
from subgrid.base.formats import ONLINE, write_record
from subgrid.coupling.compare import judged_days, worst_place
from subgrid.hosts.base import host
from subgrid.hosts.sampling import GenerateConfig
from subgrid.report.design import DESIGN, UNCLOSED, design_page, kept
from subgrid.training import TrainConfig
from subgrid.workflows import coupled as coupled_module
from subgrid.workflows import design as module
from subgrid.workflows import matrix_online as online_module
from subgrid.workflows.coupled import foretold_by
from subgrid.workflows.design import Trial, closest, design, first_trials, long_trials, process_trials, warm_trials
from subgrid.workflows.jobs import Launch
from subgrid.workflows.matrix import ARCHITECTURES
from subgrid.workflows.sweep import Cell, SweepConfig

SERIES = {"emulator": [250.0, 270.0], "control": [251.0, 272.0]}
REGIONS = {name: SERIES for name in ("globe", "tropics", "northern extratropics", "southern extratropics")}
SEASONS = {"months": ["2002-01", "2002-02"], "temperature_lowest": REGIONS, "precipitation": REGIONS}
SAMPLING = GenerateConfig(
    spin_up_days=3, train_days=6, evaluation_days=8, gap_days=0, fraction=0.6, evaluation_fraction=0.6
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return host("lorenz96", columns=8, slow=8, fast=4).generate(tmp_path_factory.mktemp("rings") / "s.zarr", SAMPLING)


def _cell(store, name, **changes):
    settings = {
        "variables": "lorenz96",
        "network": {"widths": [16]},
        "recipe_settings": {"epochs": 2, "batch_size": 64},
    }
    return Cell(name, TrainConfig(str(store), **settings, **changes))


@pytest.fixture
def small(store, monkeypatch):
    """The study with two networks in place of many, on one host for all climates."""
    start = sorted((store.path / "restarts").glob("*.safetensors"))[1].stem
    changes = {"YEAR": 3, "YEARS": 4, "FINER_DAYS": 5, "seasons": lambda run, grid: SEASONS}
    changes |= {"STARTS": dict.fromkeys(module.STARTS, start)}
    changes |= {"warmer_store": lambda *_: store.path, "finer_store": lambda *_: store.path}
    changes |= {"FINER_STORE": str(store.path), "PROCESSES": ()}  # an absolute path wins
    changes |= {"best_of_each": lambda _: ["mlp-standard-s7"]}
    changes |= {"network": lambda where, architecture, recipe, name="": _cell(where, name or "mlp-standard")}
    changes["first_trials"] = lambda where: [
        Trial("mlp-design", DESIGN, _cell(where, "a"), 2),
        Trial("mlp-shadow", "in shadow mode", _cell(where, "a"), 2, shadow=True),
        Trial("other", "another", _cell(where, "b", seed=1), 2),
    ]
    for name, value in changes.items():
        monkeypatch.setattr(module, name, value)
    for name, value in {"START": start, "YEAR": 3, "CONTROLS": 2, "NOISE": 0.1}.items():
        monkeypatch.setattr(online_module, name, value)
    monkeypatch.setattr(online_module, "MONTH", 2)
    monkeypatch.setattr(online_module, "QUARTER", 2)
    monkeypatch.setattr(module, "closest", lambda folder, years: years[0])
    monkeypatch.setattr(coupled_module, "Launch", lambda out, workers: Launch(out, launcher="debug"))
    monkeypatch.setattr(coupled_module, "SweepConfig", lambda out, workers: SweepConfig(out, launcher="debug"))


def test_all_stages_leave_their_files_and_the_page(small, store, tmp_path):
    page = design(store.path, tmp_path / "runs", tmp_path / "docs")
    folder = tmp_path / "docs" / "results_design"
    held = {file.stem: json.loads(file.read_text()) for file in folder.glob("*.json") if file.stem != "floor"}
    days = {name: (record["requested_days"], record["climate"]) for name, record in held.items()}
    assert days == {
        "mlp-design": (2, "control"),
        "mlp-shadow": (2, "control"),
        "other": (2, "control"),
        "mlp-standard-year": (3, "control"),
        "mlp-standard-five-years": (4, "control"),
        "mlp-standard-T31-two-years": (5, "T31"),
    }
    assert held["mlp-design"]["ratio"]["x"] > 0 and "shadow" in held["mlp-shadow"]
    assert held["mlp-standard-five-years"]["ratio"]["x"] > 0  # longer than the control ensemble
    assert held["mlp-standard-T31-two-years"]["rmse"]["x"] > 0 and held["mlp-standard-T31-two-years"]["ratio"] == {}
    assert page.exists()
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    design(store.path, tmp_path / "elsewhere", tmp_path / "docs")  # another machine has nothing left to do
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir() if file.stem != "floor"} == {
        file: when for file, when in before.items() if file.stem != "floor"
    }


def test_it_asks_every_architecture_and_leaves_out_every_part():
    trials = {trial.name: trial for trial in first_trials("store.zarr")}
    for name in ARCHITECTURES:
        whole, without = trials[f"{name}-design"], trials[f"{name}-open"]
        assert whole.cell == without.cell and whole.cell.train.recipe == "standard" and whole.cell.train.perturbed
        assert (whole.cell.train.emulator.energy, whole.cell.train.emulator.water) == ("projection", "projection")
        assert without.constraints == {"energy": "none", "water": "none"} and whole.days == 90
    assert trials["unet-energy"].constraints == {"water": "none"}
    assert not trials["unet-climate"].cell.train.perturbed
    assert trials["unet-raw"].cell.train.emulator.inputs == "raw"
    warm = {trial.name for trial in warm_trials(list(trials.values()))}
    assert warm == {f"unet-{what}-warmer" for what in ("design", "open", "raw", "raw-open")}


def test_processes_are_replaced_one_by_one():
    trials = {trial.name: trial.cell.train for trial in process_trials("terms.zarr")}
    assert {train.variables for train in trials.values()} == {
        "speedy_convection_condensation",
        "speedy_radiation",
        "speedy_surface",
        "speedy_diffusion",
    }
    assert {train.emulator.energy for train in trials.values()} == {"none"}


def test_recipes_keep_what_they_need():
    (trial,) = long_trials("store.zarr", ["pao-multirepresentation-s7"])
    emulator = trial.cell.train.emulator
    assert (emulator.representation, emulator.energy, trial.days) == ("multi", "projection", 365)


def _record(**changes):
    merits = {
        "mid_troposphere_temperature_difference_K": 0.4,
        "lowest_level_humidity_ratio": 1.01,
        "precipitation_ratio": 0.98,
    }
    periods = [{"first_day": k, "last_day": k + 30, **merits} for k in range(0, changes.get("requested_days", 90), 30)]
    record = {
        "architecture": "unet",
        "recipe": "standard",
        "seed": 7,
        "text": DESIGN,
        "constraints": {},
        "climate": "control",
        "days": 90,
        "requested_days": 90,
        "finite": True,
        "r2": 0.87,
        "periods": periods,
        "ratio": {"temperature": 1.5, "precipitation": 2.0},
        "left_training": [{"input": "u_wind", "level": 2, "day": 5, "distance": 0.12}],
        "energy_residual_W_m2": {"emulator": -3.0, "control": -4.0},
        "worst_zonal_temperature": {
            "difference_K": -1.4,
            "sigma": 0.2,
            "latitude": 80.0,
            "between_controls_K": 0.6,
            "offline_error_K_per_day": -0.02,
            "rank_correlation": 0.8,
        },
        **merits,
    }
    return {**record, **changes}


def test_the_page_says_what_the_files_say(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    wet = [{**period, "precipitation_ratio": 1.4} for period in _record()["periods"]]
    shadow = {"temperature_tendency": {"r2": 0.7, "bias": 1e-7, "r2_by_level": None}}
    records = {
        "unet-design": _record(),
        "unet-open": _record(text=UNCLOSED, periods=wet, energy_residual_W_m2={"emulator": -44.0, "control": -4.0}),
        "pao-open": _record(text=UNCLOSED, architecture="pao", days=40, finite=False, periods=wet[:1], ratio=None),
        "unet-shadow": _record(
            text="in shadow mode",
            constraints={"energy": "none", "water": "none"},
            shadow=shadow,
            shadow_budgets_W_m2={"energy_residual": -1.5},
        ),
        "mlp-expanded": _record(architecture="mlp", recipe="expanded", text="inputs of earlier steps", periods=wet),
        "mlp-expanded-shadow": _record(recipe="expanded", text="memory in shadow", shadow=shadow, left_training=[]),
        "unet-design-warmer": _record(climate="warmer", text="the design, +4 K seas"),
        "mlp-radiation": _record(climate="terms", architecture="mlp", text="radiation"),
        "unet-standard-year": _record(requested_days=365, days=365, judged_days=[0, 365]),
        "pao-standard-year": _record(architecture="pao", requested_days=365, days=365),  # judged over its last third
        "x-T31": _record(climate="T31", requested_days=730, days=730, seasons=SEASONS),
    }
    for name, record in records.items():
        write_record(folder / f"{name}.json", ONLINE, record)
    text = design_page(folder, tmp_path / "docs").read_text()
    assert kept(records["unet-design"]) and not kept(records["unet-open"]) and not kept(records["pao-open"])
    assert "Under the design 1 of 1" in text and "Without closure 0 of 2" in text
    assert "| **40** |" in text and "| temperature tendency | 0.700 |" in text
    assert "−1.5 W/m² of energy in shadow mode, −40.0 W/m² in the mean of the coupled run" in text
    assert "| mlp | radiation |" in text
    assert "| inputs of earlier steps | 90 | 0.870 | +0.40 | 1.010 | 1.400 | no | u wind, level 2" in text
    assert "| memory in shadow | 90 | 0.870 | – | – | – | – | nothing |" in text
    assert "u wind, level 2 (day 5, 0.12)" in text
    assert text.count("| −1.40 K at σ 0.20, 80° N | 0.60 | −0.02 | +0.80 | 1.50 | – | 2.00 |") == 1
    assert "Scored by its last third alone: pao, standard: mid-troposphere temperature minus control (K) +" in text
    assert "floors: 1.50 (temperature), 2.00 (precipitation)" in text
    assert "goes through 20.0 K from month to month, the control's through 21.0 K" in text
    assert "{{" not in text and "Not run yet" not in text
    images = {file.name for file in (tmp_path / "docs" / "images").iterdir()}
    assert images == {"design_runs.png", "design_long.png", "design_seasons.png"}


def test_a_run_of_a_year_and_more_is_judged_by_its_last_year():
    assert [judged_days(days) for days in (30, 90, 365, 1825)] == [
        slice(20, 30),
        slice(60, 90),
        slice(0, 365),
        slice(1460, 1825),
    ]


def test_the_closest_of_a_year_goes_on(tmp_path):
    trials = long_trials("store.zarr", ["pao-standard-s7", "unet-standard-s7", "convnext-standard-s7"])
    assert closest(tmp_path, trials) is None
    for trial, ratio in zip(trials, (3.0, 2.0, None), strict=True):
        write_record(tmp_path / f"{trial.name}.json", ONLINE, {"ratio": ratio and {"temperature": ratio}})
    assert closest(tmp_path, trials).cell.name == "unet-standard"


def test_a_departure_stands_beside_the_mean_error_of_the_heating_offline(tmp_path, column_grid):
    rows = np.array([-60.0, -20.0, 20.0, 60.0])
    bias = np.zeros((4, 8))
    bias[:, 2] = np.array([-0.2, 0.1, 0.05, -0.1]) / 86400.0
    dataset = xr.Dataset({"bias_temperature_tendency": (("latitude", "level"), bias)}, coords={"latitude": rows})
    write_dataset(tmp_path / "sections", dataset)
    apart = np.zeros((8, 16))
    apart[2] = np.interp(column_grid.latitude, rows, [-9.0, 3.0, 1.0, -4.0])
    worst = worst_place(apart, column_grid, column_grid.latitude)
    found = foretold_by(tmp_path / "sections", apart, worst, column_grid)
    assert found == {"offline_error_K_per_day": pytest.approx(-0.2), "rank_correlation": pytest.approx(1.0)}
    assert foretold_by(tmp_path / "nothing", apart, worst, column_grid) == {}
    write_dataset(tmp_path / "cold", dataset * 0.0)  # a process that does not heat there
    found = foretold_by(tmp_path / "cold", apart, worst, column_grid)
    assert found == {"offline_error_K_per_day": 0.0, "rank_correlation": None}


def test_no_scores_are_refused(tmp_path):
    with pytest.raises(SubgridError, match="subgrid study design"):
        design_page(tmp_path, tmp_path)
