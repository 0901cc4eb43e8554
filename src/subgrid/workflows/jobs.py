"""Many jobs side by side in processes, on dask or on SLURM; each keeps what became of it, and a cut set goes on."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from subgrid.base.errors import SubgridError, UsageError, unknown_name
from subgrid.base.files import is_held, make_folder, only_writer, read_json, write_json
from subgrid.base.formats import SWEEP, read_record, write_record
from subgrid.base.logs import log_file
from subgrid.base.progress import Progress

logger = logging.getLogger("subgrid")
LAUNCHERS = ("local", "dask", "slurm", "debug")
PLAN, JOBS = "sweep.json", "jobs"
#: States of a job, in the order in which a report counts them.
STATES = ("finished", "running", "waiting", "failed")
#: Seconds between looks at the running jobs, and between questions to SLURM whether it still knows a job.
POLL, ASK_SLURM = 0.5, 60.0
#: Minutes that submitit gives a local job; it would give two.
LOCAL_MINUTES = 60 * 24 * 30


@dataclass(frozen=True)
class Launch:
    """How a set of jobs runs.

    Args:
        out: folder of all jobs, one folder each.
        launcher: ``local`` (processes), ``dask`` (a cluster of dask.distributed), ``slurm``, or ``debug`` (one job
            after the other in this process).
        workers: jobs at a time; 0: one; on dask and SLURM all of them.
        retries: how often a job that failed is tried again; a request that is wrong in itself is not.
        slurm: what submitit hands to SLURM, such as ``{"slurm_partition": "gpu", "timeout_min": 240}``.
        address: of dask's scheduler; empty: a cluster of this machine's processes.
    """

    out: str
    launcher: str = "local"
    workers: int = 0
    retries: int = 1
    slurm: dict[str, Any] = field(default_factory=dict)
    address: str = ""

    def __post_init__(self) -> None:
        if self.launcher not in LAUNCHERS:
            raise unknown_name("launcher", self.launcher, LAUNCHERS)
        for name in ("workers", "retries"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name}={getattr(self, name)} must not be negative")
        if self.address and self.launcher != "dask":
            raise UsageError(f"address={self.address} is of dask: add launcher=dask")


class Job(Protocol):
    """A piece of work with a folder of its own; it can be pickled.

    Attributes:
        name: of its folder.
        processes: that do it together.
        rank: this process's place among them.
    """

    @property
    def name(self) -> str: ...

    @property
    def processes(self) -> int: ...

    @property
    def rank(self) -> int: ...

    def about(self) -> dict[str, Any]:
        """What a table of jobs shows."""
        ...

    def check(self, folder: Path) -> None:
        """Refuse a folder that was begun with other settings."""
        ...

    def work(self, folder: Path) -> None:
        """Do it, or go on with it."""
        ...

    def finished(self, folder: Path) -> bool:
        """Whether it is done."""
        ...


def run_job(job: Job, out: Path, threads: int, watched: int) -> dict[str, Any]:
    """Do a job and keep what became of it in ``jobs/<name>.json``; called in a process of its own.

    Args:
        job: what to do.
        out: folder of all jobs.
        threads: of torch; 0: as torch chooses.
        watched: process of this machine without which this one ends; 0: none.

    Returns:
        ``error`` (None: it is finished), ``again`` (whether another try can help), ``seconds``; of several processes
        that do it together only the first tells.
    """
    if watched:
        threading.Thread(target=_end_without, args=(watched,), daemon=True).start()
        # programs compiled by jax are shared by the jobs of this machine; on another one they might not run
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(out / JOBS / "compiled"))
    if threads:
        torch.set_num_threads(threads)
    folder, started = out / job.name, time.monotonic()
    error, again = None, True
    if job.rank:
        job.work(folder)
        return {}  # process 0 tells what became of it
    try:
        with only_writer(folder / "cell"):
            job.work(folder)
    except Exception as failure:
        # a wrong request stays wrong; what is no error of ours is in the log with its trace
        error, again = f"{type(failure).__name__}: {failure}", not isinstance(failure, UsageError)
        if not isinstance(failure, SubgridError):
            logger.exception("%s failed", job.name)
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
    make_folder(folder.parent / JOBS)
    write_json(_record(folder), {**remembered(folder), **told})


def _record(folder: Path) -> Path:
    """Where what became of a job is kept: not in its own folder, from which a job that begins removes leftovers."""
    return folder.parent / JOBS / f"{folder.name}.json"


def remembered(folder: Path) -> dict[str, Any]:
    """What is kept of a job."""
    file = _record(folder)
    return dict(read_json(file)) if file.exists() else {}


def run_jobs(config: Launch, jobs: Sequence[Job], title: str, finished: Callable[[Any], object] | None = None) -> None:
    """Do every job that is not finished.

    A job that fails is a result with its error. Jobs of earlier sets in the folder stay. ``finished`` is called, in
    this process, with every job that is finished, those of an earlier set first.

    Raises:
        UsageError: two jobs of one name, or settings that the launcher does not take.
        SubgridError: a job's folder was begun with other settings, another set works there, or SLURM is not here.
    """
    out = Path(config.out)
    repeated = [name for name, count in Counter(job.name for job in jobs).items() if count > 1]
    if repeated:
        raise UsageError(f"{title}: {', '.join(repeated)} is asked for more than once")
    for job in jobs:
        if job.processes > 1 and config.launcher != "slurm":
            raise UsageError(
                f"{title}: {job.name} wants {job.processes} processes, which only launcher=slurm with "
                "slurm.tasks_per_node= and slurm.nodes= starts; train it with subgrid train"
            )
        job.check(out / job.name)
    with only_writer(out):
        executor = _executor(config)
        with contextlib.ExitStack() as stack, log_file(out, title):
            if hasattr(executor, "close"):
                stack.callback(executor.close)
            held = read_record(out / PLAN, SWEEP)["cells"] if (out / PLAN).exists() else {}
            write_record(out / PLAN, SWEEP, {"cells": {**held, **{job.name: job.about() for job in jobs}}})
            waiting = [job for job in jobs if not job.finished(out / job.name)]
            for job in jobs:
                if finished is not None and job not in waiting:
                    finished(job)
            with Progress(title, len(jobs), "cells", done=len(jobs) - len(waiting)) as bar:
                _Jobs(config, executor, bar, finished).work(waiting)


def _executor(config: Launch) -> Any:
    """Submitit's, with its logs and pickled calls in ``jobs`` below the sweep."""
    folder = make_folder(Path(config.out)) / JOBS
    if config.launcher == "dask":
        from subgrid.workflows.dask import DaskExecutor

        return DaskExecutor(config.address, config.workers)
    import submitit

    logging.getLogger("submitit").handlers.clear()  # it speaks on standard output, which is the result's
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=config.launcher)
        minutes = {"timeout_min": LOCAL_MINUTES} if config.launcher == "local" else {}
        executor.update_parameters(**{**minutes, "name": "subgrid", **config.slurm})
    except RuntimeError as error:
        raise SubgridError(f"launcher={config.launcher}: {error}; use launcher=local") from error
    except (ValueError, NameError, TypeError) as error:
        raise UsageError(f"launcher={config.launcher}: {error}") from error
    return executor


