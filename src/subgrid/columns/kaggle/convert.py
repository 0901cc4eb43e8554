"""The competition's training file, CSV or parquet, to a column store whose splits follow one another in time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.provenance import provenance
from subgrid.columns.climsim.convert import CALENDAR, climsim_set
from subgrid.columns.climsim.derive import scoring_variables
from subgrid.columns.climsim.grid import read_grid
from subgrid.columns.climsim.names import STEP, epoch
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.kaggle.derive import Derivation
from subgrid.columns.kaggle.files import BEGINNING, SUFFIXES, Batch, Table, open_table, row_numbers
from subgrid.columns.kaggle.layout import COLUMNS, LEVELS, STEP_STRIDE, TRAIN_HEADER
from subgrid.columns.layout import BLOCK, StoreSpec
from subgrid.columns.store import ColumnStore
from subgrid.columns.stream import Piece, divided, marks, write_stream

logger = logging.getLogger("subgrid")
SPLITS = ["train", "validation", "test"]


@dataclass(frozen=True)
class KaggleConfig:
    """A conversion of the competition's training file.

    Args:
        files: CSV or parquet files, or one folder of them; in any order, each in the order of its ids.
        grid: ClimSim's low-resolution grid file.
        variables: ``kaggle``, or a set that can be made of it, such as ``kaggle_rh_mc``.
        validation_share: share of the time that is held out for validation, before that of the test.
        test_share: share of the time, its end, that is held out as a test.
        rows: of a block.
    """

    files: tuple[str, ...]
    grid: str
    variables: str = "kaggle"
    validation_share: float = 0.1
    test_share: float = 0.1
    rows: int = BLOCK

    def __post_init__(self) -> None:
        for name in ("validation_share", "test_share"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UsageError(f"{name}={getattr(self, name)} must lie in [0, 1)")
        if self.validation_share + self.test_share >= 1.0:
            raise UsageError("validation_share and test_share leave nothing to train on: their sum must be below 1")
        if not self.grid:
            raise UsageError(
                "the competition's files do not say where their columns are: give ClimSim's grid file, "
                "--grid ClimSim_low-res_grid-info.nc"
            )
        if self.rows < 1:
            raise UsageError(f"rows={self.rows} must be at least 1")
        climsim_set(self.variables)


def convert(config: KaggleConfig, out: Path | str) -> ColumnStore:
    """Convert the training file to the store ``out``; killed and begun again it goes on from its last checkpoint.

    Row ``train_n`` is column ``n mod 384`` of the ``n // 384``-th chosen step, every seventh from the first of
    February of the first year on: the file has 10,091,520 = 26,280 x 384 rows. Any part of it will do.

    Raises:
        UsageError: wrong settings.
        SubgridError: no such file, another header, damage, NaN, ids out of order or twice, another grid.
    """
    grid = read_grid(config.grid)
    if (grid.columns, grid.levels) != (COLUMNS, LEVELS):
        raise SubgridError(
            f"{config.grid} has {grid.columns} columns of {grid.levels} levels; the competition's have {COLUMNS} of "
            f"{LEVELS}: give the grid file of ClimSim_low-res"
        )
    plan = _Plan(config, grid)
    return write_stream(out, plan.spec, plan.read, plan.rows)


class _Plan:
    """Which file comes when, where the splits are cut, and how rows are made."""

    def __init__(self, config: KaggleConfig, grid: ColumnGrid) -> None:
        self.area = grid.area
        ends = sorted(((*_span(table), table) for table in _tables(config.files)), key=lambda found: found[:2])
        for (_, last, one), (first, _, other) in pairwise(ends):
            if first <= last:
                raise SubgridError(f"{one.path} and {other.path} share a range of ids: give each row once")
        self.tables = [table for _, _, table in ends]
        first, last = ends[0][0], ends[-1][1]
        self.rows = sum(min(end - begin + 1, table.rows()) for begin, end, table in ends)
        self.cuts = _cuts(first // COLUMNS, last // COLUMNS + 1, config)
        variables = climsim_set(config.variables)
        groups = {"inputs": variables.inputs, "targets": variables.targets, "scoring": scoring_variables(variables)}
        arrays = {name: group for name, group in groups.items() if group}
        self.derivations = {name: Derivation(group, grid.vertical, targets=True) for name, group in arrays.items()}
        self.spec = StoreSpec(
            grid=grid,
            arrays=arrays,
            time_step=float(STEP),
            host="climsim",
            provenance=provenance(convert=asdict(config), first_row=first, last_row=last),
            block=min(config.rows, self.rows),
            calendar=CALENDAR,
        )

    def read(self, position: NDArray[np.int64] | None) -> Iterator[Piece]:
        """All pieces from ``position`` on: number of the file, place in it, and the last row number before."""
        begin, first, second, before = (0, *BEGINNING, -1) if position is None else (int(i) for i in position)
        for number in range(begin, len(self.tables)):
            table = self.tables[number]
            for batch in table.batches((first, second) if number == begin else BEGINNING):
                numbers = row_numbers(batch.ids, table.path)
                _require_order(numbers, before, table.path)
                before = int(numbers[-1])
                yield self._piece(batch, numbers, np.array([number, *batch.position, before]))

    def _piece(self, batch: Batch, numbers: NDArray[np.int64], position: NDArray[np.int64]) -> Piece:
        step, column = np.divmod(numbers, COLUMNS)
        time = epoch() + step * STEP_STRIDE * STEP
        rows: dict[str, NDArray[Any]] = {name: make(batch.values) for name, make in self.derivations.items()}
        rows.update(marks(time, column, self.area))
        split_of = np.searchsorted(self.cuts, step, side="right")
        return Piece(divided(rows, split_of, SPLITS), position, {})


def _tables(files: tuple[str, ...]) -> list[Table]:
    """The files, opened; a folder stands for those in it."""
    paths = [Path(name) for name in files]
    if len(paths) == 1 and paths[0].is_dir():
        folder = paths[0]
        paths = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
        if not paths:
            raise SubgridError(f"{folder} has no file that ends in {' or '.join(SUFFIXES)}")
    if not paths:
        raise UsageError("no file is given")
    return [open_table(path, TRAIN_HEADER) for path in paths]


def _span(table: Table) -> tuple[int, int]:
    """The first and the last row number of a file."""
    first, last = row_numbers(pa.array(table.end_ids()), table.path)
    if last < first:
        raise SubgridError(f"{table.path}: its rows are not in the order of the numbers in sample_id: sort them")
    return int(first), int(last)


def _require_order(numbers: NDArray[np.int64], before: int, path: Path) -> None:
    """Refuse rows that do not follow one another: splits in time and their marks rest on it."""
    steps = np.diff(numbers, prepend=before)
    if (steps > 0).all():
        return
    wrong = int(np.argmax(steps <= 0))
    what = "is there twice" if steps[wrong] == 0 else "comes after a later one"
    raise SubgridError(
        f"{path}: row train_{numbers[wrong]} {what}: rows must be in the order of the numbers in sample_id, each once"
    )


def _cuts(first: int, after: int, config: KaggleConfig) -> NDArray[np.int64]:
    """The steps at which validation and test begin, of the steps ``first`` to ``after``; whole steps only."""
    steps = after - first
    test = round(config.test_share * steps)
    validation = round(config.validation_share * steps)
    short = [name for name, share, n in _named(config, validation, test) if share > 0.0 and n == 0]
    if short or steps - test - validation < 1:
        raise SubgridError(
            f"the files hold {steps} model steps, too few to hold out {' and '.join(short) or 'so many'}: give more "
            "rows, or other shares (0 for none)"
        )
    return np.array([after - test - validation, after - test])


def _named(config: KaggleConfig, validation: int, test: int) -> list[tuple[str, float, int]]:
    return [("validation", config.validation_share, validation), ("test", config.test_share, test)]
