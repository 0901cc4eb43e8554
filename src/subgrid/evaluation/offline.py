"""Offline scores on held-out columns: what the emulator predicts, beside two floors, in native units and W/m2."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from subgrid.base.datasets import write_dataset
from subgrid.base.errors import SubgridError, UsageError, require_seed
from subgrid.base.files import only_writer
from subgrid.base.formats import EVALUATION, write_record
from subgrid.base.logs import log_file
from subgrid.base.progress import Progress
from subgrid.base.provenance import versions
from subgrid.columns.store import ColumnStore, Split, open_store
from subgrid.columns.variables import offsets, profiles
from subgrid.emulator.base import ColumnEmulator
from subgrid.emulator.emulator import Emulator
from subgrid.emulator.files import load_for_store, require_emulator
from subgrid.evaluation.budgets import TRUTH, BudgetScores
from subgrid.evaluation.energy import air_mass, energy_factors
from subgrid.evaluation.floors import Predictor, mean_predictor, ridge_predictor
from subgrid.evaluation.members import member_scores, members_of
from subgrid.evaluation.metrics import METRICS, STANDARD, chosen
from subgrid.evaluation.predict import emulator_predictor
from subgrid.evaluation.sections import SectionSums, zonal_rows
from subgrid.evaluation.sureness import confidence_scores
from subgrid.scores.pointwise import PointwiseScores, channel_weights

logger = logging.getLogger("subgrid")


@dataclass(frozen=True)
class EvaluateConfig:
    """An offline evaluation.

    Args:
        emulator: run folder, emulator folder, or a published network's TorchScript file.
        data: column store.
        split: which columns.
        metrics: comma list of further sets of metrics (see :mod:`subgrid.evaluation.metrics`).
        variables: what a TorchScript file reads; empty for folders.
        trust: load the TorchScript file of a folder that holds a published network.
        constraints: settings of the emulator to change for these scores (bounds and constraints).
        members: draws of a network that gives a distribution (None: 32, or all that it has; 0: none).
        seed: of the draws.
    """

    emulator: str
    data: str
    split: str = "test"
    metrics: str = STANDARD
    variables: str = ""
    trust: bool = False
    constraints: dict[str, Any] = field(default_factory=dict)
    members: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_seed(self.seed)
        if self.members is not None and (type(self.members) is not int or self.members < 0 or self.members == 1):
            raise UsageError(f"members={self.members} must be at least 2 (or 0: draw none)")


class _Scored:
    """One model's accumulators: native units, and W/m2 for the variables that have an energy meaning."""

    def __init__(self, emulator: ColumnEmulator) -> None:
        levels = emulator.levels
        self.sizes = {v.name: v.width(levels) for v in emulator.variables.targets}
        self.native, self.energy = PointwiseScores(self.sizes), PointwiseScores(self.sizes)

    def update(
        self,
        prediction: NDArray[np.float64],
        truth: NDArray[np.float64],
        weight: NDArray[np.float64],
        mass: NDArray[np.float64],
        factor: NDArray[np.float64],
    ) -> None:
        self.native.update(prediction, truth, channel_weights(self.sizes, weight, mass))
        self.energy.update(prediction * factor, truth * factor, weight)

    def result(self, energetic: set[str]) -> dict[str, Any]:
        native, energy = self.native.result(), self.energy.result()
        found = {}
        for name, scores in native.items():
            entry = scores.to_dict()
            watts = energy[name].to_dict()
            for key in ("mae", "rmse", "bias"):
                entry[f"{key}_energy"] = watts[key] if name in energetic else None
            found[name] = entry
        return found


