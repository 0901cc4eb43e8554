"""Rows that are read in order into a store: bounded memory, resumed after a kill, what float32 cannot hold counted."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError
from subgrid.base.files import only_writer
from subgrid.base.logs import log_file
from subgrid.base.progress import Progress
from subgrid.columns.layout import MARKS, StoreSpec
from subgrid.columns.statistics import LEAST_FLOAT32
from subgrid.columns.store import ColumnStore
from subgrid.columns.variables import offsets
from subgrid.columns.writer import StoreWriter, finished_store

logger = logging.getLogger("subgrid")
Item = TypeVar("Item")
#: Rows after which all that was read is made to survive a kill.
CHECKPOINT_ROWS = 131_072


@dataclass(frozen=True)
class Piece:
    """Some rows, read together.

    Args:
        splits: arrays and marks by split, as for :meth:`StoreWriter.append`; float64 where float32 is stored.
        position: where the next piece begins, integers that only the reader understands.
        counts: what was found in the source, by name, to be summed over all pieces.
    """

    splits: Mapping[str, Mapping[str, NDArray[Any]]]
    position: NDArray[np.int64]
    counts: Mapping[str, int]

    @property
    def rows(self) -> int:
        """Number of rows of all splits."""
        return sum(len(rows["time"]) for rows in self.splits.values())


#: Pieces from a position on (None: from the beginning).
Reader = Callable[[NDArray[np.int64] | None], Iterator[Piece]]


def write_stream(out: Path | str, spec: StoreSpec, read: Reader, total: int) -> ColumnStore:
    """Write all pieces to the store ``out``; killed and begun again it goes on from its last checkpoint.

    Args:
        out: the store to make.
        spec: what it holds; ``spec.provenance["convert"]`` says how it is made.
        read: gives the pieces.
        total: rows that are expected, for the progress.

    Returns:
        The store; with ``provenance["found"]``: rows, counts of the source, and how many nonzero values of each
        variable are below float32's normal numbers.

    Raises:
        SubgridError: a store of other settings is there, or no row.
    """
    out = Path(out)
    with only_writer(out):
        if out.exists():
            return finished_store(out, spec.provenance["convert"])
        writer = StoreWriter(out, spec)
        with log_file(writer.folder, "convert"):
            tally = _Tally(spec)
            position = tally.load(writer.resumed) if writer.resumed is not None else None
            if position is not None:
                logger.info("convert: %d rows are done already", tally.rows)
            with Progress("convert", total, "rows", done=tally.rows) as bar:
                _copy(writer, tally, read_ahead(read(position)), bar)
            if not tally.rows:
                raise SubgridError(f"{out}: there is no row to store")
            return writer.finish(found=tally.found())


def _copy(writer: StoreWriter, tally: _Tally, pieces: Iterator[Piece], bar: Progress) -> None:
    since = 0
    for piece in pieces:
        for split, rows in piece.splits.items():
            writer.append(split, rows)
        tally.add(piece)
        since += piece.rows
        bar.update(piece.rows)
        if since >= CHECKPOINT_ROWS:
            writer.checkpoint(tally.state(piece.position))
            since = 0


def read_ahead(pieces: Iterator[Item]) -> Iterator[Item]:
    """The same items in the same order; one thread makes the next while the caller works on this one."""
    with ThreadPoolExecutor(1, "read-ahead") as pool:
        coming = pool.submit(next, pieces, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, pieces, None)
            yield item


class _Tally:
    """Counts that survive a kill."""

    def __init__(self, spec: StoreSpec) -> None:
        self.rows = 0
        self.counts: dict[str, int] = {}
        self.place = {
            name: list(offsets(group, spec.grid.levels).items()) for name, group in spec.arrays.items() if group
        }
        self.flushed = {variable: 0 for group in self.place.values() for variable, _ in group}

    def add(self, piece: Piece) -> None:
        self.rows += piece.rows
        for name, count in piece.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        for rows in piece.splits.values():
            for array, group in self.place.items():
                size = np.abs(rows[array])
                small = ((size < LEAST_FLOAT32) & (size > 0.0)).sum(axis=0)
                for variable, part in group:
                    self.flushed[variable] += int(small[part].sum())

    def state(self, position: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        told = {"rows": self.rows, "counts": self.counts, "flushed": self.flushed}
        return {"position": position, "tally": np.frombuffer(json.dumps(told).encode(), np.uint8)}

    def load(self, state: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
        told = json.loads(state["tally"].tobytes())
        self.rows, self.counts, self.flushed = told["rows"], told["counts"], told["flushed"]
        return state["position"]

    def found(self) -> dict[str, Any]:
        below = {name: count for name, count in self.flushed.items() if count}
        return {"rows": self.rows, **self.counts, "below_float32": below}


def divided(
    rows: Mapping[str, NDArray[Any]], split_of: NDArray[np.int64], names: list[str]
) -> dict[str, dict[str, NDArray[Any]]]:
    """``rows`` by split: row i belongs to ``names[split_of[i]]``; splits without a row are absent."""
    found = {}
    for number, name in enumerate(names):
        chosen = split_of == number
        if chosen.all():
            return {name: dict(rows)}
        if chosen.any():
            found[name] = {array: values[chosen] for array, values in rows.items()}
    return found


def marks(time: NDArray[Any], column: NDArray[Any], area: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """The 1-D arrays of rows that were all taken: their weight is the area of their column, sr."""
    found = {"time": time, "column": column, "weight": area[column]}
    return {name: np.asarray(values, MARKS[name]) for name, values in found.items()}
