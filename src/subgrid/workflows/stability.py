"""The stability study: which part of the design keeps a coupled run near the control, by ablation."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from subgrid.base.errors import SubgridError
from subgrid.base.files import make_folder, only_writer, read_json, write_json
from subgrid.base.formats import EVALUATION, RUN, read_record
from subgrid.base.logs import log_file
from subgrid.columns.store import open_store
from subgrid.coupling.run import CoupleConfig, couple
from subgrid.emulator.config import EmulatorConfig
from subgrid.evaluation.offline import EvaluateConfig, evaluate
from subgrid.report.study import stability_page
from subgrid.training.fit import TrainConfig, fit
from subgrid.training.rollout import RolloutConfig, finetune
from subgrid.workflows.stores import store_with_terms

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
    variables: str = "speedy"
    tuned_from: str = ""  # a network of this name, fine-tuned over rollouts

    @property
    def terms(self) -> bool:
        """Whether it needs a store with the tendencies of each process."""
        return self.variables != "speedy"


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
    Trained("plain-loss", recipe={"energy_weight": 0.0}),
    Trained("energy-loss", recipe={"energy_weight": 1.0}),
    Trained("no-diffusion", variables="speedy_keep_diffusion"),
    Trained("rollout", tuned_from="design-s0"),
    Trained("unet", architecture="unet", recipe={"epochs": 4}),  # about the time of the MLP's fourteen epochs
)
RUNS = (
    Coupled("design-s0", "design-s0", "the design (seed 0)", days=365),
    Coupled("design-s1", "design-s1", "the design, seed 1"),
    Coupled("design-s2", "design-s2", "the design, seed 2"),
    Coupled("free", "design-s0", "the design without any bound", FREE),
    Coupled("climate", "climate", "without perturbed columns", days=365),
    Coupled("climate-tight", "climate", "without perturbed columns, tight bounds", TIGHT),
    Coupled("climate-tight-condense", "climate", "the same with condensation above 102 %", {**TIGHT, **CONDENSE}),
    Coupled("noise-free", "noise", "input noise 0.1 instead of perturbed columns", FREE),
    Coupled("humidity-free", "humidity", "relative humidity only, no bounds", FREE),
    Coupled(
        "humidity-tight-condense", "humidity", "relative humidity only, tight, condensation", {**TIGHT, **CONDENSE}
    ),
    Coupled("raw-free", "raw", "specific humidity, no bounds", FREE),
    Coupled("raw-tight-condense", "raw", "specific humidity, tight, condensation", {**TIGHT, **CONDENSE}),
    Coupled("projection", "design-s0", "the design, water closed by projection", {"water": "projection"}),
    Coupled("rain", "design-s0", "the design, water closed by precipitation", {"water": "precipitation"}),
    Coupled("surface", "design-s0", "the design, host's own surface fluxes", keep="surface"),
    Coupled("energy", "design-s0", "the design, energy closed by projection", {"energy": "projection"}),
    Coupled("no-diffusion", "no-diffusion", "the design, host's own vertical diffusion"),
    Coupled("plain-loss", "plain-loss", "the design, every normalised channel weighs alike"),
    Coupled("energy-loss", "energy-loss", "the design, loss weighted by variance and mass"),
    Coupled("rollout", "rollout", "the design, fine-tuned over 6 coupled steps", days=365),
    Coupled("raw-perturbed-free", "raw-perturbed", "specific humidity, perturbed columns, no bounds", FREE),
    Coupled("unet", "unet", "U-Net in place of the MLP, trained as long"),
)


def stability(store: Path, out: Path, docs: Path | None = None) -> Path:
    """Train, score and couple every variant (finished ones are reused), then write ``stability.md`` and figures.

    Args:
        store: two years of columns with restarts (``subgrid data generate``).
        out: folder of all runs.
        docs: where the page goes (None: ``out``).

    Raises:
        SubgridError: the store is unusable, or holds no restarts to couple from.
    """
    if not (open_store(store).local() / "restarts").is_dir():
        raise SubgridError(f"{store} holds no restarts: make it with `subgrid data generate`")
    make_folder(out)
    with only_writer(out / "study"), log_file(out, "stability"):
        networks = {one.name: one for one in NETWORKS}
        for run in RUNS:
            network = networks[run.network]
            columns = store_with_terms(open_store(store), out) if network.terms else store
            _train(network, columns, out)
            _couple(run, columns, out)
    return write_page(out, docs or out)


def write_page(out: Path, docs: Path) -> Path:
    """Write ``stability.json`` and the page from the runs below ``out`` that are finished.

    Raises:
        SubgridError: none is.
    """
    finished = [r for r in RUNS if (out / "coupled" / r.name / "metrics.json").exists()]
    if not finished:
        raise SubgridError(f"{out} has no finished run: run `subgrid study stability`")
    results = {
        "start": START,
        "rows": [_row(run, out) for run in finished],
        "rollout": _rollout(out / "runs" / "rollout"),
    }
    write_json(out / "stability.json", results)
    return stability_page(results, {r.name: out / "coupled" / r.name for r in finished}, docs)


def _rollout(run: Path) -> dict[str, Any] | None:
    """How the error of the coupled state fell in fine-tuning: means over the first and last tenth of its iterations."""
    if not (run / "metrics.json").exists():
        return None
    metrics = read_json(run / "metrics.json")
    losses = [one["rollout_loss"] for one in metrics["losses"]]
    tenth = max(1, len(losses) // 10)
    return {
        "steps": read_record(run / "config.json", RUN)["steps"],
        "iterations": len(losses),
        "seconds": metrics["seconds"],
        "first": fmean(losses[:tenth]),
        "last": fmean(losses[-tenth:]),
    }


def _train(one: Trained, store: Path, out: Path) -> None:
    run, scored = out / "runs" / one.name, out / "evaluation" / one.name
    logger.info("study: network %s", one.name)
    if one.tuned_from:
        finetune(RolloutConfig(emulator=str(out / "runs" / one.tuned_from), data=str(store)), run)
    else:
        fit(_config(one, store), run)
    if not (scored / "scores.json").exists():
        evaluate(EvaluateConfig(emulator=str(run), data=str(store)), scored)


def _config(one: Trained, store: Path) -> TrainConfig:
    return TrainConfig(
        data=str(store),
        architecture=one.architecture,
        emulator=EmulatorConfig(**one.emulator),
        recipe_settings=one.recipe,
        seed=one.seed,
        perturbed=one.perturbed,
        variables=one.variables,
    )


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
    scores = read_record(out / "evaluation" / run.network / "scores.json", EVALUATION)["models"]["emulator"]
    kept = (
        "days",
        "finite",
        "first_unstable_day",
        "unstable",
        "periods",
        "counters",
        "energy_residual_W_m2",
        "water_residual_W_m2",
    )
    return {
        "name": run.name,
        "text": run.text,
        "network": run.network,
        "r2": {name: scores[name]["r2"] for name in ("temperature_tendency", "specific_humidity_tendency")},
        **{key: metrics.get(key) for key in kept},
    }
