"""One block of a conversion: its files are read, derived and written as chunks, with a record of what was found.

A block is a whole number of steps, known before anything is read, so blocks can be made in any order and by any number
of workers; statistics of each are merged in their order afterwards.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from subgrid.base.arrays import read_arrays, write_arrays
from subgrid.base.errors import SubgridError
from subgrid.base.files import writable
from subgrid.columns.climsim.derive import GridPart, Rule, needed_files, rule, take_fills, wrong_value
from subgrid.columns.climsim.names import STEP
from subgrid.columns.climsim.netcdf import BadFile, Reader
from subgrid.columns.climsim.workers import at_work
from subgrid.columns.layout import StoreSpec, chunk_file
from subgrid.columns.statistics import LEAST_FLOAT32, ChannelStatistics
from subgrid.columns.variables import offsets
from subgrid.columns.writer import write_chunk

#: Folder of the records within the partial folder of a store.
RECORDS = "records"
#: Columns that are worked on at a time: few enough for their values to stay in the processor's cache.
PIECE = 512
#: Steps that are read ahead of their use, and bytes of them at most.
AHEAD, AHEAD_BYTES = 2, 256 * 2**20

#: No variable has such values; a fill divided by the length of a step still has.
SUSPICIOUS = 1e20

#: A file that a step needs: (steps back, ``before`` or ``after``).
Need = tuple[int, str]
#: The variables of one file.
Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Step:
    """One step: its number, and the path of each file that it needs."""

    number: int
    files: Mapping[Need, Path]


@dataclass(frozen=True)
class Block:
    """A block of a split: its number and its steps."""

    split: str
    index: int
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Loss:
    """A damaged file: which, what is wrong with it, and the step that it is the file of."""

    file: str
    variable: str
    reason: str
    kind: str
    number: int

    @property
    def key(self) -> tuple[str, int]:
        """``before`` or ``after``, and the step."""
        return self.kind, self.number


@dataclass(frozen=True)
class Record:
    """What was found in a block: statistics, counts of fills, and of values that float32 cannot hold in full."""

    statistics: dict[str, ChannelStatistics]
    flushed: dict[str, NDArray[np.int64]]
    fills: int


@dataclass(frozen=True)
class Job:
    """What all blocks of a conversion share.

    Args:
        folder: the partial folder of the store.
        spec: the store.
        epoch: s since 1970-01-01 of step 0.
        skip: go on after a damaged file, and report it, rather than raise.
    """

    folder: Path
    spec: StoreSpec
    epoch: int
    skip: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        return Job, (self.folder, self.spec, self.epoch, self.skip)  # not what is cached: functions do not travel

    @cached_property
    def rules(self) -> dict[str, list[tuple[slice, Rule]]]:
        """How each variable of each array comes about, and its channels."""
        return {
            array: [(part, rule(name)) for name, part in offsets(group, self.spec.grid.levels).items()]
            for array, group in self.spec.arrays.items()
        }

    @cached_property
    def needs(self) -> dict[Need, list[str]]:
        """Variables to read, by file."""
        return needed_files(s for group in self.rules.values() for _, one in group for s in one.sources)

    @cached_property
    def parts(self) -> list[tuple[slice, GridPart]]:
        """The grid in pieces of at most :data:`PIECE` columns."""
        columns = self.spec.grid.columns
        cuts = [slice(i, min(i + PIECE, columns)) for i in range(0, columns, PIECE)]
        return [(cut, GridPart.of(self.spec.grid, cut)) for cut in cuts]

    def step_bytes(self) -> int:
        """Bytes of one step's values in memory, at most."""
        return sum(map(len, self.needs.values())) * 8 * self.spec.grid.levels * self.spec.grid.columns

    def record_file(self, block: Block) -> Path:
        """Where the record of a block lies."""
        return self.folder / RECORDS / f"{block.split}-{block.index}.safetensors"

    def fingerprint(self, block: Block) -> NDArray[np.uint8]:
        """A hash of all files of a block, in their order."""
        listed = [[s.number, *(str(path) for path in s.files.values())] for s in block.steps]
        told = json.dumps([block.split, block.index, listed]).encode()
        return np.frombuffer(hashlib.sha256(told).digest(), np.uint8)

    def read_record(self, block: Block) -> Record | None:
        """The record of a finished block; None if it is not finished, damaged, or was made of other files."""
        try:
            held = read_arrays(self.record_file(block))
            if not np.array_equal(held.pop("fingerprint"), self.fingerprint(block)) or not self._whole(block):
                return None
            fills = int(held.pop("fills"))
            flushed = {name: held.pop(f"flushed.{name}") for name in self.spec.arrays}
        except (SubgridError, KeyError):
            return None
        statistics = {}
        for name in self.spec.arrays:
            prefix = f"statistics.{name}."
            statistics[name] = ChannelStatistics.from_arrays(
                {k.removeprefix(prefix): v for k, v in held.items() if k.startswith(prefix)}
            )
        return Record(statistics, flushed, fills)

    def _whole(self, block: Block) -> bool:
        """Whether all chunks of the block are there in full."""
        widths = self.spec.widths()
        for name, dtype in self.spec.dtypes().items():
            path = chunk_file(self.folder / block.split, name, block.index, 2 if name in widths else 1)
            if not path.is_file() or path.stat().st_size != self.spec.block * widths.get(name, 1) * dtype.itemsize:
                return False
        return True

    def write_record(self, block: Block, record: Record) -> None:
        """Say that a block is finished; only after its chunks are written."""
        held: dict[str, NDArray[Any]] = {"fingerprint": self.fingerprint(block), "fills": np.asarray(record.fills)}
        for name, statistics in record.statistics.items():
            held[f"flushed.{name}"] = record.flushed[name]
            held.update({f"statistics.{name}.{field}": v for field, v in statistics.to_arrays().items()})
        write_arrays(self.record_file(block), held)


