"""Sweeps: many training runs with their evaluations, side by side in processes or on SLURM; any cut sweep goes on."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from subgrid.base.errors import SubgridError, UsageError, unknown_name
from subgrid.base.files import is_held, make_folder, only_writer, read_json, write_json
from subgrid.base.formats import EVALUATION, SWEEP, read_record, write_record
from subgrid.base.logs import log_file
from subgrid.base.progress import Progress
from subgrid.evaluation.offline import EvaluateConfig, evaluate
from subgrid.training.fit import TrainConfig, fit, require_same_config
from subgrid.training.processes import this_process

logger = logging.getLogger("subgrid")
LAUNCHERS = ("local", "slurm", "debug")
PLAN, RECORD, JOBS = "sweep.json", "cell.json", "jobs"
#: States of a cell, in the order in which a report counts them.
STATES = ("finished", "running", "waiting", "failed")
#: Seconds between looks at the running cells, and between questions to SLURM whether it still knows a job.
POLL, ASK_SLURM = 0.5, 60.0
#: Minutes that submitit gives a local cell; it would give two.
LOCAL_MINUTES = 60 * 24 * 30


@dataclass(frozen=True)
class SweepConfig:
    """How a sweep runs.

    Args:
        out: folder of all cells, one run folder each.
        launcher: ``local`` (processes), ``slurm``, or ``debug`` (one cell after the other in this process).
        workers: cells at a time; 0: one, on SLURM all of them.
        retries: how often a cell that failed is tried again; a request that is wrong in itself is not.
        split, metrics: of each cell's evaluation.
        slurm: what submitit hands to SLURM, such as ``{"slurm_partition": "gpu", "timeout_min": 240}``.
    """

    out: str
    launcher: str = "local"
    workers: int = 0
    retries: int = 1
    split: str = "test"
    metrics: str = "standard"
    slurm: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.launcher not in LAUNCHERS:
            raise unknown_name("launcher", self.launcher, LAUNCHERS)
        for name in ("workers", "retries"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name}={getattr(self, name)} must not be negative")


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: the name of its folder, and what it trains."""

    name: str
    train: TrainConfig

    def about(self) -> dict[str, Any]:
        """What a table of cells shows."""
        return {
            "architecture": self.train.architecture,
            "recipe": self.train.recipe,
            "seed": self.train.seed,
            "size": self.train.size,
            "variables": self.train.variables,
        }


def run_cell(cell: Cell, config: SweepConfig, threads: int, watched: int) -> dict[str, Any]:
    """Train and evaluate a cell, and keep what became of it in ``cell.json``; called in a process of its own.

    Args:
        cell: what to do.
        config: of the sweep.
        threads: of torch; 0: as torch chooses.
        watched: process without which this one ends; 0: none.

    Returns:
        ``error`` (None: it is finished), ``again`` (whether another try can help), ``seconds``; of several processes
        that train the cell together only the first tells.
    """
    if watched:
        threading.Thread(target=_end_without, args=(watched,), daemon=True).start()
    if threads:
        torch.set_num_threads(threads)
    folder, started = Path(config.out) / cell.name, time.monotonic()
    error, again = None, True
    if this_process(cell.train.accelerator, cell.train.devices, cell.train.num_nodes).rank:
        fit(cell.train, folder)
        return {}  # process 0 tells what became of the cell
    try:
        with only_writer(folder / "cell"):
            fit(cell.train, folder)
            if not (folder / "evaluation" / "scores.json").exists():
                scored = EvaluateConfig(str(folder), cell.train.data, config.split, config.metrics)
                evaluate(scored, folder / "evaluation")
    except Exception as failure:
        # a wrong request stays wrong; what is no error of ours is in the log with its trace
        error, again = f"{type(failure).__name__}: {failure}", not isinstance(failure, UsageError)
        if not isinstance(failure, SubgridError):
            logger.exception("sweep: %s failed", cell.name)
    told = {"error": error, "again": again, "seconds": round(time.monotonic() - started, 1)}
    _remember(folder, told)
    return told


def _end_without(process: int) -> None:
    """End this process as soon as ``process`` is gone: the sweep that is begun again does not meet it."""
    while True:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            os._exit(1)
        time.sleep(1.0)


