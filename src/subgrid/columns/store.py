"""Reading a column store: open it, look at it, read its splits block by block."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.files import (
    folder_bytes,
    partial_path,
    read_json,
)
from subgrid.base.formats import STORE, VERSIONS
from subgrid.base.places import MissingError, Place, RemotePath, file_sizes, lists_files, place, read_into
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.layout import (
    CALENDAR,
    MARKS,
    TIME_UNITS,
    StoreSpec,
    chunk_file,
    chunk_name,
    require_finite,
)
from subgrid.columns.statistics import ChannelStatistics
from subgrid.columns.variables import Variable, VariableSet, offsets, variable_set, variable_set_names


class Split:
    """One split of a store, read block by block."""

    def __init__(self, store: ColumnStore, name: str) -> None:
        self.store, self.name = store, name
        self.folder = store.path / name
        meta = _zarr_json(self.folder)
        try:
            self.samples = int(meta["attributes"]["samples"])
            if self.samples < 0:
                raise ValueError(f"samples is {self.samples}")
        except (KeyError, TypeError, ValueError) as error:
            raise SubgridError(f"{self.folder}: damaged split description; make the store again") from error
        self.block = store.spec.block
        self.blocks = -(-self.samples // self.block)
        self._sound: set[tuple[str, int]] = set()
        # Derived once: a loader asks for them at every block.
        levels = store.grid.levels
        self._places = {array: offsets(group, levels) for array, group in store.spec.arrays.items()}
        self._widths = {array: sum(v.width(levels) for v in group) for array, group in store.spec.arrays.items()}

    def rows(self, block: int) -> int:
        """Number of samples in a block (the last one may be short)."""
        return min(self.block, self.samples - block * self.block)

    def width(self, array: str) -> int:
        """Number of channels of ``array`` (1-D marks have none); :class:`UsageError` if there is no such array."""
        if array not in self.store.spec.arrays:
            raise UsageError(f"{self.store.path} has no array '{array}'; it has {', '.join(self.store.spec.arrays)}")
        return self._widths[array]

    def read(self, array: str, block: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """One block of one array, (rows, channel) or (rows,), with a single ``readinto``; into ``out`` if it is given.

        A block that is not on this machine is fetched whole.

        Raises:
            SubgridError: the file is absent, truncated, or holds NaN or infinity (looked for at the first reading).
        """
        marks = array in MARKS
        dtype = MARKS[array] if marks else np.dtype("<f4")
        shape = (self.block,) if marks else (self.block, self.width(array))
        path = chunk_file(self.folder, array, block, len(shape))
        # A short last block is a full one on disk, for which `out` has no room.
        direct = out is not None and out.shape == shape and out.dtype == dtype and out.flags.c_contiguous
        values: NDArray[Any] = out if out is not None and direct else np.empty(shape, dtype)
        try:
            got = read_into(path, values)
        except FileNotFoundError as error:
            raise SubgridError(f"{path} is missing: the store is incomplete; make it again") from error
        if got != values.nbytes:
            raise SubgridError(f"{path} is truncated ({got} of {values.nbytes} bytes); make the store again")
        values = values[: self.rows(block)]
        # Looked at once: an epoch of training reads every block again.
        if not marks and (array, block) not in self._sound:
            require_finite(values, self.store.spec.arrays[array], self.store.grid.levels, f"'{array}'", f" of {path}")
            self._sound.add((array, block))
        if out is not None and not direct:
            out[...] = values
        return values

    def mark(self, name: str) -> NDArray[Any]:
        """A whole 1-D array: ``time`` (s since 1970), ``column`` or ``weight``."""
        parts = [self.read(name, block) for block in range(self.blocks)]
        return np.concatenate(parts) if parts else np.empty(0, MARKS[name])

    def statistics(self, array: str) -> dict[str, NDArray[np.float64]]:
        """``mean``, ``std``, ``min``, ``max`` of each channel, float64; :class:`SubgridError` if they are damaged."""
        import zarr

        try:
            group = zarr.open_group(str(self.folder), mode="r")
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise SubgridError(f"{self.folder}: damaged description ({error!r}); make the store again") from error
        found = {}
        for field in ("mean", "std", "min", "max"):
            try:
                found[field] = np.asarray(group[f"{array}_{field}"], np.float64)
            except (KeyError, ValueError, TypeError) as error:
                raise SubgridError(
                    f"{self.folder}: damaged statistics '{array}_{field}' ({error!r}); make the store again"
                ) from error
            finite = np.isfinite(found[field]).all() or not self.samples
            if found[field].shape != (self.width(array),) or not finite:
                raise SubgridError(f"{self.folder}: damaged statistics '{array}_{field}'; make the store again")
        return found

    def selection(self, variables: Iterable[Variable]) -> list[tuple[str, NDArray[np.intp]]]:
        """Which arrays and channels hold ``variables``, in the order of first use.

        Raises:
            UsageError: the store lacks one of them.
        """
        found: list[tuple[str, NDArray[np.intp]]] = []
        for variable in variables:
            array = self.store.array_of(variable.name)
            part = self._places[array][variable.name]
            index = np.arange(part.start, part.stop)
            if found and found[-1][0] == array:
                found[-1] = (array, np.concatenate([found[-1][1], index]))
            else:
                found.append((array, index))
        return found

    def read_variables(
        self, variables: Iterable[Variable], block: int, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """One block of ``variables`` in the flat layout, (rows, channel) float32, into ``out`` if it is given.

        A variable that is the sum of others is summed here, in float64.
        """
        variables = tuple(variables)
        stored = self._stored(variables)
        if not any(v.sum_of for v in variables):
            return self._read_stored(stored, block, out)
        values = self._read_stored(stored, block)
        levels = self.store.grid.levels
        place, own = offsets(stored, levels), offsets(variables, levels)
        width = sum(v.width(levels) for v in variables)
        found = np.empty((len(values), width), np.float32) if out is None else out
        for v in variables:
            parts = (factor * values[:, place[name]].astype(np.float64) for name, factor in v.stored.items())
            found[:, own[v.name]] = sum(parts)
        return found

    def _stored(self, variables: tuple[Variable, ...]) -> tuple[Variable, ...]:
        """The stored variables that ``variables`` are made of, each once."""
        return tuple({name: replace(v, name=name, sum_of=()) for v in variables for name in v.stored}.values())

    def _read_stored(
        self, variables: tuple[Variable, ...], block: int, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        chosen = self.selection(variables)
        if len(chosen) == 1 and np.array_equal(chosen[0][1], np.arange(self.width(chosen[0][0]))):
            return self.read(chosen[0][0], block, out)
        held = {array: self.read(array, block) for array in dict.fromkeys(array for array, _ in chosen)}
        # take, as [:, index] would lay rows out column by column, and every batch be gathered across all of it
        return np.concatenate([held[array].take(index, axis=1) for array, index in chosen], axis=1, out=out)

    def variable_statistics(self, variables: Iterable[Variable]) -> dict[str, NDArray[np.float64]]:
        """``mean``, ``std``, ``min``, ``max`` of ``variables`` in the flat layout, float64.

        The store holds those of its own variables; sums need a pass over the split.
        """
        variables = tuple(variables)
        if any(v.sum_of for v in variables):
            total = ChannelStatistics.empty(sum(v.width(self.store.grid.levels) for v in variables))
            for block in range(self.blocks):
                total = total.merge(ChannelStatistics.of(self.read_variables(variables, block)))
            return total.summary()
        chosen = self.selection(variables)
        arrays = {name: self.statistics(name) for name, _ in chosen}
        return {
            field: np.concatenate([arrays[name][field][index] for name, index in chosen])
            for field in ("mean", "std", "min", "max")
        }


class JoinedSplits:
    """Several splits read as one: their blocks one after the other. Has what a loader asks of a split."""

    def __init__(self, parts: list[Split]) -> None:
        self.parts = parts
        self.store, self.block, self.folder = parts[0].store, parts[0].block, parts[0].folder
        self.samples = sum(p.samples for p in parts)
        self._places = [(p, b) for p in parts for b in range(p.blocks)]
        self.blocks = len(self._places)

    def rows(self, block: int) -> int:
        """Number of samples in a block."""
        part, own = self._places[block]
        return part.rows(own)

    def read(self, array: str, block: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """One block of one array."""
        part, own = self._places[block]
        return part.read(array, own, out)

    def read_variables(
        self, variables: Iterable[Variable], block: int, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """One block of ``variables`` in the flat layout."""
        part, own = self._places[block]
        return part.read_variables(variables, own, out)


class ColumnStore:
    """A finished store: grid, variables, provenance and splits. Open one with :func:`open_store`."""

    def __init__(self, path: Place, spec: StoreSpec, split_names: list[str]) -> None:
        self.path, self.spec, self.split_names = path, spec, split_names
        self._array_of = {v.name: name for name, group in [*spec.arrays.items()][::-1] for v in group}

    @property
    def grid(self) -> ColumnGrid:
        """The columns' grid."""
        return self.spec.grid

    def local(self) -> Path:
        """The store's folder, for what is read from a folder alone (restarts, the control run).

        Raises:
            UsageError: the store is not on this machine.
        """
        if isinstance(self.path, RemotePath):
            raise UsageError(
                f"{self.path} is not on this machine: copy it first, `subgrid data copy {self.path} {self.path.name}`"
            )
        return self.path

    def __getitem__(self, split: str) -> Split:
        """The split called ``split``; raises :class:`UsageError` if there is none."""
        if split not in self.split_names:
            raise UsageError(f"{self.path} has no split '{split}'; it has {', '.join(self.split_names)}")
        return Split(self, split)

    def joined(self, *names: str) -> Split | JoinedSplits:
        """The splits called ``names`` as one."""
        parts = [self[name] for name in names]
        return parts[0] if len(parts) == 1 else JoinedSplits(parts)

    @property
    def variables(self) -> list[str]:
        """Names of all that the store holds."""
        return list(self._array_of)

    def array_of(self, variable: str) -> str:
        """Name of the array that holds ``variable``; raises :class:`UsageError` if none does."""
        if variable in self._array_of:
            return self._array_of[variable]
        raise UsageError(
            f"{self.path} lacks the variable '{variable}': choose a variable set that it holds, or make the "
            "store with it"
        )

    def require(self, variables: VariableSet) -> None:
        """Raise :class:`UsageError` naming every variable of ``variables`` that the store lacks."""
        held = {v.name for group in self.spec.arrays.values() for v in group}
        wanted = dict.fromkeys(name for v in (*variables.inputs, *variables.targets) for name in v.stored)
        missing = [name for name in wanted if name not in held]
        if missing:
            raise UsageError(
                f"{self.path} does not hold variable set '{variables.name}': it lacks {', '.join(missing)}; use a "
                "store that was made for this set"
            )

    def variable_set(self, name: str) -> VariableSet:
        """The variable set ``name``, checked to be in this store."""
        found = variable_set(name)
        self.require(found)
        return found

    def own_set(self) -> str:
        """Name of the variable set that the store was made for: its inputs and targets, else the one named as its host.

        Raises:
            UsageError: none is; the message asks for a name.
        """
        held = {name: [v.name for v in self.spec.arrays.get(name, ())] for name in ("inputs", "targets")}
        names = variable_set_names()
        for name in names:
            try:
                known = variable_set(name)
            except SubgridError:  # another package's, broken: whoever asks for it is told
                continue
            if held == {"inputs": [v.name for v in known.inputs], "targets": [v.name for v in known.targets]}:
                return name
        if self.spec.host in names:
            return self.spec.host
        raise UsageError(
            f"{self.path} is of no variable set of its own: choose one of {', '.join(names)} (variables=NAME)"
        )

    def info(self) -> dict[str, Any]:
        """A JSON-able summary: what ``subgrid data info`` prints."""
        splits = {}
        for name in self.split_names:
            split = self[name]
            time = split.mark("time")
            splits[name] = {
                "samples": split.samples,
                "blocks": split.blocks,
                "first": date_text(int(time.min()), self.spec.calendar) if split.samples else None,
                "last": date_text(int(time.max()), self.spec.calendar) if split.samples else None,
            }
        return {
            "path": str(self.path),
            "format_version": VERSIONS[STORE],
            "host": self.spec.host,
            "time_step_s": self.spec.time_step,
            "columns": self.grid.columns,
            "levels": self.grid.levels,
            "arrays": {name: [v.name for v in variables] for name, variables in self.spec.arrays.items()},
            "splits": splits,
            "bytes": self.bytes(),
            "provenance": dict(self.spec.provenance),
        }

    def bytes(self) -> int:
        """Size of all files; of the blocks alone where the place does not say."""
        if isinstance(self.path, Path):
            return folder_bytes(self.path)
        if lists_files(self.path):
            return sum(size or 0 for size in file_sizes(self.path).values())
        return sum(sum(_expected_files(self[name]).values()) for name in self.split_names)


