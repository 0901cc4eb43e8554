"""ClimSim's NetCDF files to a column store: published splits, bounded memory, any number of workers, resumable."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError, UsageError, unknown_name
from subgrid.base.files import only_writer, partial_path, read_json, write_json
from subgrid.base.logs import log_file
from subgrid.base.progress import Progress
from subgrid.base.provenance import provenance
from subgrid.base.threads import require_workers
from subgrid.columns.climsim.blocks import RECORDS, Block, Job, Loss, Record, Step, convert_block
from subgrid.columns.climsim.derive import MASK, scoring_variables
from subgrid.columns.climsim.files import (
    SPLITS,
    Source,
    SplitPlan,
    chosen_splits,
    find_files,
    find_grid,
    plan_split,
    step_name,
)
from subgrid.columns.climsim.grid import read_grid
from subgrid.columns.climsim.names import CALENDAR, STEP, epoch
from subgrid.columns.climsim.netcdf import BadFile, Reader
from subgrid.columns.climsim.workers import LOCK_FILE, executor, wait_for_others
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.layout import BLOCK, StoreSpec
from subgrid.columns.statistics import ChannelStatistics
from subgrid.columns.store import ColumnStore
from subgrid.columns.variables import VariableSet, catalogue, variable_set
from subgrid.columns.writer import SETTINGS_FILE, begin_store, finish_split, finish_store, finished_store

logger = logging.getLogger("subgrid")

LOSSES_FILE = "losses.json"
ON_ERROR = ("stop", "skip")
#: How many names a list in the provenance holds; its length is beside it.
LISTED = 200
#: The files' own pressure may differ from the grid's by this share.
PRESSURE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class ConvertConfig:
    """A conversion of ClimSim's NetCDF files.

    Args:
        source: folder of the files, in months or flat.
        variables: name of a variable set of ClimSim.
        splits: names of published splits, with commas, or ``all`` for every one that has files.
        grid: the grid file; empty: the one in the source or above it.
        on_error: ``stop`` at a damaged file, or ``skip`` the steps that need it and list it in the provenance. What
            one began the other goes on with; ``stop`` looks again at files that were skipped.
        rows: about how many rows a block has; it is a whole number of files.
    """

    source: str
    variables: str
    splits: str = "all"
    grid: str = ""
    on_error: str = "stop"
    rows: int = BLOCK

    def __post_init__(self) -> None:
        if self.on_error not in ON_ERROR:
            raise unknown_name("--on-error", self.on_error, ON_ERROR)
        if self.rows < 1:
            raise UsageError(f"rows={self.rows} must be at least 1")
        chosen_splits(self.splits)
        climsim_set(self.variables)

    def settings(self) -> dict[str, Any]:
        """What decides the arrays, JSON-able."""
        return {name: value for name, value in asdict(self).items() if name != "on_error"}


def climsim_set(name: str) -> VariableSet:
    """The variable set ``name``; :class:`UsageError` if ClimSim's files do not hold its variables."""
    found = variable_set(name)
    known = catalogue("climsim").variables
    foreign = [v.name for v in (*found.inputs, *found.targets) if v.name not in known]
    if foreign:
        raise UsageError(f"variable set '{name}' is not of ClimSim, whose files hold no {', '.join(foreign[:3])}")
    return found


def convert(config: ConvertConfig, out: Path | str, workers: int = 1, scheduler: str | None = None) -> ColumnStore:
    """Convert ClimSim's files to the store ``out``; killed and begun again it goes on from its last whole block.

    The arrays are the same for any number of workers. Memory is bounded by the blocks under way.

    Args:
        config: what to convert.
        out: the store to make.
        workers: processes on this machine.
        scheduler: address of a dask scheduler to use instead.

    Raises:
        UsageError: unknown names, or numbers out of range.
        SubgridError: no files, no grid, a damaged file (``on_error="stop"``), files that do not fit the grid, or a
            store of other settings at ``out``.
    """
    require_workers(workers)
    out = Path(out)
    conversion = _Conversion(config, out)
    with only_writer(out):
        if out.exists():
            return finished_store(out, config.settings())
        begin_store(out, conversion.spec)
        with log_file(conversion.job.folder, "convert"):
            conversion.report()
            with executor(workers, scheduler) as (pool, under_way):
                conversion.run(pool.submit, under_way)
            return conversion.finish()


