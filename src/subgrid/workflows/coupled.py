"""Coupled runs of trained networks as jobs, and the small files of scores that studies keep of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import spearmanr

from subgrid.base.errors import SubgridError
from subgrid.base.files import make_folder, read_json
from subgrid.base.formats import EVALUATION, SCORES, read_record
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.store import ColumnStore
from subgrid.coupling.compare import SECONDS_PER_DAY, judged_days, verdict
from subgrid.coupling.ensemble import Means, against, means, noise_floor, worst_zonal
from subgrid.coupling.run import OWN, CoupleConfig, CoupledRun, couple, judged, same_config
from subgrid.evaluation.sections import zonal_rows
from subgrid.hosts.climate import open_climate
from subgrid.workflows.jobs import Launch, run_jobs
from subgrid.workflows.matrix import side_by_side
from subgrid.workflows.results_page import mean_r2
from subgrid.workflows.sweep import Cell, SweepConfig, run_sweep

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
    """One coupled run of a network that ``cell`` trains into ``runs``; ``cell`` None: the host's own physics."""

    name: str
    couple: CoupleConfig
    runs: str
    cell: Cell | None = None
    processes: int = 1
    rank: int = 0

    @property
    def network(self) -> str:
        """Name of what acts."""
        return self.cell.name if self.cell is not None else self.name

    def about(self) -> dict[str, Any]:
        """What a table shows."""
        return {"days": self.couple.days, **(self.cell.about() if self.cell is not None else {"architecture": OWN})}

    def check(self, folder: Path) -> None:
        """Refuse a folder of other settings."""
        if (folder / "config.json").exists() and not same_config(self.couple, folder):
            raise SubgridError(f"{folder} was begun with other settings: remove it or choose another out=")

    def work(self, folder: Path) -> None:
        """Couple the network."""
        couple(self.couple, folder)

    def finished(self, folder: Path) -> bool:
        """Whether its metrics are there."""
        return (folder / "metrics.json").exists()


def run_coupled(
    jobs: Sequence[Coupled], runs: Path, coupled: Path, title: str, finished: Callable[[Coupled], object] | None = None
) -> None:
    """Train what is not trained yet, then couple what is not coupled, as many at a time as the machine has room for.

    Args:
        jobs: what is to be there.
        runs: folder of the trained networks.
        coupled: folder of the coupled runs.
        title: of the progress.
        finished: called with every job that is finished.
    """
    cells = {job.cell.name: job.cell for job in jobs if job.cell is not None and not job.finished(coupled / job.name)}
    missing = [cell for cell in cells.values() if not cell.finished(runs / cell.name)]
    workers = side_by_side()
    if missing:
        run_sweep(SweepConfig(str(runs), workers=workers), missing)
    run_jobs(Launch(str(make_folder(coupled)), workers=workers), jobs, title, finished)


def scores(
    job: Coupled, run: Path, store: ColumnStore, controls: Sequence[xr.Dataset], days: int, offline: Path | None = None
) -> dict[str, Any]:
    """What is kept of the first ``days`` of a coupled run: the verdict, distances to the controls in units of their
    noise floor, and the offline skill of its network.

    Means are over :func:`judged_days`. Where a run goes on for longer than the control ensemble, its distance is to its
    own matched control, and the noise floor is of the ensemble's first days, as many.

    Args:
        job: that is finished.
        run: its folder.
        store: of the run.
        controls: daily means of the control members from the same date on; empty: no noise floor.
        days: of the scores, not more than the run's.
        offline: file of scores of the matrix; None or missing: the run folder's own evaluation.
    """
    metrics = read_json(run / "metrics.json")
    if days < job.couple.days:
        metrics = _first_days(metrics, run, days, store)
    found = {
        **job.about(),
        **{key: metrics.get(key) for key in KEPT},
        "left_training": metrics.get("left_training", [])[:LEFT],
    }
    if metrics["finite"]:
        sections = Path(job.runs) / job.network / "evaluation" / "sections"
        found |= _distances(CoupledRun(run, metrics), controls, days, store, sections)
    if job.cell is None:
        return found
    if offline is not None and offline.exists():
        record = read_record(offline, SCORES)
        return found | {key: record[key] for key in ("parameters", "columns_per_second")} | {"r2": mean_r2(record)}
    trained = Path(job.runs) / job.cell.name
    held = read_record(trained / "evaluation" / "scores.json", EVALUATION)["models"]["emulator"]
    r2 = {name: score["r2"] for name, score in held.items() if score["r2"] is not None}
    return found | {"parameters": read_json(trained / "metrics.json")["parameters"], "r2": mean_r2({"r2": r2})}