def date_text(seconds: int, calendar: str) -> str:
    """The date of a time of the store (:data:`TIME_UNITS`), such as ``0001-02-01T00:20:00``."""
    if calendar == CALENDAR:
        return str(np.datetime64(seconds, "s"))
    import cftime

    return str(cftime.num2date(seconds, TIME_UNITS, calendar).isoformat())


def _zarr_json(folder: Place) -> dict[str, Any]:
    path = folder / "zarr.json"
    try:
        if isinstance(path, Path) and not path.is_file():
            raise MissingError(str(path))
        meta = read_json(path)
    except MissingError as error:
        why = "it has no zarr.json" if isinstance(folder, Path) else str(error)
        raise SubgridError(f"{folder} is not a finished column store ({why})") from error
    if not isinstance(meta, dict) or not isinstance(meta.get("attributes", {}), dict):
        raise SubgridError(f"{path}: damaged description; make the store again")
    return meta


def _expected_files(split: Split) -> dict[str, int]:
    """Every block file of a split, relative to its folder, and its bytes."""
    arrays = {name: split.width(name) * 4 for name in split.store.spec.arrays}
    arrays.update({name: dtype.itemsize for name, dtype in MARKS.items()})
    return {
        chunk_name(name, block, 1 if name in MARKS else 2): split.block * row_bytes
        for name, row_bytes in arrays.items()
        for block in range(split.blocks)
    }


