"""Couple an emulator to its host beside the matched control, and judge the run."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from subgrid.base.datasets import write_dataset
from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.files import make_folder, only_writer, read_json, remove_leftovers, write_json
from subgrid.base.formats import COUPLED, read_record, write_record
from subgrid.base.logs import log_file
from subgrid.base.provenance import versions
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.store import ColumnStore, open_store
from subgrid.coupling.compare import compare, verdict, worst_place
from subgrid.coupling.timing import step_times
from subgrid.coupling.watching import left_training, shadow_budgets, shadow_skill
from subgrid.emulator.base import ColumnEmulator
from subgrid.emulator.files import load
from subgrid.hosts.base import AS_TRAINED, Host, Noise, check_fits, host_of
from subgrid.hosts.climate import open_climate
from subgrid.hosts.driving import Drive
from subgrid.scores.climate import area_mean

logger = logging.getLogger("subgrid")
#: A global-mean temperature further than this from the control's counts as unstable, K.
DRIFT_BOUND = 10.0
PERIOD = 30
#: What stands for an emulator where the host's own physics is to run.
OWN = "own"
#: Most noise on a first state, K.
MOST_NOISE = 10.0


@dataclass(frozen=True)
class CoupleConfig(Drive):
    """A coupled run; how the emulator acts in it is :class:`Drive`'s.

    Args:
        emulator: run folder, emulator folder, or a published network's TorchScript file; ``own``: none, the host's own
            physics, such as the members of a control ensemble.
        data: the column store whose host, restarts and control are used.
        start: ISO date of a restart in the store; empty: the first test month.
        days: length.
        perturb: standard deviation of the noise that is added to the first temperature (of host ``lorenz96``, to the
            slow variables) everywhere, K; 0: none.
        member: which noise.
        replace: processes of the host that the emulator is to replace: ``auto`` (those that it was trained for),
            ``all``, or names joined by ``_``, such as ``convection_condensation``.
        timings: also measure what each part of a step costs.
        constraints: settings of the emulator to change for this run (bounds and constraints).
        variables: what a TorchScript file reads; empty for folders.
        trust: load the TorchScript file of a folder that holds a published network.
    """

    emulator: str
    data: str
    start: str = ""
    days: int = 30
    perturb: float = 0.0
    member: int = 0
    replace: str = AS_TRAINED
    timings: bool = True
    constraints: dict[str, Any] = field(default_factory=dict)
    variables: str = ""
    trust: bool = False

    def __post_init__(self) -> None:
        if self.days < 1:
            raise UsageError(f"couple.days={self.days} must be at least 1")
        if self.member < 0 or not 0.0 <= self.perturb <= MOST_NOISE:
            raise UsageError(
                f"couple.perturb={self.perturb} must lie in [0, {MOST_NOISE:g}] and couple.member={self.member} must "
                "not be negative"
            )
        super().__post_init__()

    @property
    def drive(self) -> Drive:
        """How the emulator acts."""
        return Drive(**{f.name: getattr(self, f.name) for f in fields(Drive)})


@dataclass(frozen=True)
class CoupledRun:
    """A finished coupled run: daily means, comparison with the control, metrics."""

    folder: Path
    metrics: dict[str, Any]

    @property
    def daily(self) -> xr.Dataset:
        """Daily means of the coupled run."""
        return open_climate(self.folder / "daily")

    @property
    def control(self) -> xr.Dataset:
        """Daily means of the matched control over the same days.

        Raises:
            SubgridError: neither the run nor its store holds it any more.
        """
        run, own = self.daily, self.folder / "control" / "daily"
        days = self.metrics["days"]
        if own.exists():
            return open_climate(own).isel(time=slice(0, days))
        store = open_store(read_record(self.folder / "config.json", COUPLED)["data"])
        held = held_control(store, run["time"].values[0], days)
        if held is None:
            raise SubgridError(f"{self.folder}: its control is neither there nor in {store.path}")
        return held

    @property
    def comparison(self) -> xr.Dataset:
        """Series, zonal means, maps and budgets beside the control."""
        return open_climate(self.folder / "comparison")


def restart_file(store: ColumnStore, start: str) -> Path:
    """The restart of the store at ``start`` (empty: the first one after the beginning of its evaluation stretch).

    Raises:
        UsageError: no restart at that date; the dates are listed.
    """
    files = sorted((store.local() / "restarts").glob("*.safetensors"))
    if not files:
        raise UsageError(f"{store.path} holds no restarts: make it with `subgrid data generate`")
    if not start:
        return files[min(1, len(files) - 1)]
    for file in files:
        if file.stem == start:
            return file
    raise UsageError(f"{store.path} has no restart at '{start}'; it has {', '.join(f.stem for f in files)}")


def couple(config: CoupleConfig, out: Path | str) -> CoupledRun:
    """Run the emulator in place of all column physics of its host; a cut run goes on from its last checkpoint.

    ``out`` receives ``daily`` and ``comparison`` (Zarr), ``config.json`` and ``metrics.json`` (written last). An
    unstable run is a result, not an error: the verdict names where and when.

    Raises:
        UsageError: emulator, store and host do not fit, or unknown names.
        SubgridError: unreadable inputs, or ``out`` was begun with another config.
    """
    out = Path(out)
    store = open_store(config.data)
    restart = restart_file(store, config.start)
    with only_writer(out):
        if any((out / name).exists() for name in ("config.json", "metrics.json")) and not same_config(config, out):
            raise SubgridError(f"{out} was begun with another config; remove it or choose another folder")
        if (out / "metrics.json").exists():
            logger.info("couple: %s is finished already", out)
            return CoupledRun(out, read_json(out / "metrics.json"))
        emulator = None
        if config.emulator != OWN:
            emulator = load(config.emulator, trust=config.trust, **_given(config, store), **config.constraints)
        driven = host_of(store)
        if emulator is not None:
            check_fits(emulator, driven, config.replace)
        remove_leftovers(make_folder(out))
        write_record(out / "config.json", COUPLED, asdict(config))
        with log_file(out, "couple"):
            return _run(config, out, store, restart, emulator, driven)


def _given(config: CoupleConfig, store: ColumnStore) -> dict[str, Any]:
    """What a TorchScript file does not say of itself."""
    if not Path(config.emulator).is_file():
        return {"variables": config.variables}
    return {"variables": config.variables, "grid": store.grid.vertical, "time_step": store.spec.time_step}


def _run(
    config: CoupleConfig, out: Path, store: ColumnStore, restart: Path, emulator: ColumnEmulator | None, driven: Host
) -> CoupledRun:
    control = matched_control(store, driven, restart, config.days, out)
    watch = _DriftWatch(control, driven.grid)
    noise = Noise(config.perturb, config.member)
    result = driven.run(emulator, restart, config.days, out, config.drive, noise, on_day=watch, title="couple")
    metrics = _metrics(config, out, driven, control, result, emulator)
    metrics["answer"] = emulator.answer if emulator is not None else "the host's own physics"
    if config.timings and emulator is not None:
        metrics["step_ms"] = step_times(driven, emulator, restart, config.drive)
        metrics["simulated_years_per_day"] = _sypd(metrics["step_ms"]["coupled"] / 1e3, driven.time_step)
    write_json(out / "metrics.json", metrics)
    return CoupledRun(out, metrics)


def same_config(config: CoupleConfig, out: Path) -> bool:
    """Whether ``out`` was begun with this config; a setting that its own lacks had its default."""
    held = {**asdict(CoupleConfig(emulator="", data="")), **read_record(out / "config.json", COUPLED)}
    return bool(held == json.loads(json.dumps(asdict(config))))


def matched_control(store: ColumnStore, driven: Any, restart: Path, days: int, out: Path) -> xr.Dataset:
    """The host's own climate over the same days: the store's, if it covers them, else run now by the same code."""
    held = held_control(store, np.datetime64(restart.stem), days)
    if held is not None:
        return held
    logger.info("couple: the store's control ends before the run does; running the control as well")
    if not (out / "control" / "finished.json").exists():
        driven.run(None, restart, days, out / "control", title="control")
        write_json(out / "control" / "finished.json", {"days": days})
    return open_climate(out / "control" / "daily")


def held_control(store: ColumnStore, first: np.datetime64, days: int) -> xr.Dataset | None:
    """The control's daily means from ``first`` on that the store holds; None: it does not reach so far."""
    held = open_climate(store.local() / "control" / "daily")
    times = held["time"].values.astype("datetime64[D]")
    start = int((first.astype("datetime64[D]") - times[0]).astype(int))
    return held.isel(time=slice(start, start + days)) if 0 <= start <= len(times) - days else None