def _remember(folder: Path, told: dict[str, Any]) -> None:
    """Keep ``told`` of a cell, beside what is known already."""
    make_folder(folder)
    write_json(folder / RECORD, {**_remembered(folder), **told})


def _remembered(folder: Path) -> dict[str, Any]:
    return dict(read_json(folder / RECORD)) if (folder / RECORD).exists() else {}


def run_sweep(
    config: SweepConfig, cells: Sequence[Cell], finished: Callable[[Cell], object] | None = None
) -> dict[str, Any]:
    """Train and evaluate every cell that is not finished; returns :func:`sweep_status`.

    A cell that fails is a result with its error. Cells of earlier sweeps in the folder stay. ``finished`` is called, in
    this process, with every cell that is finished, those of an earlier sweep first.

    Raises:
        UsageError: two cells of one name, or settings that submitit does not take.
        SubgridError: a cell's folder was begun with other settings, another sweep works there, or SLURM is not here.
    """
    out = Path(config.out)
    repeated = [name for name, count in Counter(cell.name for cell in cells).items() if count > 1]
    if repeated:
        raise UsageError(f"sweep: {', '.join(repeated)} is asked for more than once")
    for cell in cells:
        parts = cell.train.devices * cell.train.num_nodes
        if parts > 1 and config.launcher != "slurm":
            raise UsageError(
                f"sweep: {cell.name} wants {parts} processes, which only launcher=slurm with slurm.tasks_per_node="
                f"{cell.train.devices} slurm.nodes={cell.train.num_nodes} starts; train it with subgrid train"
            )
        if (out / cell.name / "config.json").exists():
            require_same_config(cell.train, out / cell.name)
    with only_writer(out):
        executor = _executor(config)
        with log_file(out, "sweep"):
            held = read_record(out / PLAN, SWEEP)["cells"] if (out / PLAN).exists() else {}
            write_record(out / PLAN, SWEEP, {"cells": {**held, **{cell.name: cell.about() for cell in cells}}})
            open_cells = [cell for cell in cells if cell_state(out / cell.name) != "finished"]
            for cell in cells:
                if finished is not None and cell not in open_cells:
                    finished(cell)
            with Progress("sweep", len(cells), "cells", done=len(cells) - len(open_cells)) as bar:
                _Jobs(config, executor, bar, finished).work(open_cells)
            return sweep_status(out)


def _executor(config: SweepConfig) -> Any:
    """Submitit's, with its logs and pickled calls in ``jobs`` below the sweep."""
    folder = make_folder(Path(config.out)) / JOBS
    import submitit

    logging.getLogger("submitit").handlers.clear()  # it speaks on standard output, which is the result's
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=config.launcher)
        minutes = {"timeout_min": LOCAL_MINUTES} if config.launcher == "local" else {}
        executor.update_parameters(**{**minutes, "name": "subgrid", **config.slurm})
    except RuntimeError as error:
        raise SubgridError(f"launcher={config.launcher}: {error}; use launcher=local") from error
    except (ValueError, NameError, TypeError) as error:
        raise UsageError(f"sweep: {error}") from error
    return executor


