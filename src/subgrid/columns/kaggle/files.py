"""The competition's CSV and parquet files, read batch by batch in bounded memory, from any batch on."""

from __future__ import annotations

import contextlib
import csv
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns.kaggle.layout import ID, TRAIN_PREFIX, TRAIN_ROWS, require_header

logger = logging.getLogger("subgrid")
#: Bytes of a CSV file that are read together, and how many of these one thread parses.
CHUNK, THREAD_CHUNK = 32 * 2**20, 4 * 2**20
#: Rows of a parquet file that are read together.
BATCH = 2048
#: Bytes of each column of a parquet file that are read ahead; there are hundreds of columns.
BUFFER = 64 * 2**10
#: Bytes in which the first or the last line of a CSV file must lie.
LINE = 2**20
SUFFIXES = (".csv", ".parquet")

#: Where a batch begins: byte and 0 for CSV, row group and row in it for parquet.
Position = tuple[int, int]
BEGINNING: Position = (0, 0)


@dataclass(frozen=True)
class Batch:
    """Some rows.

    Args:
        ids: of the rows, as they are written.
        values: (channel, row) float64, finite, channels in the order of the file.
        position: where the next batch begins.
    """

    ids: pa.StringArray
    values: NDArray[np.float64]
    position: Position


class Table(ABC):
    """One file: its path and its header."""

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        self.path, self.header = path, list(header)

    @abstractmethod
    def tables(self, position: Position) -> Iterator[tuple[pa.Table, Position]]:
        """Arrow tables from ``position`` on, each with the position after it."""

    @abstractmethod
    def end_ids(self) -> tuple[str, str]:
        """The ids of the first and of the last row."""

    @abstractmethod
    def rows(self) -> int:
        """Number of rows: counted in a parquet file; of a CSV file guessed from its size, a few more than there are."""

    def batches(self, position: Position = BEGINNING) -> Iterator[Batch]:
        """All rows from ``position`` on.

        Raises:
            SubgridError: damaged content, text where numbers are needed, NaN or infinity; row and column are named.
        """
        for table, after in self.tables(position):
            if table.num_rows:
                yield self._batch(table, after)

    def _batch(self, table: pa.Table, after: Position) -> Batch:
        names = self.header[1:]
        ids = table[ID].cast(pa.string()).combine_chunks()
        if isinstance(ids, pa.ChunkedArray):
            ids = pa.concat_arrays(ids.chunks)
        values = np.empty((len(names), table.num_rows))
        for row, name in zip(values, names, strict=True):
            column = table[name]
            if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
                raise SubgridError(f"{self.path}: column {name} holds {column.type}, numbers are needed")
            row[:] = column.to_numpy()
        finite = np.isfinite(values)
        if not finite.all():
            channel, place = np.argwhere(~finite)[0]
            raise SubgridError(
                f"{self.path}: row {ids[place]}: column {names[channel]} is empty, NaN or infinite "
                f"({int((~finite).sum())} such values in the {len(ids)} rows around it)"
            )
        return Batch(ids, values, after)