class _DriftWatch:
    """Stops a run whose global-mean temperature, if it has one, leaves the control's by more than 10 K."""

    def __init__(self, control: xr.Dataset, grid: Any) -> None:
        self.weight = np.asarray(grid.vertical.sigma_thickness)[:, None] * grid.area
        self.weight = self.weight / self.weight.sum()
        self.control = control if "temperature" in control else None

    def _mean(self, temperature: NDArray[Any]) -> float:
        return float((np.asarray(temperature, np.float64) * self.weight).sum())

    def __call__(self, day: int, means: Mapping[str, NDArray[Any]]) -> str | None:
        if self.control is None:
            return None
        difference = self._mean(means["temperature"]) - self._mean(self.control["temperature"][day].values)
        if abs(difference) <= DRIFT_BOUND:
            return None
        return f"global-mean temperature is {difference:+.1f} K from the control"


def _metrics(
    config: CoupleConfig, out: Path, driven: Any, control: xr.Dataset, result: Any, emulator: ColumnEmulator | None
) -> dict[str, Any]:
    run = open_climate(out / "daily").isel(time=slice(0, result.days))
    metrics: dict[str, Any] = {
        "days": result.days,
        "requested_days": config.days,
        "finite": result.unstable is None,
        "first_unstable_day": None if result.unstable is None else result.days,
        "unstable": result.unstable,
        "bridge": result.bridge,
        "simulated_years_per_day": _sypd(result.seconds_per_step, driven.time_step),
        "versions": versions(),
    }
    if result.days == 0:
        return metrics
    comparison = compare(run, control.isel(time=slice(0, result.days)), driven.grid, driven.land)
    write_dataset(out / "comparison", comparison)
    metrics["window_days"] = comparison.attrs["window_days"]
    metrics["periods"] = [
        {"first_day": first, "last_day": min(first + PERIOD, result.days)}
        | verdict(comparison, slice(first, min(first + PERIOD, result.days)))
        for first in range(0, result.days, PERIOD)
        if result.days - first >= PERIOD // 2 or first == 0
    ]
    counters = [counter.name for counter in (emulator.counters if emulator is not None else [])]
    metrics |= judged(run, comparison, counters, driven.grid)
    if config.shadow and emulator is not None:
        metrics["shadow"] = shadow_skill(run, driven.variables.targets)
        metrics["shadow_budgets_W_m2"] = shadow_budgets(run, driven.grid)
    return metrics


def judged(run: xr.Dataset, comparison: xr.Dataset, counters: Iterable[str], grid: ColumnGrid) -> dict[str, Any]:
    """Metrics of a run: figures that decide, what each safeguard did, inputs that left training, and residuals.

    Args:
        run: daily means.
        comparison: of the same days.
        counters: names of the emulator's.
        grid: of the columns.
    """
    found: dict[str, Any] = dict(verdict(comparison))
    if "zonal_temperature" in comparison:
        both = comparison["zonal_temperature"].values
        found["worst_zonal_temperature"] = worst_place(both[0] - both[1], grid, comparison["latitude"].values)
    found["counters"] = {name: float(area_mean(run[name].mean("time").values, grid.area)) for name in counters}
    found["left_training"] = left_training(run)
    for name in (name for name in ("energy_residual", "water_residual") if f"budget_{name}" in comparison):
        both = comparison[f"budget_{name}"].mean("time").values
        found[f"{name}_W_m2"] = {"emulator": float(both[0]), "control": float(both[1])}
    return found


def _sypd(seconds_per_step: float, time_step: float) -> float:
    """Simulated years per day of wall time."""
    return round(time_step / max(seconds_per_step, 1e-12) / 365.0, 2)
