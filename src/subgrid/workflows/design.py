"""One design for every architecture: what keeps any small network near the control, shown by leaving parts of it out.

The design: relative humidity and plume buoyancy as inputs, perturbed columns in training, and the column's budgets of
energy and water closed by projection. Each coupled run leaves a small file of scores, which is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from subgrid.base.files import make_folder, only_writer, read_json
from subgrid.base.formats import ONLINE, read_record, write_record
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.store import ColumnStore, open_store
from subgrid.coupling.compare import REGIONS, SERIES, YEAR
from subgrid.coupling.run import CoupleConfig, CoupledRun
from subgrid.report.design import DESIGN, UNCLOSED, design_page
from subgrid.scores.climate import area_mean
from subgrid.training.fit import TrainConfig
from subgrid.workflows.coupled import Coupled, run_coupled, scores
from subgrid.workflows.matrix import ARCHITECTURES, SEEDS
from subgrid.workflows.matrix_online import CLOSED, QUARTER, START, best_of_each, control_ensemble
from subgrid.workflows.stores import FINER_STORE, TERMS_STORE, finer_store, store_with_terms, warmer_store
from subgrid.workflows.sweep import Cell

FOLDER = "results_design"
#: What a network of about eight minutes on one thread takes.
SETTINGS = {"epochs": 4, "batch_size": 2048}
#: How many times the training, to see what more of it does.
LONGER = {"longer": (4, "four times the training"), "longest": (16, "sixteen times the training")}
OPEN = dict.fromkeys(CLOSED, "none")
#: The architecture that parts of the design are left out of.
ABLATED = "unet"
#: One that a year takes minutes of, for what goes wrong slowly, and for inputs of earlier steps.
FASTEST = "mlp"
#: Noise on normalised inputs in training, in spreads, that makes these harmless.
INPUT_NOISE = 0.3
#: Stores: the given one, above seas 4 K warmer, at T31, and with the tendencies of each process.
CONTROL, WARMER, FINER, TERMS = "control", "warmer", "T31", "terms"
#: Those of the host of the given one, whose controls are a measure for their runs too.
OF_HOST = {CONTROL, TERMS}
#: First days of the runs on other stores: empty: the first test month.
STARTS = {CONTROL: START, WARMER: "", FINER: "", TERMS: START}
FINER_DAYS, YEARS = 2 * 365, 5 * 365
#: Processes that are replaced alone, each by an MLP.
PROCESSES = ("convection_condensation", "radiation", "surface", "diffusion")
#: Series whose monthly means by region are kept of a run that is about seasons.
SEASONAL = ("temperature_lowest", "precipitation")


@dataclass(frozen=True)
class Trial:
    """One coupled run of the study.

    Args:
        name: of its folder and file.
        text: of its row.
        cell: network.
        days: length.
        constraints: of the emulator that this run changes.
        shadow: evaluated along the host's own trajectory alone.
        climate: of which store.
    """

    name: str
    text: str
    cell: Cell
    days: int = QUARTER
    constraints: dict[str, Any] = field(default_factory=dict)
    shadow: bool = False
    climate: str = CONTROL


def network(store: Path | str, architecture: str, recipe: str = "standard", name: str = "", **changes: Any) -> Cell:
    """A network of the design.

    Args:
        store: of its columns.
        architecture, recipe: of it.
        name: of its folder.
        changes: to its training; those of its emulator and recipe are in ``emulator`` and ``recipe_settings``,
            dictionaries.
    """
    emulator = {**CLOSED, **changes.pop("emulator", {})}
    train = TrainConfig(
        data=str(store),
        architecture=architecture,
        recipe=recipe,
        recipe_settings={**SETTINGS, **changes.pop("recipe_settings", {})},
        seed=SEEDS[0],
        **changes,
    )
    assert train.emulator is not None
    train = replace(train, emulator=replace(train.emulator, **emulator))
    return Cell(name or f"{architecture}-{recipe}", train)


def first_trials(store: Path) -> list[Trial]:
    """Every architecture under the design and without closure, and parts left out of one of them."""
    cells = {name: network(store, name) for name in ARCHITECTURES}
    found = [Trial(f"{name}-design", DESIGN, cell) for name, cell in cells.items()]
    found += [Trial(f"{name}-open", UNCLOSED, cell, constraints=OPEN) for name, cell in cells.items()]
    one = cells[ABLATED]
    for part in CLOSED:
        other = {name: "none" for name in CLOSED if name != part}
        found.append(Trial(f"{ABLATED}-{part}", f"only {part} closed", one, constraints=other))
    alone = dict.fromkeys(CLOSED, "tendencies")
    found.append(Trial(f"{ABLATED}-tendencies", "closed by tendencies alone", one, constraints=alone))
    climate = network(store, ABLATED, name=f"{ABLATED}-climate", perturbed=False)
    found.append(Trial(f"{ABLATED}-climate", "no perturbed columns", climate))
    raw = network(store, ABLATED, name=f"{ABLATED}-raw", emulator={"inputs": "raw"})
    found.append(Trial(f"{ABLATED}-raw", "specific humidity as input", raw))
    found.append(Trial(f"{ABLATED}-raw-open", "specific humidity, budgets not closed", raw, constraints=OPEN))
    found.append(Trial(f"{ABLATED}-shadow", "in shadow mode", one, days=30, constraints=OPEN, shadow=True))
    expanded, noise = f"{FASTEST}-expanded", {"input_noise": INPUT_NOISE}
    memory = network(store, FASTEST, "expanded")
    noisy = network(store, FASTEST, "expanded", name=f"{expanded}-noise", recipe_settings=noise)
    found.append(Trial(expanded, "inputs of earlier steps", memory))
    found.append(Trial(f"{expanded}-shadow", "inputs of earlier steps, in shadow mode", memory, days=30, shadow=True))
    found.append(Trial(f"{expanded}-noise", "inputs of earlier steps, noise in training", noisy))
    thin = network(store, FASTEST, name=f"{FASTEST}-climate", perturbed=False)
    found.append(Trial(f"{FASTEST}-year", DESIGN, network(store, FASTEST), YEAR))
    for name, (times, text) in LONGER.items():
        longer = network(
            store, FASTEST, name=f"{FASTEST}-{name}", recipe_settings={"epochs": times * SETTINGS["epochs"]}
        )
        found.append(Trial(f"{FASTEST}-{name}-year", text, longer, YEAR))
    even = network(store, FASTEST, name=f"{FASTEST}-even", recipe_settings={"energy_weight": 0.0})
    found.append(Trial(f"{FASTEST}-even-year", "every channel weighs alike in the loss", even, YEAR))
    found.append(Trial(f"{FASTEST}-climate-year", "no perturbed columns", thin, YEAR))
    found.append(Trial(f"{FASTEST}-climate-shadow", "no perturbed columns, in shadow mode", thin, 180, shadow=True))
    return found


def warm_trials(trials: Sequence[Trial]) -> list[Trial]:
    """The design and raw inputs above warmer seas."""
    chosen = (f"{ABLATED}-design", f"{ABLATED}-raw", f"{ABLATED}-open", f"{ABLATED}-raw-open")
    return [
        Trial(f"{one.name}-{WARMER}", f"{one.text}, +4 K seas", one.cell, constraints=one.constraints, climate=WARMER)
        for one in trials
        if one.name in chosen
    ]


def process_trials(store: Path) -> list[Trial]:
    """An emulator of each process alone beside the host's own of all others.

    Args:
        store: with the tendencies of each process.
    """
    found = []
    for name in PROCESSES:
        cell = network(store, FASTEST, name=f"{FASTEST}-{name}", emulator=OPEN, variables=f"speedy_{name}")
        found.append(Trial(f"{FASTEST}-{name}", name.replace("_", " and "), cell, climate=TERMS))
    return found


def long_trials(store: Path, ranked: Sequence[str]) -> list[Trial]:
    """The best recipe of each architecture for a year.

    Args:
        store: of the networks.
        ranked: cells of the matrix, the best first, see :func:`best_of_each`.
    """
    found = []
    for name in ranked:
        architecture, recipe = name.rsplit("-s", 1)[0].split("-", 1)
        cell = network(store, architecture, recipe)
        found.append(Trial(f"{cell.name}-year", f"{architecture}, {recipe}", cell, YEAR))
    return found


def design(store: Path, out: Path, docs: Path | None = None) -> Path:
    """Run every trial that is missing, then write ``design.md``.

    Args:
        store: SPEEDY columns with restarts and perturbed columns.
        out: folder of all runs, and of stores with other seas and another grid.
        docs: holds ``results_online`` of the matrix, which says which recipes run for a year; receives
            ``results_design`` and the page (None: ``out``).

    Raises:
        SubgridError: the store cannot be used.
    """
    docs = docs or out
    folder, held = make_folder(docs / FOLDER), open_store(store)
    with only_writer(out / "study"):
        makers = {
            WARMER: lambda: warmer_store(held, out),
            TERMS: lambda: store_with_terms(held, out),
            FINER: lambda: finer_store(held, out, FINER_DAYS),
        }
        runner = _Runner(held, makers, out, docs, folder)
        trials = first_trials(store)
        a_year = [*long_trials(store, best_of_each(docs / "results_online")), *(t for t in trials if t.days == YEAR)]
        runner.run(a_year)
        longest = [*five_years(folder, a_year), *finer_trials(out / FINER_STORE, folder, a_year)]
        runner.run([*longest, *trials, *warm_trials(trials), *process_trials(out / TERMS_STORE)])
    return design_page(folder, docs)


def five_years(folder: Path, years: Sequence[Trial]) -> list[Trial]:
    """The run that stayed closest over a year, for five."""
    best = closest(folder, years)
    return [Trial(f"{best.cell.name}-five-years", best.text, best.cell, YEARS)] if best is not None else []


def finer_trials(store: Path, folder: Path, years: Sequence[Trial]) -> list[Trial]:
    """The network that stayed closest over a year, trained on columns of T31 and run there for two."""
    best = closest(folder, years)
    if best is None:
        return []
    cell = Cell(f"{best.cell.name}-{FINER}", replace(best.cell.train, data=str(store)))
    return [Trial(f"{cell.name}-two-years", f"{best.text}, T31", cell, FINER_DAYS, climate=FINER)]


def closest(folder: Path, years: Sequence[Trial]) -> Trial | None:
    """Of the trials that have scores, the one whose temperature lies closest to the controls'."""
    held = {}
    for trial in years:
        file = folder / f"{trial.name}.json"
        ratio = read_record(file, ONLINE).get("ratio") if file.exists() else None
        if ratio:
            held[trial.name] = ratio["temperature"]
    best = min(held, key=held.__getitem__, default=None)
    return next((trial for trial in years if trial.name == best), None)