class _Jobs:
    """Hands cells to the executor, so many at a time, and takes what comes back."""

    def __init__(
        self, config: SweepConfig, executor: Any, bar: Progress, finished: Callable[[Cell], object] | None
    ) -> None:
        self.config, self.executor, self.bar, self.finished = config, executor, bar, finished
        self.out = Path(config.out)
        self.tries: Counter[str] = Counter()
        self.running: dict[str, tuple[Cell, Any]] = {}
        self.asked = time.monotonic()

    def work(self, cells: Sequence[Cell]) -> None:
        """Until every cell is finished or has failed for good; a break ends the running ones."""
        waiting = deque(cells)
        limit = self.config.workers or (len(cells) if self.config.launcher == "slurm" else 1)
        try:
            while waiting or self.running:
                while waiting and len(self.running) < limit:
                    self._submit(waiting.popleft())
                over = [name for name, (_, job) in self.running.items() if job.done()] or self._lost()
                for name in over:
                    waiting.extend(self._take(*self.running.pop(name)))
                if not over:
                    time.sleep(POLL)
        except BaseException:
            for _, job in self.running.values():
                job.cancel()
            raise

    def _submit(self, cell: Cell) -> None:
        self.tries[cell.name] += 1
        folder = self.out / cell.name
        job = self._earlier(folder)
        if job is None:
            local = self.config.launcher == "local"
            threads = max(1, (os.cpu_count() or 1) // max(1, self.config.workers)) if local else 0
            job = self.executor.submit(run_cell, cell, self.config, threads, os.getpid() if local else 0)
            tried = int(_remembered(folder).get("tries", 0)) + 1
            _remember(folder, {"tries": tried, "job": str(job.job_id), "launcher": self.config.launcher, "error": None})
        self.running[cell.name] = (cell, job)

    def _earlier(self, folder: Path) -> Any:
        """The job of a sweep that was cut, if SLURM still has it."""
        import submitit

        known = _remembered(folder)
        if self.config.launcher != "slurm" or known.get("launcher") != "slurm" or not _in_slurm(known["job"]):
            return None
        logger.info("sweep: %s is still job %s of SLURM", folder.name, known["job"])
        return submitit.SlurmJob(folder=self.out / JOBS, job_id=known["job"])

    def _lost(self) -> list[str]:
        """Cells whose job SLURM no longer knows: where it keeps no accounts, submitit would wait for them."""
        if self.config.launcher != "slurm" or time.monotonic() - self.asked < ASK_SLURM:
            return []
        self.asked = time.monotonic()
        return [name for name, (_, job) in self.running.items() if not _in_slurm(job.job_id)]

    def _take(self, cell: Cell, job: Any) -> list[Cell]:
        """What a job left; the cell again if it is to be tried again."""
        told = self._result(job)
        if told is None:
            told = {"error": f"its process ended without a result, see {job.paths.stderr}", "again": True}
            _remember(self.out / cell.name, told)
        if told["error"] is None:
            if self.finished is not None:
                self.finished(cell)
            self.bar.update(1, cell.name)
            return []
        if told["again"] and self.tries[cell.name] <= self.config.retries:
            logger.warning("sweep: %s failed (%s), it is tried again", cell.name, told["error"])
            return [cell]
        logger.warning("sweep: %s failed: %s", cell.name, told["error"])
        self.bar.update(1, cell.name)
        return []

    def _result(self, job: Any) -> dict[str, Any] | None:
        """What :func:`run_cell` gave; None where its process died: killed, out of memory, out of time."""
        if self.config.launcher == "local" and not job.paths.result_pickle.exists():
            return None  # submitit would wait for a file system to show it
        try:
            return dict(job.results()[0])
        except Exception:  # submitit's own, or whatever unpickling meets
            logger.debug("sweep: job %s", job.job_id, exc_info=True)
            return None


def _in_slurm(job: str) -> bool:
    """Whether SLURM's queue has a job."""
    found = subprocess.run(["squeue", "--noheader", "--jobs", job], capture_output=True, text=True)
    return found.returncode == 0 and bool(found.stdout.strip())


def cell_state(folder: Path) -> str:
    """One of :data:`STATES`, from the files of a cell."""
    if (folder / "metrics.json").exists() and (folder / "evaluation" / "scores.json").exists():
        return "finished"
    if is_held(folder / "cell"):
        return "running"
    return "failed" if _remembered(folder).get("error") else "waiting"


def sweep_status(out: Path | str) -> dict[str, Any]:
    """What became of every cell: ``counts`` by state, and ``cells``.

    Each cell has its settings, ``state``, ``tries``, ``error``, and if it is finished ``seconds``, ``parameters`` and
    ``r2`` (the mean over the targets that vary) beside ``ridge_r2``.

    Raises:
        SubgridError: ``out`` holds no sweep.
    """
    out = Path(out)
    if not (out / PLAN).exists():
        raise SubgridError(f"{out} holds no sweep ({PLAN} is missing): begin one with `subgrid sweep`")
    cells = {}
    for name, about in read_record(out / PLAN, SWEEP)["cells"].items():
        folder = out / name
        state, known = cell_state(folder), _remembered(folder)
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