def _distances(
    run: CoupledRun, controls: Sequence[xr.Dataset], days: int, store: ColumnStore, sections: Path
) -> dict[str, Any]:
    """Of the judged days of a run: figures that decide, RMSE against the controls, its ratio to the noise floor, and
    the largest departure of zonal-mean temperature."""
    part, grid = judged_days(days), store.grid
    inside = bool(controls) and days <= controls[0].sizes["time"]
    members: list[Means] = [means(one, part if inside else slice(0, part.stop - part.start), grid) for one in controls]
    beside = members if inside else [means(run.control, part, grid)]
    ours = means(run.daily, part, grid)
    rmse, floor = against(ours, beside, grid), noise_floor(members, grid)
    found: dict[str, Any] = {"judged_days": [part.start, part.stop], "rmse": rmse}
    found["ratio"] = {key: rmse[key] / floor[key] for key in rmse if floor.get(key)}
    if "zonal_temperature" in ours:
        worst = worst_zonal(ours, beside, grid)
        control = np.mean([one["zonal_temperature"] for one in beside], axis=0)
        found["worst_zonal_temperature"] = worst | foretold_by(
            sections, ours["zonal_temperature"] - control, worst, grid
        )
    return found | verdict(run.comparison.isel(time=slice(0, days)), part)


def foretold_by(
    sections: Path, apart: NDArray[np.float64], worst: dict[str, float], grid: ColumnGrid
) -> dict[str, float | None]:
    """What the offline evaluation says of the level whose zonal-mean temperature departs most online.

    Args:
        sections: of the evaluation; empty where there is none.
        apart: online departure, (level, column), K.
        worst: where it is largest, see :func:`subgrid.coupling.ensemble.worst_zonal`.
        grid: of the columns, with rows of latitude.

    Returns:
        ``offline_error_K_per_day``: mean error of the heating there; ``rank_correlation``: Spearman's, over the rows
        of latitude, of that mean error and the departure (None where the emulator does not heat that level).
    """
    if not sections.exists():
        return {}
    level = int(worst["level"])
    bias = open_climate(sections)["bias_temperature_tendency"][:, level].values * SECONDS_PER_DAY
    rows, row = zonal_rows(grid)
    by_row = [float(apart[level, row == k][0]) for k in range(len(rows))]
    return {
        "offline_error_K_per_day": float(bias[np.argmin(np.abs(rows - worst["latitude"]))]),
        "rank_correlation": float(spearmanr(bias, by_row).statistic) if np.ptp(bias) else None,
    }


def _first_days(metrics: dict[str, Any], run: Path, days: int, store: ColumnStore) -> dict[str, Any]:
    """The metrics of a run as they would be had it been asked for its first ``days`` alone."""
    lived = min(days, metrics["days"])
    finite = metrics["finite"] or metrics["days"] >= days
    found = {
        "simulated_years_per_day": metrics["simulated_years_per_day"],
        "days": lived,
        "requested_days": days,
        "finite": finite,
        "first_unstable_day": None if finite else metrics["first_unstable_day"],
        "unstable": None if finite else metrics["unstable"],
        "periods": [period for period in metrics.get("periods") or [] if period["last_day"] <= days],
    }
    if lived:
        daily = open_climate(run / "daily").isel(time=slice(0, lived))
        comparison = open_climate(run / "comparison").isel(time=slice(0, lived))
        found |= judged(daily, comparison, metrics.get("counters", {}), store.grid)
    return found