def seasons(run: CoupledRun, grid: ColumnGrid) -> dict[str, Any]:
    """Monthly means by region of a run and of its control."""
    found: dict[str, Any] = {"months": None}
    for source, daily in (("emulator", run.daily), ("control", run.control)):
        for name in SEASONAL:
            series = SERIES[name][1](daily.isel(time=slice(0, run.metrics["days"])), grid)
            months = series.resample(time="MS").mean()
            found["months"] = [str(month)[:7] for month in months["time"].values]
            for region, (south, north) in REGIONS.items():
                inside = (grid.latitude >= south) & (grid.latitude <= north)
                means = area_mean(np.asarray(months.values, np.float64)[:, inside], grid.area[inside])
                found.setdefault(name, {}).setdefault(region, {})[source] = [round(float(v), 4) for v in means]
    return found


class _Runner:
    """Runs trials that have no file of scores yet, and keeps their scores."""

    def __init__(
        self, held: ColumnStore, makers: dict[str, Callable[[], Path]], out: Path, docs: Path, folder: Path
    ) -> None:
        self.makers, self.out, self.docs, self.folder = makers, out, docs, folder
        self.stores = {CONTROL: held}
        self.controls: list[xr.Dataset] = []

    def run(self, trials: Sequence[Trial]) -> None:
        """Those that are missing, side by side; the stores that they need are made first."""
        missing = {t.name: t for t in trials if not (self.folder / f"{t.name}.json").exists()}
        if not missing:
            return
        climates = {t.climate for t in missing.values()}
        for climate in sorted(climates - set(self.stores)):
            self.stores[climate] = open_store(self.makers[climate]())
        if climates & OF_HOST and not self.controls:
            held = self.stores[CONTROL]
            self.controls = control_ensemble(Path(str(held.path)), self.out / "coupled", self.folder, held)

        def keep(job: Coupled) -> None:
            self._keep(missing[job.name], job)
            design_page(self.folder, self.docs)

        jobs = [self._job(trial) for trial in missing.values()]
        run_coupled(jobs, self.out / "runs", self.out / "coupled", "design", keep)

    def _job(self, trial: Trial) -> Coupled:
        settings = CoupleConfig(
            str(self.out / "runs" / trial.cell.name),
            str(self.stores[trial.climate].path),
            start=STARTS[trial.climate],
            days=trial.days,
            timings=False,
            constraints=trial.constraints,
            shadow=trial.shadow,
        )
        return Coupled(trial.name, settings, str(self.out / "runs"), trial.cell)

    def _keep(self, trial: Trial, job: Coupled) -> None:
        run, store = self.out / "coupled" / job.name, self.stores[trial.climate]
        controls = self.controls if trial.climate in OF_HOST else []
        record = scores(job, run, store, controls, trial.days)
        record |= {"text": trial.text, "climate": trial.climate, "constraints": trial.constraints}
        metrics = read_json(run / "metrics.json")
        if trial.shadow:
            record |= {key: metrics[key] for key in ("shadow", "shadow_budgets_W_m2")}
        if trial.climate == FINER:
            record["seasons"] = seasons(CoupledRun(run, metrics), store.grid)
        write_record(self.folder / f"{trial.name}.json", ONLINE, record)
