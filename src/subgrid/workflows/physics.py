"""The physics study: what closing budgets, penalties and climate-invariant inputs change; resumable, with its page."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from subgrid.base.files import make_folder, only_writer, write_text
from subgrid.base.formats import EVALUATION, read_record
from subgrid.base.logs import log_file
from subgrid.columns.store import ColumnStore, open_store
from subgrid.emulator.config import EmulatorConfig
from subgrid.evaluation.offline import EvaluateConfig, evaluate
from subgrid.report.words import table
from subgrid.training.fit import TrainConfig, fit
from subgrid.workflows.results_page import mean_r2
from subgrid.workflows.stores import WARMER, warmer_store

logger = logging.getLogger("subgrid")
Record = dict[str, Any]
PAGE = "physics.md"
#: About a minute and a half on two cores.
RECIPE = {"epochs": 6}
COLUMNS = 650_000
INPUTS = ("raw", "relative_humidity", "relative_humidity_buoyancy", "climate_invariant")
#: Inputs of the network that budgets are closed for.
PLAIN = "relative_humidity_buoyancy"
CLOSURES: dict[str, dict[str, str]] = {
    "none": {},
    "energy, projection": {"energy": "projection"},
    "energy, level": {"energy": "level"},
    "water, projection": {"water": "projection"},
    "water, level": {"water": "level"},
    "both, projection": {"energy": "projection", "water": "projection"},
    "both, level": {"energy": "level", "water": "level"},
}
PENALTIES = (0.03, 0.1, 0.3)
SHOWN = ("temperature_tendency", "specific_humidity_tendency", "convective_precipitation", "outgoing_longwave")


def physics(store: Path, out: Path, docs: Path | None = None) -> Path:
    """Train and score every variant (finished ones are reused), then write ``physics.md``; returns the page.

    Args:
        store: SPEEDY columns.
        out: folder of all runs, and of a store of the same host above warmer seas.
        docs: where the page goes (None: ``out``).

    Raises:
        SubgridError: the store is unusable.
    """
    held = open_store(store)
    make_folder(out)
    with only_writer(out / "study"), log_file(out, "physics"):
        for name, config in runs(store).items():
            logger.info("study: run %s", name)
            fit(config, out / "runs" / name)
        closed = {name: _score(out, PLAIN, store, _label(name), how) for name, how in CLOSURES.items()}
        punished = {weight: _score(out, _punished(weight), store, "control") for weight in PENALTIES}
        warm = warmer_store(held, out)
        climates = {name: (_score(out, name, store, "control"), _score(out, name, warm, "warmer")) for name in INPUTS}
    page = make_folder(docs or out) / PAGE
    write_text(page, "\n".join(_page(held, closed, punished, climates)).rstrip() + "\n")
    return page


def runs(store: Path) -> dict[str, TrainConfig]:
    """Every training run, by name."""
    plain = TrainConfig(
        data=str(store),
        emulator=EmulatorConfig(inputs=PLAIN),
        recipe_settings=RECIPE,
        perturbed=False,
        max_train_samples=COLUMNS,
    )
    found = {name: replace(plain, emulator=EmulatorConfig(inputs=name)) for name in INPUTS}
    for weight in PENALTIES:
        settings = {**RECIPE, "energy_penalty": weight, "water_penalty": weight}
        found[_punished(weight)] = replace(plain, recipe_settings=settings)
    return found


def _punished(weight: float) -> str:
    return f"penalty-{weight:g}"


def _label(name: str) -> str:
    return name.replace(", ", "-")


def _score(out: Path, run: str, store: Path, label: str, constraints: dict[str, str] | None = None) -> Record:
    """Scores of a run on the test months of ``store``."""
    folder = out / "evaluation" / f"{run}-{label}"
    if not (folder / "scores.json").exists():
        evaluate(EvaluateConfig(str(out / "runs" / run), str(store), constraints=constraints or {}), folder)
    return read_record(folder / "scores.json", EVALUATION)


def _r2(record: Record, model: str = "emulator") -> float:
    return mean_r2({"r2": {name: v["r2"] for name, v in record["models"][model].items()}})


def _page(
    store: ColumnStore,
    closed: dict[str, Record],
    punished: dict[float, Record],
    climates: dict[str, tuple[Record, Record]],
) -> list[str]:
    plain = closed["none"]
    lines = [
        "# Conservation and climate-invariant inputs",
        f"MLPs of {RECIPE['epochs']} epochs of {COLUMNS:,} columns of SPEEDY, no perturbed columns, scored on "
        f"{plain['samples']:,} columns of its test months. `subgrid study physics` makes every number here. A residual "
        "is the sum of a budget's terms, relative to the sum of their sizes, in float64 from float32 outputs.",
        "",
        "## Does the truth close?",
        *_truth(plain),
        "",
        "## Closed budgets",
        "One trained network, its outputs closed by the smallest change in units of their spread (`projection`) or by "
        "one tendency on one level (`level`). Water is closed before energy; what the bound on drying adds to water is "
        "taken from its fluxes.",
        "",
    ]
    rows = [[name, *_residuals(record), *_skill(record, plain)] for name, record in closed.items()]
    skill = ["mean R²", "change"]
    residuals = ["energy, rms W/m²", "largest, relative", "water, rms mm/day", "largest, relative"]
    lines += table(["closed", *residuals, *skill], rows)
    lines += [
        "",
        "## Penalties",
        "The loss becomes (1 − Σa) loss + Σ a r², r a budget's residual beside the truth's, with the same a "
        "for energy and water.",
        "",
    ]
    rows = [[f"{a:g}", *_residuals(record), *_skill(record, plain)] for a, record in {0.0: plain, **punished}.items()]
    lines += table(["a", *residuals, *skill], rows)
    lines += ["", "## Another climate", *_climates(store, climates)]
    return lines


def _truth(record: Record) -> list[str]:
    lines = []
    for name, budget in record["budgets"].items():
        found, scale = budget["truth"], _scale(budget)
        mean, rms = scale * found["mean"], scale * found["rms"]
        lines.append(
            f"- **{name.capitalize()}** ({', '.join(budget['terms'])}): mean {mean:.2g}, rms {rms:.2g} "
            f"{_units(budget)}; within 1e-4 of its terms in {found['closed']:.1%} of columns."
        )
    return lines


def _units(budget: Record) -> str:
    return "mm/day" if budget["units"] == "kg/m2/s" else "W/m²"


def _scale(budget: Record) -> float:
    return 86400.0 if budget["units"] == "kg/m2/s" else 1.0


def _residuals(record: Record) -> list[str]:
    found = []
    for name in ("energy", "water"):
        budget = record["budgets"][name]
        scores = budget["emulator"]
        found += [f"{_scale(budget) * scores['rms']:.2g}", f"{scores['relative_max']:.1e}"]
    return found


def _skill(record: Record, plain: Record) -> list[str]:
    return [f"{_r2(record):.4f}", f"{_r2(record) - _r2(plain):+.4f}"]


def _climates(store: ColumnStore, climates: dict[str, tuple[Record, Record]]) -> list[str]:
    some = next(iter(climates.values()))
    lines = [
        f"Trained on the control climate, scored there and on {some[1]['samples']:,} columns of the same host "
        f"({store.spec.host}) with `host.sst={WARMER}`: mean R², what is lost of it, and R² of some targets.",
        "",
    ]
    rows = []
    for name, pair in climates.items():
        means = [_r2(record) for record in pair]
        each = [" → ".join(f"{record['models']['emulator'][v]['r2']:.3f}" for record in pair) for v in SHOWN]
        rows.append([name, *(f"{m:.4f}" for m in means), f"{means[0] - means[1]:.4f}", *each])
    lines += table(["`emulator.inputs`", "control", "warmer", "lost", *SHOWN], rows)
    return [
        *lines,
        "",
        f"Ridge regression on raw inputs has {_r2(climates['raw'][0], 'ridge'):.4f} in the control climate.",
    ]
