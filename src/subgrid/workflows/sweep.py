"""Sweeps: many training runs with their evaluations, side by side; any cut one goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from subgrid.base.files import read_json
from subgrid.base.formats import EVALUATION, read_record
from subgrid.evaluation.offline import EvaluateConfig, evaluate
from subgrid.training.fit import TrainConfig, fit, require_same_config
from subgrid.training.processes import this_process
from subgrid.workflows.jobs import STATES, Launch, job_state, planned, remembered, run_jobs


@dataclass(frozen=True)
class SweepConfig(Launch):
    """How a sweep runs.

    Args:
        split, metrics: of each cell's evaluation.
    """

    split: str = "test"
    metrics: str = "standard"


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: the name of its folder, what it trains, and how it is scored."""

    name: str
    train: TrainConfig
    split: str = "test"
    metrics: str = "standard"

    @property
    def processes(self) -> int:
        """That train it together."""
        return self.train.devices * self.train.num_nodes

    @property
    def rank(self) -> int:
        """This process's place among them."""
        return this_process(self.train.accelerator, self.train.devices, self.train.num_nodes).rank

    def about(self) -> dict[str, Any]:
        """What a table of cells shows."""
        return {
            "architecture": self.train.architecture,
            "recipe": self.train.recipe,
            "seed": self.train.seed,
            "size": self.train.size,
            "variables": self.train.variables,
        }

    def check(self, folder: Path) -> None:
        """Refuse a run folder of other settings."""
        if (folder / "config.json").exists():
            require_same_config(self.train, folder)

    def work(self, folder: Path) -> None:
        """Train and evaluate."""
        fit(self.train, folder)
        if not self.rank and not (folder / "evaluation" / "scores.json").exists():
            scored = EvaluateConfig(str(folder), self.train.data, self.split, self.metrics)
            evaluate(scored, folder / "evaluation")

    def finished(self, folder: Path) -> bool:
        """Whether it is trained and scored."""
        return _finished(folder)


def _finished(folder: Path) -> bool:
    return (folder / "metrics.json").exists() and (folder / "evaluation" / "scores.json").exists()


def run_sweep(
    config: SweepConfig, cells: Sequence[Cell], finished: Callable[[Cell], object] | None = None
) -> dict[str, Any]:
    """Train and evaluate every cell that is not finished; returns :func:`sweep_status`.

    See :func:`subgrid.workflows.jobs.run_jobs`.
    """
    scored = [replace(cell, split=config.split, metrics=config.metrics) for cell in cells]
    run_jobs(config, scored, "sweep", finished)
    return sweep_status(config.out)


def sweep_status(out: Path | str) -> dict[str, Any]:
    """What became of every cell: ``counts`` by state, and ``cells``.

    Each cell has its settings, ``state``, ``tries``, ``error``, and if it is finished ``seconds``, ``parameters`` and
    ``r2`` (the mean over the targets that vary) beside ``ridge_r2``.

    Raises:
        SubgridError: ``out`` holds no sweep.
    """
    cells = {}
    for name, about in planned(out, "sweep").items():
        folder = Path(out) / name
        state, known = job_state(folder, _finished(folder)), remembered(folder)
        cells[name] = {**about, "state": state, "tries": known.get("tries", 0), "error": known.get("error")}
        if state == "finished":
            cells[name].update(_scores(folder), seconds=known.get("seconds"))
    counts = Counter(cell["state"] for cell in cells.values())
    return {"out": str(out), "counts": {state: counts[state] for state in STATES}, "cells": cells}


def _scores(folder: Path) -> dict[str, Any]:
    models = read_record(folder / "evaluation" / "scores.json", EVALUATION)["models"]
    found: dict[str, Any] = {"parameters": read_json(folder / "metrics.json")["parameters"]}
    for key, model in (("r2", "emulator"), ("ridge_r2", "ridge")):
        values = [v["r2"] for v in models.get(model, {}).values() if v["r2"] is not None]
        found[key] = sum(values) / len(values) if values else None
    return found


def status_lines(status: dict[str, Any]) -> list[str]:
    """The table that a terminal shows."""
    counts = ", ".join(f"{number} {state}" for state, number in status["counts"].items() if number)
    lines = [f"{status['out']}: {len(status['cells'])} cells, {counts}"]
    width = max((len(name) for name in status["cells"]), default=4)
    for name, cell in status["cells"].items():
        said = cell["error"] or ""
        if cell["state"] == "finished":
            mean = "--" if cell["r2"] is None else f"{cell['r2']:.4f}"
            said = f"mean R2 {mean}, {cell['parameters']:,d} parameters, {cell['seconds']} s"
        lines.append(f"{name:{width}s}  {cell['state']:9s} {said}")
    return lines