class _Work:
    """A block while it is made: its chunk files grow by the columns that were worked on last."""

    def __init__(self, job: Job, block: Block) -> None:
        self.job, self.block, self.fills = job, block, 0
        widths, size = job.spec.widths(), min(PIECE, job.spec.grid.columns)
        self.statistics = {name: ChannelStatistics.empty(width) for name, width in widths.items()}
        self.small = {name: np.zeros(width, np.int64) for name, width in widths.items()}
        # Written over and over: memory that stays in the processor's cache.
        self.made = {name: np.empty((width, size)) for name, width in widths.items()}
        self.rounded = {name: np.empty((width, size), np.float32) for name, width in widths.items()}
        self.rows = {name: np.empty((size, width), np.float32) for name, width in widths.items()}
        self.files: dict[str, BinaryIO] = {}

    def __enter__(self) -> _Work:
        with writable(self.job.folder):
            # It tells of chunks that are about to be written over.
            self.job.record_file(self.block).unlink(missing_ok=True)
            for name in self.job.spec.arrays:
                path = chunk_file(self.job.folder / self.block.split, name, self.block.index, 2)
                path.parent.mkdir(parents=True, exist_ok=True)
                self.files[name] = path.open("wb")
        return self

    def __exit__(self, *error: object) -> None:
        with writable(self.job.folder):
            for file in self.files.values():
                file.close()

    def add(self, values: Mapping[Need, Values]) -> bool:
        """Derive the next step of the block and write its rows; returns False if a value is beyond all physics.

        All that is read shows in what is derived: NaN, infinities and fills are seen here without another pass.
        """
        sound = True
        for part, grid in self.job.parts:
            for array, rules in self.job.rules.items():
                made = self.made[array][:, : part.stop - part.start]
                for channels, one in rules:
                    given = [values[s.back, s.kind][s.name][..., part] for s in one.sources]
                    made[channels] = one.combine(grid, given)
                sound &= self._keep(array, made)
        return sound

    def _keep(self, array: str, made: NDArray[np.float64]) -> bool:
        """Round (channel, part) to float32, count what that loses, add to the statistics, and write it as rows."""
        stored, rows = self.rounded[array][:, : made.shape[1]], self.rows[array][: made.shape[1]]
        stored[...] = made
        rows[...] = stored.T
        found = ChannelStatistics.of(rows)
        near_zero = (found.low < LEAST_FLOAT32) & (found.high > -LEAST_FLOAT32)
        self._count_small(array, made, stored, np.flatnonzero(near_zero))
        self.statistics[array] = self.statistics[array].merge(found)
        with writable(self.job.folder):
            self.files[array].write(rows.data)
        return bool(found.low.min(initial=0.0) > -SUSPICIOUS and found.high.max(initial=0.0) < SUSPICIOUS)

    def _count_small(
        self, array: str, made: NDArray[np.float64], stored: NDArray[np.float32], channels: NDArray[np.intp]
    ) -> None:
        """Count the values of ``channels`` that are below the normal numbers of float32, and were not zero before."""
        small, zero = np.abs(stored[channels]) < LEAST_FLOAT32, made[channels] == 0.0
        # By channel only if there are any: sums along an axis cost ten times as much.
        if np.count_nonzero(small) != np.count_nonzero(zero):
            self.small[array][channels] += np.count_nonzero(small, axis=1) - np.count_nonzero(zero, axis=1)

    @property
    def flushed(self) -> dict[str, NDArray[np.int64]]:
        """How many values of each variable float32 does not hold in full, by array."""
        return {
            array: np.asarray([self.small[array][channels].sum() for channels, _ in rules], np.int64)
            for array, rules in self.job.rules.items()
        }

    def finish(self) -> None:
        """Bring the chunks of the block to their full size, write its marks, then its record."""
        job, spec, columns = self.job, self.job.spec, self.job.spec.grid.columns
        numbers = np.asarray([step.number for step in self.block.steps], np.int64)
        marks: dict[str, NDArray[Any]] = {
            "time": np.repeat(numbers * STEP + job.epoch, columns),
            "column": np.tile(np.arange(columns, dtype=np.int32), len(numbers)),
            "weight": np.tile(spec.grid.area.astype(np.float32), len(numbers)),
        }
        with writable(job.folder):
            for name, file in self.files.items():
                file.truncate(spec.block * spec.widths()[name] * spec.dtypes()[name].itemsize)
                file.close()
            for name, values in marks.items():
                write_chunk(job.folder / self.block.split, spec, name, self.block.index, values)
            job.write_record(self.block, Record(self.statistics, self.flushed, self.fills))