class _Jobs:
    """Hands cells to the executor, so many at a time, and takes what comes back."""

    def __init__(self, config: Launch, executor: Any, bar: Progress, finished: Callable[[Any], object] | None) -> None:
        self.config, self.executor, self.bar, self.finished = config, executor, bar, finished
        self.out = Path(config.out)
        self.tries: Counter[str] = Counter()
        self.running: dict[str, tuple[Job, Any]] = {}
        self.asked = time.monotonic()

    def work(self, cells: Sequence[Job]) -> None:
        """Until every cell is finished or has failed for good; a break ends the running ones."""
        waiting = deque(cells)
        limit = self.config.workers or (len(cells) if self.config.launcher in ("slurm", "dask") else 1)
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

    def _submit(self, cell: Job) -> None:
        self.tries[cell.name] += 1
        folder = self.out / cell.name
        job = self._earlier(folder)
        if job is None:
            local = self.config.launcher == "local"
            threads = max(1, (os.cpu_count() or 1) // max(1, self.config.workers)) if local else 0
            job = self.executor.submit(run_job, cell, self.out, threads, os.getpid() if local else 0)
            tried = int(remembered(folder).get("tries", 0)) + 1
            _remember(folder, {"tries": tried, "job": str(job.job_id), "launcher": self.config.launcher, "error": None})
        self.running[cell.name] = (cell, job)

    def _earlier(self, folder: Path) -> Any:
        """The job of a sweep that was cut, if SLURM still has it."""
        import submitit

        known = remembered(folder)
        if self.config.launcher != "slurm" or known.get("launcher") != "slurm" or not _in_slurm(known["job"]):
            return None
        logger.info("%s is still job %s of SLURM", folder.name, known["job"])
        return submitit.SlurmJob(folder=self.out / JOBS, job_id=known["job"])

    def _lost(self) -> list[str]:
        """Cells whose job SLURM no longer knows: where it keeps no accounts, submitit would wait for them."""
        if self.config.launcher != "slurm" or time.monotonic() - self.asked < ASK_SLURM:
            return []
        self.asked = time.monotonic()
        return [name for name, (_, job) in self.running.items() if not _in_slurm(job.job_id)]

    def _take(self, cell: Job, job: Any) -> list[Job]:
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
            logger.warning("%s failed (%s), it is tried again", cell.name, told["error"])
            return [cell]
        logger.warning("%s failed: %s", cell.name, told["error"])
        self.bar.update(1, cell.name)
        return []

    def _result(self, job: Any) -> dict[str, Any] | None:
        """What :func:`run_cell` gave; None where its process died: killed, out of memory, out of time."""
        if self.config.launcher == "local" and not job.paths.result_pickle.exists():
            return None  # submitit would wait for a file system to show it
        try:
            return dict(job.results()[0])
        except Exception:  # submitit's own, or whatever unpickling meets
            logger.debug("job %s", job.job_id, exc_info=True)
            return None


def _in_slurm(job: str) -> bool:
    """Whether SLURM's queue has a job."""
    found = subprocess.run(["squeue", "--noheader", "--jobs", job], capture_output=True, text=True)
    return found.returncode == 0 and bool(found.stdout.strip())


def job_state(folder: Path, finished: bool) -> str:
    """One of :data:`STATES`, from the files of a job."""
    if finished:
        return "finished"
    if is_held(folder / "cell"):
        return "running"
    return "failed" if remembered(folder).get("error") else "waiting"


def planned(out: Path | str, what: str) -> dict[str, dict[str, Any]]:
    """What every job of ``out`` is about, by its name.

    Raises:
        SubgridError: ``out`` holds no jobs.
    """
    out = Path(out)
    if not (out / PLAN).exists():
        raise SubgridError(f"{out} holds no {what} ({PLAN} is missing): begin one with `subgrid {what}`")
    found: dict[str, dict[str, Any]] = read_record(out / PLAN, SWEEP)["cells"]
    return found