class CsvTable(Table):
    """A CSV file with a header line, one line a row."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            line = file.readline(LINE)
        self.begin = len(line)
        try:
            header = next(csv.reader([line.decode("utf-8-sig").strip()]), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise SubgridError(f"{path} is not a CSV file; unpack it if it is an archive") from error
        super().__init__(path, header)

    def tables(self, position: Position) -> Iterator[tuple[pa.Table, Position]]:
        """See :class:`Table`; chunks end at line ends."""
        offset = position[0] or self.begin
        with self.path.open("rb") as file:
            file.seek(offset)
            rest = b""
            while True:
                read = file.read(CHUNK)
                chunk = rest + read
                cut = chunk.rfind(b"\n") + 1 if read else len(chunk)
                if not read and chunk and not chunk.isspace():
                    logger.warning("%s: its last line has no end; it may be cut", self.path)
                # A view: copies of what is read cost a quarter of the parsing.
                lines = memoryview(chunk)[:cut]
                if cut and not chunk[:cut].isspace():
                    yield self._parse(lines, offset), (offset + cut, 0)
                if not read:
                    return
                offset, rest = offset + cut, chunk[cut:]

    def _parse(self, chunk: memoryview, offset: int) -> pa.Table:
        types = {name: pa.float64() for name in self.header[1:]}
        try:
            return pacsv.read_csv(
                pa.BufferReader(pa.py_buffer(chunk)),
                pacsv.ReadOptions(column_names=self.header, block_size=THREAD_CHUNK),
                pacsv.ParseOptions(),
                pacsv.ConvertOptions(column_types={**types, ID: pa.string()}, strings_can_be_null=False),
            )
        except pa.ArrowInvalid as error:
            reason = str(error).splitlines()[0][:200]
            raise SubgridError(
                f"{self.path}: damaged within {len(chunk)} bytes after byte {offset}: {reason}"
            ) from error

    def end_ids(self) -> tuple[str, str]:
        """See :class:`Table`."""
        with self.path.open("rb") as file:
            file.seek(self.begin)
            first = file.readline(LINE)
            file.seek(max(self.begin, self.path.stat().st_size - LINE))
            lines = file.read().rstrip().splitlines()
        if not first.strip() or not lines:
            raise SubgridError(f"{self.path} has no row")
        return _id_of(first), _id_of(lines[-1])

    def rows(self) -> int:
        """See :class:`Table`."""
        with self.path.open("rb") as file:
            file.seek(self.begin)
            seen = file.read(LINE)
        lines = seen.count(b"\n") or 1
        length = (seen.rfind(b"\n") + 1) or len(seen) or 1
        return int(1.03 * (self.path.stat().st_size - self.begin) * lines / length) + 1


def _id_of(line: bytes) -> str:
    return line.split(b",", 1)[0].decode("utf-8", "replace").strip().strip('"')


class ParquetTable(Table):
    """A parquet file; memory is a page of every column, whatever the length of its row groups."""

    def __init__(self, path: Path) -> None:
        with _sound(path):
            self.file = pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)
        super().__init__(path, self.file.schema_arrow.names)

    def tables(self, position: Position) -> Iterator[tuple[pa.Table, Position]]:
        """See :class:`Table`."""
        begin, skip = position
        for group in range(begin, self.file.num_row_groups):
            done = 0
            with _sound(self.path):
                for batch in self.file.iter_batches(BATCH, row_groups=[group]):
                    done += batch.num_rows
                    if group == begin and done <= skip:
                        continue
                    yield pa.Table.from_batches([batch]), (group, done)

    def end_ids(self) -> tuple[str, str]:
        """See :class:`Table`."""
        groups = [i for i in range(self.file.num_row_groups) if self.file.metadata.row_group(i).num_rows]
        if not groups:
            raise SubgridError(f"{self.path} has no row")
        with _sound(self.path):
            first, last = (self.file.read_row_group(i, columns=[ID])[ID] for i in (groups[0], groups[-1]))
        return str(first[0]), str(last[-1])

    def rows(self) -> int:
        """See :class:`Table`."""
        return int(self.file.metadata.num_rows)


@contextlib.contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Turn what pyarrow says of a damaged parquet file into one clear error."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise SubgridError(f"{path} is damaged, or not a parquet file: {reason}; fetch it again") from error


def open_table(path: Path | str, *headers: Sequence[str]) -> Table:
    """Open a CSV or parquet file, by the end of its name.

    Args:
        path: the file.
        headers: the headers that will do; the one of the same length counts, else the first.

    Raises:
        UsageError: another ending.
        SubgridError: no such file, damaged, or with another header.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path} does not end in {' or '.join(SUFFIXES)}; unpack it if it is an archive")
    if not path.is_file():
        raise SubgridError(f"{path} does not exist")
    table = CsvTable(path) if path.suffix == ".csv" else ParquetTable(path)
    wanted = next((header for header in headers if len(header) == len(table.header)), headers[0])
    require_header(table.header, wanted, str(path))
    return table


def row_numbers(ids: Any, path: Path) -> NDArray[np.int64]:
    """The numbers in ids such as ``train_123``, (row,).

    Raises:
        SubgridError: an id is not of that form, or beyond the published training file.
    """
    told = pc.starts_with(ids, TRAIN_PREFIX)
    digits = pc.utf8_slice_codeunits(ids, len(TRAIN_PREFIX))
    good = pc.fill_null(pc.and_(told, pc.match_substring_regex(digits, "^[0-9]{1,8}$")), False)
    if not pc.all(good).as_py():
        wrong = ids[pc.index(good, False).as_py()]
        raise SubgridError(f"{path}: row id '{wrong}' is not {TRAIN_PREFIX}NUMBER, as the training file has")
    numbers = np.asarray(pc.cast(digits, pa.int64()), np.int64)
    if numbers.max(initial=0) >= TRAIN_ROWS:
        raise SubgridError(
            f"{path}: row {TRAIN_PREFIX}{numbers.max()} is beyond the published training file, whose last row is "
            f"{TRAIN_PREFIX}{TRAIN_ROWS - 1}"
        )
    return numbers


def require_same_rows(given: tuple[Path | str, Any], known: tuple[Path | str, Any], before: int) -> None:
    """Refuse identifiers of rows that are not those of another file at the same place.

    Args:
        given: a file and the identifiers of some of its rows (an Arrow array).
        known: the other file and as many identifiers.
        before: how many rows of each come before these.

    Raises:
        SubgridError: which row differs first.
    """
    ids, expected = given[1], known[1]
    if ids.equals(expected):
        return
    wrong = next(k for k, (a, b) in enumerate(zip(ids, expected, strict=True)) if a != b)
    raise SubgridError(
        f"{given[0]}: row {before + wrong + 1} is {ids[wrong]}, in {known[0]} it is {expected[wrong]}: the two files "
        "are not of the same rows in the same order"
    )