def _check_files(split: Split) -> None:
    """Every block file is there and of full size; raises :class:`SubgridError` for the first that is not.

    A web server would be asked for each file: its blocks are checked as they are read.
    """
    if not lists_files(split.folder):
        return
    held = split.folder.sizes() if isinstance(split.folder, RemotePath) else {}
    for name, expected in _expected_files(split).items():
        path = split.folder / name
        try:
            size = held[name] if isinstance(path, RemotePath) else os.stat(path).st_size  # noqa: PTH116 - a hot loop
        except (FileNotFoundError, KeyError) as error:
            raise SubgridError(f"{path} is missing: the store is incomplete; make it again") from error
        if size != expected:
            raise SubgridError(f"{path} is truncated ({size} of {expected} bytes); make the store again")


def open_store(path: Place | str) -> ColumnStore:
    """Open a finished store: a folder, or a URL that fsspec reads (``s3://``, ``gs://``, ``hf://``, ``http://``, ...).

    Raises:
        UsageError: a URL of an unknown protocol.
        SubgridError: it does not exist, is unfinished, damaged, truncated, of another format version, or not reached.
    """
    path = place(path)
    if isinstance(path, Path) and not path.exists():
        if partial_path(path).exists():
            raise SubgridError(
                f"{path} is unfinished ({partial_path(path).name} is there): run the command that makes it again"
            )
        raise SubgridError(f"{path} does not exist; make a store with `subgrid data generate`")
    attributes = _zarr_json(path).get("attributes", {})
    spec = StoreSpec.from_attributes(attributes, path)
    names = attributes.get("splits")
    if not isinstance(names, list) or not all(isinstance(n, str) and Path(n).name == n for n in names):
        raise SubgridError(f"{path}: damaged list of splits; make the store again")
    store = ColumnStore(path, spec, [str(n) for n in names])
    for name in store.split_names:
        _check_files(store[name])
    return store
