"""The matrix inside the climate model: every network of the small matrix coupled, longer the better it does.

One seed of each for 90 days, the other seeds for 30 (a run of 90 days has scores after 30 too), beside a control
ensemble, which gives the noise floor. Each run leaves a small file of scores, which is committed: a fresh machine goes
on where another one stopped. What comes out best goes on for years in :mod:`subgrid.workflows.design`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr

from subgrid.base.files import make_folder, only_writer
from subgrid.base.formats import ONLINE, read_record, write_record
from subgrid.columns.store import ColumnStore, open_store
from subgrid.coupling.compare import YEAR, window
from subgrid.coupling.ensemble import means, noise_floor
from subgrid.coupling.run import OWN, CoupleConfig
from subgrid.hosts.climate import open_climate
from subgrid.report.results_online import results_online_page
from subgrid.workflows.coupled import Coupled, run_coupled, scores
from subgrid.workflows.matrix import ARCHITECTURES, RECIPES, SEEDS, plan
from subgrid.workflows.sweep import Cell

START = "2002-01-01"
#: Days of the stages, and of the controls.
MONTH, QUARTER = 30, 90
CONTROLS, NOISE = 5, 0.01
#: What keeps every architecture near the control (docs/design.md): the column's budgets of energy and water closed.
CLOSED = {"energy": "projection", "water": "projection"}
FOLDER, FLOOR = "results_online", "floor.json"


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
    with only_writer(out / "online-matrix"):
        jobs = [_job(cell, QUARTER if cell.train.seed == SEEDS[0] else MONTH, store, out) for cell in plan(store)]
        missing = [job for job in jobs if not all(file.exists() for file in _files(job, folder).values())]
        if missing:
            controls = control_ensemble(store, coupled, folder, held)

            def keep(job: Coupled) -> None:
                for days, file in _files(job, folder).items():
                    offline = docs / "results" / f"{job.network}.json"
                    write_record(file, ONLINE, scores(job, coupled / job.name, held, controls, days, offline))
                results_online_page(folder, docs)

            run_coupled(missing, out, coupled, "online", keep)
    return results_online_page(folder, docs)


def _job(cell: Cell, days: int, store: Path, out: Path) -> Coupled:
    settings = CoupleConfig(str(out / cell.name), str(store), start=START, days=days, timings=False, constraints=CLOSED)
    return Coupled(f"{cell.name}-{days}d", settings, str(out), cell)


def _files(job: Coupled, folder: Path) -> dict[int, Path]:
    """Files of scores that a run leaves, by the days that they are of."""
    lengths = (MONTH, QUARTER) if job.couple.days == QUARTER else (job.couple.days,)
    return {days: folder / f"{job.network}-{days}d.json" for days in lengths}


def control_ensemble(store: Path, coupled: Path, folder: Path, held: ColumnStore) -> list[xr.Dataset]:
    """Daily means of the members of the control ensemble (a year each); writes the file of its noise floors.

    Args:
        store: whose host runs.
        coupled: folder of the runs.
        folder: receives the file.
        held: the store, opened.
    """
    base = CoupleConfig(OWN, str(store), start=START, days=YEAR, timings=False)
    members = [
        Coupled(f"control-m{k}", replace(base, perturb=NOISE if k else 0.0, member=k), "") for k in range(CONTROLS)
    ]
    run_coupled(members, coupled, coupled, "controls")
    daily = [open_climate(coupled / member.name / "daily") for member in members]
    floors = {
        str(days): noise_floor([means(one, window(days), held.grid) for one in daily], held.grid)
        for days in (MONTH, QUARTER, YEAR)
    }
    write_record(folder / FLOOR, ONLINE, {"controls": CONTROLS, "noise_K": NOISE, "start": START, "floors": floors})
    return daily


def merit(record: dict[str, Any]) -> float:
    """One number to choose by, less is better: the largest of the ratios of temperature, humidity and rain (of whatever
    there is, on a host without these)."""
    ratio = record.get("ratio")
    if not record["finite"] or not ratio:
        return float("inf")
    decisive = ("temperature", "specific_humidity", "precipitation")
    return max([ratio[name] for name in decisive if name in ratio] or ratio.values())


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