class _Conversion:
    """The plan of a conversion, and how it is carried out."""

    def __init__(self, config: ConvertConfig, out: Path) -> None:
        self.config, self.out = config, out
        self.source = find_files(config.source)
        self.grid_file = Path(config.grid) if config.grid else find_grid(config.source)
        grid, variables = read_grid(self.grid_file), climsim_set(config.variables)
        _refuse_duplicates(self.source, config)
        arrays = {"inputs": variables.inputs, "targets": variables.targets, "scoring": scoring_variables(variables)}
        self.spec = StoreSpec(
            grid=grid,
            arrays={name: group for name, group in arrays.items() if group},
            time_step=float(STEP),
            host="climsim",
            provenance=provenance(convert=config.settings(), grid=str(self.grid_file)),
            calendar=CALENDAR,
        )
        self.job = Job(partial_path(out), self.spec, epoch(), config.on_error == "skip")
        self.losses: list[Loss] = []
        plans = self.plan()
        self.spec = replace(self.spec, block=grid.columns * _steps_per_block(grid, plans, config.rows))
        self.job = Job(partial_path(out), self.spec, epoch(), config.on_error == "skip")
        _check_grid(grid, self.grid_file, self.source, plans, config.on_error)

    def plan(self) -> list[SplitPlan]:
        """The splits and their steps, without those that a known damaged file is needed for.

        Raises:
            SubgridError: a split that was asked for by name, or every one, has no step.
        """
        lost = [loss.key for loss in self.losses]
        names = chosen_splits(self.config.splits)
        found = [plan_split(self.source, name, self.job.needs, lost) for name in names]
        named = "all" not in self.config.splits.split(",")
        empty = [p for p in found if not p.steps]
        if empty and (named or len(empty) == len(found)):
            raise SubgridError(_why_empty(self.config.source, empty[0], self.source))
        return [p for p in found if p.steps]

    def blocks(self) -> list[Block]:
        """All blocks, in order."""
        each = self.spec.block // self.spec.grid.columns
        held = {"before": self.source.before, "after": self.source.files["mlo"]}
        found = []
        for plan in self.plan():
            steps = [Step(n, {(back, kind): held[kind][n - back] for back, kind in self.job.needs}) for n in plan.steps]
            cuts = range(0, len(steps), each)
            found += [Block(plan.store_name, i, tuple(steps[cut : cut + each])) for i, cut in enumerate(cuts)]
        return found

    def report(self) -> None:
        """Say what was found, and what is not there."""
        for plan in self.plan():
            logger.info(
                "convert: %s: %d of the %d published steps are there, %d to convert",
                plan.split,
                plan.found,
                plan.expected,
                len(plan.steps),
            )
            if plan.missing:
                first = step_name(plan.missing[0])
                logger.warning(
                    "convert: %s: a hole in time: %d steps are missing, %s first", plan.split, len(plan.missing), first
                )
            if plan.without_history:
                logger.info("convert: %s: %d steps lack the steps before them", plan.split, plan.without_history)
        if self.source.unpaired:
            logger.warning(
                "convert: %d files lack their other half and are left out, %s first",
                len(self.source.unpaired),
                self.source.unpaired[0],
            )

    def run(self, submit: Callable[..., Future[list[Loss]]], under_way: int) -> None:
        """Convert every block that is not finished; damaged files change the plan, and it begins again from there."""
        wait_for_others(self.job.folder)
        kept = self.job.folder / LOSSES_FILE
        if self.job.skip and kept.exists():
            self.losses = [Loss(**one) for one in read_json(kept)]
        (self.job.folder / RECORDS).mkdir(exist_ok=True)
        while True:
            blocks = self.blocks()
            to_do = [block for block in blocks if self.job.read_record(block) is None]
            total, left = (sum(len(b.steps) for b in group) for group in (blocks, to_do))
            if left < total:
                logger.info("convert: %d of %d steps are done already", total - left, total)
            with Progress("convert", total, "steps", done=total - left) as bar:
                lost = self._convert(to_do, submit, under_way, bar)
            if not lost:
                return
            for loss in lost:
                logger.warning("convert: left out: %s: '%s' %s", loss.file, loss.variable, loss.reason)
            self.losses = sorted({*self.losses, *lost}, key=lambda loss: (loss.number, loss.kind, loss.variable))
            write_json(kept, [asdict(loss) for loss in self.losses])

    def _convert(
        self, to_do: Sequence[Block], submit: Callable[..., Future[list[Loss]]], under_way: int, bar: Progress
    ) -> list[Loss]:
        """Convert ``to_do`` until a block meets damaged files, which are returned."""
        waiting, begun, lost = deque(to_do), dict[Future[list[Loss]], Block](), list[Loss]()
        try:
            while (waiting and not lost) or begun:
                while waiting and not lost and len(begun) < under_way:
                    block = waiting.popleft()
                    begun[submit(convert_block, self.job, block)] = block
                done, _ = wait(begun, return_when=FIRST_COMPLETED)
                for future in done:
                    block = begun.pop(future)
                    lost += future.result()
                    bar.update(0 if lost else len(block.steps))
        except BrokenProcessPool as error:
            raise SubgridError(
                "a worker of the conversion died (no memory left, or it was killed); the same command goes on from "
                "here, perhaps with fewer --workers"
            ) from error
        finally:
            for future in begun:
                future.cancel()
        return lost

    def finish(self) -> ColumnStore:
        """Merge the records of the blocks in their order, describe the store, and rename it into place."""
        totals: dict[str, _Total] = {}
        for block in self.blocks():
            record = self.job.read_record(block)
            if record is None:
                raise SubgridError(f"{self.job.folder}: a block was changed while it was made; run the command again")
            totals.setdefault(block.split, _Total(self.spec)).add(record)
        plans = self.plan()
        for plan in plans:
            folder, total = self.job.folder / plan.store_name, totals[plan.store_name]
            _remove_blocks_beyond(folder, self.spec, total.blocks)
            finish_split(folder, self.spec, len(plan.steps) * self.spec.grid.columns, total.statistics)
        spec = replace(self.spec, provenance={**self.spec.provenance, "found": self._found(plans, totals.values())})
        made = (SETTINGS_FILE, LOSSES_FILE, RECORDS, LOCK_FILE)
        return finish_store(self.out, spec, [plan.store_name for plan in plans], made)

    def _found(self, plans: Sequence[SplitPlan], totals: Collection[_Total]) -> dict[str, Any]:
        """What the provenance tells of the files: splits, unpaired and damaged ones, fills, flushed values."""
        flushed = {}
        for array, group in self.spec.arrays.items():
            counts = sum((total.flushed[array] for total in totals), np.zeros(len(group), np.int64))
            flushed.update({v.name: int(n) for v, n in zip(group, counts, strict=True) if n})
        return {
            "splits": {plan.store_name: plan.summary() for plan in plans},
            "unpaired": {"files": len(self.source.unpaired), "first": self.source.unpaired[:LISTED]},
            "duplicates": {
                "files": len(self.source.duplicates),
                "first": [str(twice) for _, twice in self.source.duplicates[:LISTED]],
            },
            "losses": {"files": len(self.losses), "first": [asdict(loss) for loss in self.losses[:LISTED]]},
            "snow_on_ice_fills": sum(total.fills for total in totals),
            "snow_on_ice_fills_are": f"stored as 0, marked in '{MASK}'",
            "below_float32": flushed,
        }