def _read_ahead(job: Job, block: Block) -> Iterator[tuple[Step, Future[dict[Need, Values]]]]:
    """The values of the files of each step, read by one thread while the caller works on those before.

    They last until the next are asked for.
    """
    reader = Reader(job.spec.grid.columns, job.spec.grid.levels)

    def read(step: Step, slot: dict[Need, Values]) -> dict[Need, Values]:
        return {need: reader.read(step.files[need], names, slot[need]) for need, names in job.needs.items()}

    depth = max(1, min(AHEAD, AHEAD_BYTES // max(job.step_bytes(), 1)))
    # One for each step that waits, and one for that which the caller has.
    slots: list[dict[Need, Values]] = [{need: {} for need in job.needs} for _ in range(depth + 1)]
    waiting: deque[tuple[Step, Future[dict[Need, Values]]]] = deque()
    with ThreadPoolExecutor(1, "climsim-read") as pool:
        try:
            for place, step in enumerate(block.steps):
                waiting.append((step, pool.submit(read, step, slots[place % len(slots)])))
                if len(waiting) > depth:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _require_sound(step: Step, values: Mapping[Need, Values]) -> None:
    """Raise :class:`BadFile` for the first file and variable with NaN, an infinity or a fill."""
    for need, found in values.items():
        wrong = wrong_value(found)
        if wrong is not None:
            raise BadFile(step.files[need], *wrong)


def _loss(step: Step, error: BadFile) -> Loss:
    back, kind = next(need for need, path in step.files.items() if path == error.file)
    return Loss(error.file.name, error.variable, error.reason, kind, step.number - back)


def convert_block(job: Job, block: Block) -> list[Loss]:
    """Convert one block; returns the damaged files among its own, and then leaves no record of it.

    Raises:
        BadFile: a damaged file, unless the job says to skip it.
        SubgridError: the store's folder cannot be written.
    """
    losses: list[Loss] = []
    with at_work(job.folder), _Work(job, block) as work, np.errstate(invalid="ignore", over="ignore"):
        for step, values in _read_ahead(job, block):
            try:
                found = values.result()
                work.fills += sum(take_fills(held) for held in found.values())
                # After a loss the block is made again in any case: look for others.
                if losses or not work.add(found):
                    _require_sound(step, found)
            except BadFile as error:
                if not job.skip:
                    raise
                losses.append(_loss(step, error))
        if not losses:
            work.finish()
    return losses
