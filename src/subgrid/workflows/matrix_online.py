"""The matrix inside the climate model: every network of the small matrix coupled, longer the better it does.

Stages: all for 30 days; one seed of each for 90; the best recipe of each architecture for a year; the best of all for
five. A control ensemble gives the noise floor. Each run leaves a small file of scores, which is committed: a fresh
machine goes on where another one stopped.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import xarray as xr

from subgrid.base.errors import SubgridError
from subgrid.base.files import make_folder, only_writer, read_json
from subgrid.base.formats import COUPLED, ONLINE, SCORES, read_record, write_record
from subgrid.columns.store import ColumnStore, open_store
from subgrid.coupling.compare import window
from subgrid.coupling.ensemble import Means, against, means, noise_floor
from subgrid.coupling.run import OWN, CoupleConfig, couple
from subgrid.hosts.climate import open_climate
from subgrid.workflows.jobs import Launch, run_jobs
from subgrid.workflows.matrix import ARCHITECTURES, RECIPES, SEEDS, plan, side_by_side
from subgrid.workflows.results_online_page import write_page
from subgrid.workflows.results_page import mean_r2
from subgrid.workflows.sweep import Cell

logger = logging.getLogger("subgrid")
START = "2002-01-01"
#: Days of the stages.
MONTH, QUARTER, YEAR, YEARS = 30, 90, 365, 5 * 365
CONTROLS, NOISE = 5, 0.01
FOLDER, PAGE, FLOOR = "results_online", "results_online.md", "floor.json"
#: What a file of scores keeps of the metrics of a coupled run.
KEPT = (
    "days",
    "requested_days",
    "finite",
    "first_unstable_day",
    "unstable",
    "mid_troposphere_temperature_difference_K",
    "lowest_level_temperature_difference_K",
    "lowest_level_humidity_ratio",
    "precipitation_ratio",
    "energy_residual_W_m2",
    "water_residual_W_m2",
    "counters",
    "periods",
    "simulated_years_per_day",
)
#: Inputs that left training which a file of scores names.
LEFT = 5


@dataclass(frozen=True)
class Coupled:
    """One network of the matrix, coupled for so many days; ``cell`` None: a control member."""

    name: str
    couple: CoupleConfig
    runs: str
    cell: Cell | None = None
    processes: int = 1
    rank: int = 0

    def about(self) -> dict[str, Any]:
        """What a table shows."""
        return {"days": self.couple.days, **(self.cell.about() if self.cell is not None else {"architecture": OWN})}

    def check(self, folder: Path) -> None:
        """Refuse a folder of other settings."""
        if (folder / "config.json").exists():
            held = {**asdict(CoupleConfig("", "")), **read_record(folder / "config.json", COUPLED)}
            if held != json.loads(json.dumps(asdict(self.couple))):
                raise SubgridError(f"{folder} was begun with other settings: remove it or choose another out=")

    def work(self, folder: Path) -> None:
        """Train the network if it is not there, and couple it."""
        if self.cell is not None and not self.cell.finished(Path(self.runs) / self.cell.name):
            self.cell.work(Path(self.runs) / self.cell.name)
        couple(self.couple, folder)

    def finished(self, folder: Path) -> bool:
        """Whether its metrics are there."""
        return (folder / "metrics.json").exists()


def matrix_online(store: Path, out: Path, docs: Path | None = None) -> Path:
    """Run every stage that is missing, then write ``results_online.md``.

    Args:
        store: the SPEEDY store of the matrix.
        out: folder of the matrix's runs (``<cell>``); coupled runs go to ``out/online``.
        docs: holds ``results`` of the matrix, receives ``results_online`` and the page (None: ``out``).

    Raises:
        SubgridError: the store cannot be used.
    """
    docs = docs or out
    folder, held = make_folder(docs / FOLDER), open_store(store)
    coupled = out / "online"
    make_folder(coupled)
    launch = Launch(str(coupled), workers=side_by_side())
    with only_writer(out / "online-matrix"):
        cells = {cell.name: cell for cell in plan(store)}
        controls = _controls(store, coupled, launch, folder, held)
        stages = (
            (MONTH, lambda: [cell for cell in cells.values()]),
            (QUARTER, lambda: [cell for cell in cells.values() if cell.train.seed == SEEDS[0]]),
            (YEAR, lambda: [cells[name] for name in best_of_each(folder)]),
            (YEARS, lambda: [cells[name] for name in best_of_each(folder)[:1]]),
        )
        for days, chosen in stages:
            jobs = [_job(cell, days, store, out) for cell in chosen()]
            missing = [job for job in jobs if not (folder / f"{job.name}.json").exists()]

            def keep(job: Coupled) -> None:
                found = scores(job, coupled / job.name, docs, held, controls)
                write_record(folder / f"{job.name}.json", ONLINE, found)
                write_page(folder, docs / PAGE)

            if missing:
                run_jobs(launch, missing, "online", keep)
    return write_page(folder, docs / PAGE)


def _job(cell: Cell, days: int, store: Path, out: Path) -> Coupled:
    settings = CoupleConfig(str(out / cell.name), str(store), start=START, days=days, timings=False)
    return Coupled(f"{cell.name}-{days}d", settings, str(out), cell)


def _controls(store: Path, coupled: Path, launch: Launch, folder: Path, held: ColumnStore) -> list[xr.Dataset]:
    """Daily means of the control ensemble (a year), and the file of its noise floors."""
    base = CoupleConfig(OWN, str(store), start=START, days=YEAR, timings=False)
    members = [
        Coupled(f"control-m{k}", replace(base, perturb=NOISE if k else 0.0, member=k), "") for k in range(CONTROLS)
    ]
    run_jobs(launch, members, "online")
    daily = [open_climate(coupled / member.name / "daily") for member in members]
    floors = {
        str(days): noise_floor([means(one, window(days)) for one in daily], held.grid)
        for days in (MONTH, QUARTER, YEAR)
    }
    write_record(folder / FLOOR, ONLINE, {"controls": CONTROLS, "noise_K": NOISE, "start": START, "floors": floors})
    return daily


def scores(job: Coupled, run: Path, docs: Path, store: ColumnStore, controls: Sequence[xr.Dataset]) -> dict[str, Any]:
    """What is kept of a coupled run: the verdict, distances in units of the noise floor, and its offline skill."""
    metrics = read_json(run / "metrics.json")
    found = {**job.about(), **{key: metrics.get(key) for key in KEPT}, "left_training": metrics["left_training"][:LEFT]}
    days = job.couple.days
    if metrics["days"] == days and days <= YEAR:
        late = window(days)
        climates: list[Means] = [means(one, late) for one in controls]
        floor = noise_floor(climates, store.grid)
        rmse = against(means(open_climate(run / "daily"), late), climates, store.grid)
        found |= {"rmse": rmse, "ratio": {key: rmse[key] / floor[key] for key in rmse if floor[key] > 0}}
    offline = docs / "results" / f"{job.cell.name}.json" if job.cell is not None else None
    if offline is not None and offline.exists():
        record = read_record(offline, SCORES)
        found |= {key: record[key] for key in ("parameters", "columns_per_second")} | {"r2": mean_r2(record)}
    return found


def merit(record: dict[str, Any]) -> float:
    """One number to choose by, less is better: the largest of the ratios of temperature, humidity and rain."""
    ratio = record.get("ratio")
    if not record["finite"] or not ratio:
        return float("inf")
    return max(ratio[name] for name in ("temperature", "specific_humidity", "precipitation") if name in ratio)


def best_of_each(folder: Path) -> list[str]:
    """Cells of seed :data:`SEEDS` [0]: the best recipe of each architecture after 90 days, the best of all first."""
    found = []
    for architecture in ARCHITECTURES:
        choices = {}
        for recipe in RECIPES:
            name = f"{architecture}-{recipe}-s{SEEDS[0]}"
            file = folder / f"{name}-{QUARTER}d.json"
            if file.exists():
                choices[name] = merit(read_record(file, ONLINE))
        if choices:
            best = min(choices, key=choices.__getitem__)
            found.append((choices[best], best))
    return [name for _, name in sorted(found)]