def _steps_per_block(grid: ColumnGrid, plans: Collection[SplitPlan], rows: int) -> int:
    """Steps of a block of about ``rows`` rows; no more than the longest split has, as a block is stored whole."""
    return min(max(1, round(rows / grid.columns)), max(len(plan.steps) for plan in plans))


def _refuse_duplicates(source: Source, config: ConvertConfig) -> None:
    if source.duplicates and config.on_error == "stop":
        kept, twice = source.duplicates[0]
        raise SubgridError(
            f"{len(source.duplicates)} steps are there twice, such as {kept} and {twice}: remove one of each, or "
            "let --on-error skip take the first"
        )


def _why_empty(folder: str, plan: SplitPlan, source: Source) -> str:
    """Why a split has no step to convert, in one line."""
    if plan.lost:
        return f"{folder}: every step of split '{plan.split}' needs a damaged file"
    if plan.found:
        return (
            f"{folder}: none of the {plan.found} steps of split '{plan.split}' has the steps before it, which this "
            "variable set needs: download the months with --stride 1, or choose a set without them"
        )
    first, after = SPLITS[plan.split].first, SPLITS[plan.split].after
    return (
        f"{folder}: no pair of files of split '{plan.split}' (from {first[0]:04d}-{first[1]:02d} up to before "
        f"{after[0]:04d}-{after[1]:02d}, every {SPLITS[plan.split].stride} steps) among {len(source.pairs)} pairs"
    )