def evaluate(config: EvaluateConfig, out: Path | str) -> dict[str, Any]:
    """Score an emulator, the training mean and a ridge regression on a split; writes ``scores.json`` and ``sections``.

    The two floors are left out where the store has no split ``train``.

    R2 = 1 - sum w (y - yhat)^2 / sum w (y - ybar)^2 over columns, times and levels, with w = layer mass x area /
    sampling probability and ybar the split's weighted mean per level.

    Raises:
        UsageError: the store lacks a variable or split.
        SubgridError: unreadable inputs.
    """
    out, further = Path(out), chosen(config.metrics)
    require_emulator(config.emulator)
    store = open_store(config.data)
    split = store[config.split]  # before the work, and before a stranger's file executes
    emulator = load_for_store(config.emulator, store, config.variables, config.trust, **config.constraints)
    store.require(emulator.variables)
    if store.grid.levels != emulator.levels:
        raise SubgridError(
            f"{config.data} has {store.grid.levels} levels, the emulator {emulator.levels}: evaluate it on a "
            "store with its own levels"
        )
    members = members_of(emulator, config.members)
    with only_writer(out), log_file(out, "evaluate"):
        predictors = _predictors(emulator, store)
        scored, sections, budgets = _score(emulator, store, split, predictors)
        energetic = {v.name for v in emulator.variables.targets if v.energy}
        models = {name: model.result(energetic) for name, model in scored.items()}
        (out / "scores.json").unlink(missing_ok=True)  # written last, it says "finished": not of older sections
        _write_sections(out / "sections", emulator, store, sections)
        scores = {
            "split": config.split,
            "samples": split.samples,
            "columns": store.grid.columns,
            "constant_channels": int(sum(v["n_constant"] for v in models["emulator"].values())),
            "levels_sigma": list(store.grid.vertical.sigma_levels),
            "variables": {
                v.name: {
                    "kind": v.kind,
                    "units": v.units,
                    "long_name": v.long_name,
                    "energy_units": "W/m2" if v.energy else None,
                }
                for v in emulator.variables.targets
            },
            "models": models,
            "budgets": budgets.result(),
            "metrics": {name: METRICS[name].score(emulator, store, split, out) for name in further},
            "members": member_scores(cast(Emulator, emulator), split, members, config.seed) if members else None,
            "confidence": confidence_scores(emulator, split),
            "emulator": str(config.emulator),
            **({"constraints": config.constraints} if config.constraints else {}),
            "data": str(config.data),
            "versions": versions(),
        }
        write_record(out / "scores.json", EVALUATION, scores)
        return scores


def _predictors(emulator: ColumnEmulator, store: ColumnStore) -> dict[str, Predictor]:
    """The emulator, and the floors where the store has columns to fit them on."""
    found = {"emulator": emulator_predictor(emulator)}
    if "train" not in store.split_names:
        logger.info("evaluate: %s has no split 'train', so there are no floors beside the emulator", store.path)
        return found
    train = store["train"]
    return {**found, "ridge": ridge_predictor(emulator, train), "mean": mean_predictor(emulator, train)}


def _score(
    emulator: ColumnEmulator, store: ColumnStore, split: Split, predictors: dict[str, Predictor]
) -> tuple[dict[str, _Scored], SectionSums, BudgetScores]:
    scored = {name: _Scored(emulator) for name in predictors}
    inputs, targets = emulator.variables.inputs, emulator.variables.targets
    latitudes, row_of = zonal_rows(store.grid)
    channels = sum(v.width(store.grid.levels) for v in targets)
    sections, budgets = SectionSums(len(latitudes), channels), BudgetScores(emulator, ("emulator",))
    with Progress("evaluate", split.blocks, "blocks") as bar:
        for block in range(split.blocks):
            x = split.read_variables(inputs, block)
            truth = split.read_variables(targets, block).astype(np.float64)
            weight = split.read("weight", block).astype(np.float64)
            mass = air_mass(emulator.variables, x, store.grid.vertical)
            factor = energy_factors(emulator.variables, x, mass)
            for name, predict in predictors.items():
                prediction = predict(x)
                scored[name].update(prediction, truth, weight, mass, factor)
                if name == "emulator":
                    row = row_of[split.read("column", block)]
                    sections.update(prediction, truth, np.broadcast_to(weight[:, None], truth.shape), row)
                    budgets.update("emulator", x, prediction, weight)
                    budgets.update(TRUTH, x, truth, weight)
            bar.update(1)
    return scored, sections, budgets


def _write_sections(path: Path, emulator: ColumnEmulator, store: ColumnStore, sections: SectionSums) -> None:
    levels = store.grid.levels
    place = offsets(emulator.variables.targets, levels)
    found = {
        f"{kind}_{variable.name}": (("latitude", "level"), values[:, place[variable.name]])
        for kind, values in sections.result().items()
        for variable in profiles(emulator.variables.targets)
    }
    dataset = xr.Dataset(
        found,
        coords={
            "latitude": zonal_rows(store.grid)[0],
            "sigma": ("level", np.asarray(store.grid.vertical.sigma_levels)),
        },
    )
    write_dataset(path, dataset)
