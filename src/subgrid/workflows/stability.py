"""The stability study: which part of the design keeps a coupled run near the control, by ablation."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subgrid.base.files import make_folder, only_writer, read_json, write_json
from subgrid.coupling.run import CoupleConfig, couple
from subgrid.emulator.config import EmulatorConfig
from subgrid.evaluation.offline import EvaluateConfig, evaluate
from subgrid.report.study import stability_page
from subgrid.training.fit import TrainConfig, fit

logger = logging.getLogger("subgrid")
START = "2002-01-01"
FREE = {"clip_inputs": False, "clip_outputs": False}
TIGHT = {"clip_margin": 0.0}
CONDENSE = {"condense": True}


@dataclass(frozen=True)
class Trained:
    """One trained network: what differs from the demo's."""

    name: str
    emulator: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    architecture: str = "mlp"
    seed: int = 0
    perturbed: bool = True


@dataclass(frozen=True)
class Coupled:
    """One coupled run of a trained network, with bounds and constraints of its own."""

    name: str
    network: str
    text: str
    constraints: dict[str, Any] = field(default_factory=dict)
    keep: str = "none"
    days: int = 90


RAW, HUMIDITY = {"inputs": "raw"}, {"inputs": "relative_humidity"}
NETWORKS = (
    Trained("design-s0"),
    Trained("design-s1", seed=1),
    Trained("design-s2", seed=2),
    Trained("climate", perturbed=False),
    Trained("raw", RAW, perturbed=False),
    Trained("humidity", HUMIDITY, perturbed=False),
    Trained("raw-perturbed", RAW),
    Trained("noise", recipe={"input_noise": 0.1}, perturbed=False),
    Trained("unet", architecture="unet", recipe={"epochs": 4}),  # about the time of the MLP's fourteen epochs
)
RUNS = (
    Coupled("design-s0", "design-s0", "the design (seed 0)", days=365),
    Coupled("design-s1", "design-s1", "the design, seed 1"),
    Coupled("design-s2", "design-s2", "the design, seed 2"),
    Coupled("free", "design-s0", "the design without any bound", FREE),
    Coupled("climate", "climate", "without perturbed columns", days=365),
    Coupled("climate-tight", "climate", "without perturbed columns, tight bounds", TIGHT),
    Coupled("climate-tight-condense", "climate", "the same, and condensation above 102 %", {**TIGHT, **CONDENSE}),
    Coupled("noise-free", "noise", "input noise 0.1 instead of perturbed columns", FREE),
    Coupled("humidity-free", "humidity", "relative humidity only, no bounds", FREE),
    Coupled("humidity-tight-condense", "humidity", "the same, tight bounds, condensation", {**TIGHT, **CONDENSE}),
    Coupled("raw-free", "raw", "specific humidity, no bounds", FREE),
    Coupled("raw-tight-condense", "raw", "the same, tight bounds, condensation", {**TIGHT, **CONDENSE}),
    Coupled("projection", "design-s0", "the design, water closed by projection", {"water": "projection"}),
    Coupled("rain", "design-s0", "the design, water closed by precipitation", {"water": "precipitation"}),
    Coupled("surface", "design-s0", "the design, host's own surface fluxes", keep="surface"),
    Coupled("raw-perturbed-free", "raw-perturbed", "specific humidity, perturbed columns, no bounds", FREE),
    Coupled("unet", "unet", "U-Net in place of the MLP, trained as long"),
)


def stability(store: Path, out: Path, docs: Path | None = None) -> Path:
    """Train, score and couple every variant (finished ones are reused), then write ``stability.md`` and figures.

    Args:
        store: two years of columns with restarts (``subgrid data generate``).
        out: folder of all runs.
        docs: where the page goes (None: ``out``).
    """
    make_folder(out)
    with only_writer(out / "study"):
        networks = {one.name: one for one in NETWORKS}
        for run in RUNS:
            _train(networks[run.network], store, out)
            _couple(run, store, out)
    return write_page(out, docs or out)


def write_page(out: Path, docs: Path) -> Path:
    """Write ``stability.json`` and the page from the runs below ``out`` that are finished."""
    finished = [r for r in RUNS if (out / "coupled" / r.name / "metrics.json").exists()]
    results = {"start": START, "rows": [_row(run, out) for run in finished]}
    write_json(out / "stability.json", results)
    return stability_page(results, {r.name: out / "coupled" / r.name for r in finished}, docs)


def _train(one: Trained, store: Path, out: Path) -> None:
    run, scored = out / "runs" / one.name, out / "evaluation" / one.name
    logger.info("study: network %s", one.name)
    config = TrainConfig(
        data=str(store),
        architecture=one.architecture,
        emulator=EmulatorConfig(**one.emulator),
        recipe_settings=one.recipe,
        seed=one.seed,
        perturbed=one.perturbed,
    )
    fit(config, run)
    if not (scored / "scores.json").exists():
        evaluate(EvaluateConfig(emulator=str(run), data=str(store)), scored)


def _couple(run: Coupled, store: Path, out: Path) -> None:
    logger.info("study: coupled run %s", run.name)
    config = CoupleConfig(
        emulator=str(out / "runs" / run.network),
        data=str(store),
        start=START,
        days=run.days,
        timings=False,
        constraints=run.constraints,
        keep=run.keep,
    )
    couple(config, out / "coupled" / run.name)


def _row(run: Coupled, out: Path) -> dict[str, Any]:
    metrics = read_json(out / "coupled" / run.name / "metrics.json")
    scores = read_json(out / "evaluation" / run.network / "scores.json")["models"]["emulator"]
    kept = ("days", "finite", "first_unstable_day", "unstable", "periods", "counters")
    return {
        "name": run.name,
        "text": run.text,
        "network": run.network,
        "r2": {name: scores[name]["r2"] for name in ("temperature_tendency", "specific_humidity_tendency")},
        **{key: metrics.get(key) for key in kept},
    }