def _check_grid(grid: ColumnGrid, file: Path, source: Source, plans: Sequence[SplitPlan], on_error: str) -> None:
    """Refuse a grid file whose pressures are not those that the first file tells, in ``state_pmid``."""
    path = source.before[plans[0].steps[0]]
    try:
        held = Reader(grid.columns, grid.levels).read(path, ["state_ps", "state_pmid"])
    except BadFile as error:
        if on_error == "skip" or error.variable == "state_pmid":
            return  # met again, and told, where the file is needed; the pressure itself is not
        raise
    own: NDArray[np.float64] = np.asarray(grid.vertical.mid_pressure(held["state_ps"])).T
    apart = float(np.max(np.abs(held["state_pmid"] / own - 1.0)))
    if apart < PRESSURE_TOLERANCE:
        return
    wrong = BadFile(path, "state_pmid", f"differs from the pressure of {file} by {apart:.1%}: another grid's file")
    if on_error == "stop":
        raise wrong
    logger.warning("convert: %s", wrong)


class _Total:
    """The records of a split put together, one after the other: they would not all fit into memory."""

    def __init__(self, spec: StoreSpec) -> None:
        self.statistics = {name: ChannelStatistics.empty(width) for name, width in spec.widths().items()}
        self.flushed = {name: np.zeros(len(group), np.int64) for name, group in spec.arrays.items()}
        self.blocks = self.fills = 0

    def add(self, record: Record) -> None:
        """Add the record of the next block."""
        self.statistics = {name: held.merge(record.statistics[name]) for name, held in self.statistics.items()}
        self.flushed = {name: held + record.flushed[name] for name, held in self.flushed.items()}
        self.blocks += 1
        self.fills += record.fills


def _remove_blocks_beyond(folder: Path, spec: StoreSpec, blocks: int) -> None:
    """Remove the chunks of blocks that an earlier plan had, before damaged files were found."""
    for name in spec.dtypes():
        for chunk in (folder / name / "c").iterdir():
            if int(chunk.name) >= blocks:
                for file in [*chunk.iterdir()] if chunk.is_dir() else [chunk]:
                    file.unlink()
                if chunk.is_dir():
                    chunk.rmdir()
