"""The column store: a Zarr v3 group of raw (sample, channel) arrays, one uncompressed file per shuffle block.

Layout::

    store.zarr/
      zarr.json                 attributes: format_version, grid, variables, time_step, provenance
      <split>/inputs            float32 (sample, channel): state and boundary conditions
      <split>/history           float32 (sample, channel): memory of the host (previous and dynamics tendencies)
      <split>/targets           float32 (sample, channel): total tendencies and fluxes
      <split>/terms             float32 (sample, channel), on request: tendencies of each physics term
      <split>/time, column, weight   1-D; weight = area / sampling probability
      <split>/<array>_{mean,std,min,max}   float64 (channel)
      control/ ...              the host's own climate, written by the host

xarray opens each split as it is. A chunk file is one block of ``block`` samples, read with one ``readinto``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from subgrid.base.arrays import read_arrays, write_arrays
from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.files import (
    folder_bytes,
    make_folder,
    partial_path,
    read_json,
    remove_leftovers,
    replace_folder,
    writable,
    write_file,
)
from subgrid.base.formats import STORE, VERSIONS, mark, require_format
from subgrid.base.places import MissingError, Place, RemotePath, file_sizes, lists_files, place, read_into
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.statistics import ChannelStatistics
from subgrid.columns.variables import Variable, VariableSet, channel_labels, offsets, variable_set, variable_set_names

Folder = TypeVar("Folder", bound=Place)
BLOCK = 16384
#: What a store is being made of, in the partial folder of one that is not finished.
SETTINGS_FILE = "settings.json"
#: 1-D arrays that every split carries beside its (sample, channel) arrays.
MARKS: dict[str, np.dtype[Any]] = {
    "time": np.dtype("<i8"),
    "column": np.dtype("<i4"),
    "weight": np.dtype("<f4"),
}
TIME_UNITS = "seconds since 1970-01-01"
CALENDAR = "proleptic_gregorian"
#: Calendars that a store may have: of hosts, and of ClimSim.
CALENDARS = (CALENDAR, "noleap")


@dataclass(frozen=True)
class StoreSpec:
    """What a store holds, fixed when it is begun.

    Args:
        grid: the columns' grid.
        arrays: variables of each (sample, channel) array, by array name.
        time_step: the host's step, s.
        host: name of the model that the columns come from.
        provenance: how the store was made (JSON-able).
        block: samples per chunk file.
        calendar: of the times, by its CF name.
    """

    grid: ColumnGrid
    arrays: Mapping[str, tuple[Variable, ...]]
    time_step: float
    host: str
    provenance: Mapping[str, Any]
    block: int = BLOCK
    calendar: str = CALENDAR

    def widths(self) -> dict[str, int]:
        """Number of channels of each (sample, channel) array."""
        return {name: sum(v.width(self.grid.levels) for v in group) for name, group in self.arrays.items()}

    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """Type of every array of a split."""
        return {**{name: np.dtype("<f4") for name in self.arrays}, **MARKS}

    def attributes(self) -> dict[str, Any]:
        """The root attributes of the Zarr group."""
        return {
            **mark(STORE),
            "host": self.host,
            "time_step": self.time_step,
            "block": self.block,
            "calendar": self.calendar,
            "grid": self.grid.to_dict(),
            "arrays": {name: [v.to_dict() for v in variables] for name, variables in self.arrays.items()},
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any], path: Place) -> StoreSpec:
        """Read back :meth:`attributes`, refusing what is not a store or of another format."""
        require_format(attributes, STORE, path)
        try:
            block, time_step = int(attributes["block"]), float(attributes["time_step"])
            if block < 1:
                raise ValueError(f"block is {block}")
            if not 0.0 < time_step < float("inf"):
                raise ValueError(f"time_step is {time_step}")
            strange = [name for name in attributes["arrays"] if not str(name).isidentifier()]
            if strange:
                raise ValueError(f"array name {strange[0]!r}")
            calendar = str(attributes.get("calendar", CALENDAR))
            if calendar not in CALENDARS:
                raise ValueError(f"calendar {calendar!r}")
            return cls(
                grid=ColumnGrid.from_dict(attributes["grid"]),
                arrays={
                    str(name): tuple(Variable.from_dict(v) for v in variables)
                    for name, variables in attributes["arrays"].items()
                },
                time_step=time_step,
                host=str(attributes["host"]),
                provenance=dict(attributes["provenance"]),
                block=block,
                calendar=calendar,
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, SubgridError) as error:
            raise SubgridError(f"{path}: damaged store description ({error!r}); make the store again") from error


def chunk_file(folder: Folder, array: str, block: int, dimensions: int) -> Folder:
    """The file of one block of an array of the split ``folder``; ``dimensions`` is 1 for a mark, else 2."""
    return cast(Folder, folder / _chunk_name(array, block, dimensions))


def _chunk_name(array: str, block: int, dimensions: int) -> str:
    return f"{array}/c/{block}/0" if dimensions == 2 else f"{array}/c/{block}"


class _SplitWriter:
    """Collects the rows of one split, writes full blocks, keeps the statistics."""

    def __init__(self, folder: Path, spec: StoreSpec) -> None:
        self.folder, self.spec = folder, spec
        self.dtypes, self.widths = spec.dtypes(), spec.widths()
        self.blocks = 0
        self.pending: dict[str, list[NDArray[Any]]] = {name: [] for name in self.dtypes}
        self.pending_rows = 0
        self.statistics = {name: ChannelStatistics.empty(width) for name, width in self.widths.items()}

    @property
    def samples(self) -> int:
        return self.blocks * self.spec.block + self.pending_rows

    def append(self, rows: Mapping[str, NDArray[Any]]) -> None:
        if set(rows) != set(self.dtypes):
            raise SubgridError(f"a store row needs the arrays {sorted(self.dtypes)}, got {sorted(rows)}")
        count = len(rows["time"])
        stored = {name: self._stored(name, values, count) for name, values in rows.items()}
        for name, values in stored.items():
            self.pending[name].append(values)
        self.pending_rows += count
        while self.pending_rows >= self.spec.block:
            self._flush(self.spec.block)

    def _stored(self, name: str, values: NDArray[Any], count: int) -> NDArray[Any]:
        """``values`` as they are stored; refused before anything is kept, so that a caller may correct its rows."""
        expected = (count, self.widths[name]) if name in self.widths else (count,)
        if values.shape != expected:
            raise SubgridError(f"store array '{name}': rows of shape {values.shape}, expected {expected}")
        with np.errstate(over="ignore"):
            found = np.asarray(values, self.dtypes[name])
        if name in self.widths:
            require_finite(found, self.spec.arrays[name], self.spec.grid.levels, f"'{name}'")
        return found

    def _flush(self, rows: int) -> None:
        for name, dtype in self.dtypes.items():
            joined = np.concatenate(self.pending[name]) if self.pending[name] else np.empty(0, dtype)
            block, rest = joined[:rows], joined[rows:]
            self.pending[name] = [rest]
            if name in self.statistics:
                self.statistics[name] = self.statistics[name].merge(ChannelStatistics.of(block))
            write_chunk(self.folder, self.spec, name, self.blocks, block)
        self.blocks += 1
        self.pending_rows -= rows

    def state(self) -> dict[str, NDArray[Any]]:
        """What a resumed writer needs: the rows not yet in a block, the counts and the statistics."""
        found: dict[str, NDArray[Any]] = {"blocks": np.asarray(self.blocks)}
        for name, dtype in self.dtypes.items():
            shape = (0, self.widths[name]) if name in self.widths else (0,)
            parts = [p for p in self.pending[name] if len(p)]
            found[f"pending.{name}"] = np.concatenate(parts) if parts else np.empty(shape, dtype)
        for name, statistics in self.statistics.items():
            for field, values in statistics.to_arrays().items():
                found[f"statistics.{name}.{field}"] = values
        return found

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.blocks = int(state["blocks"])
        self.pending = {name: [np.array(state[f"pending.{name}"])] for name in self.dtypes}
        self.pending_rows = len(self.pending["time"][0])
        for name in self.statistics:
            prefix = f"statistics.{name}."
            arrays = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            self.statistics[name] = ChannelStatistics.from_arrays(arrays)

    def finish(self) -> None:
        samples = self.samples
        if self.pending_rows:
            self._flush(self.pending_rows)
        finish_split(self.folder, self.spec, samples, self.statistics)


def write_chunk(folder: Path, spec: StoreSpec, array: str, block: int, rows: NDArray[Any]) -> None:
    """Write the ``rows`` of one block of an array of the split ``folder``; a short block is filled with zeros."""
    if len(rows) < spec.block:
        rows = np.pad(rows, [(0, spec.block - len(rows))] + [(0, 0)] * (rows.ndim - 1))
    target = chunk_file(folder, array, block, rows.ndim)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as handle:
        handle.write(np.ascontiguousarray(rows).data)


def begin_store(path: Path, spec: StoreSpec) -> None:
    """Make the partial folder of the store ``path``, or go on with it.

    Raises:
        SubgridError: it cannot be written, or was begun with other settings.
    """
    folder = make_folder(partial_path(path))
    settings = json.loads(json.dumps(spec.attributes()))
    described = folder / SETTINGS_FILE
    if not described.exists():
        write_file(described, lambda beside: beside.write_text(json.dumps(settings)))
    elif read_json(described) != settings:
        raise SubgridError(f"{folder} was begun with other settings; remove it, or use the settings that it holds")


def finish_split(folder: Path, spec: StoreSpec, samples: int, statistics: Mapping[str, ChannelStatistics]) -> None:
    """Describe the split ``folder``, whose chunks are all written: its arrays, labels and statistics."""
    import zarr

    widths = spec.widths()
    group = zarr.open_group(folder, mode="a", zarr_format=3)
    group.update_attributes({"samples": samples})
    for name, dtype in spec.dtypes().items():
        two = name in widths
        shape = (samples, widths[name]) if two else (samples,)
        # Left by a kill in here; the chunks beside it stay.
        (folder / name / "zarr.json").unlink(missing_ok=True)
        group.create_array(
            name,
            shape=shape,
            chunks=(spec.block, *shape[1:]),
            dtype=dtype,
            compressors=None,
            fill_value=0,
            dimension_names=("sample", f"{name}_channel") if two else ("sample",),
            attributes={"units": TIME_UNITS, "calendar": spec.calendar} if name == "time" else {},
        )
        if two:
            labels = channel_labels(spec.arrays[name], spec.grid.levels)
            _write_labels(group, name, labels, statistics[name])


def _write_labels(group: Any, name: str, labels: list[str], statistics: ChannelStatistics) -> None:
    channel = group.create_array(
        f"{name}_channel",
        shape=(len(labels),),
        dtype=f"<U{max(map(len, labels), default=1)}",
        dimension_names=(f"{name}_channel",),
        overwrite=True,
    )
    channel[:] = np.asarray(labels)
    for field, values in statistics.summary().items():
        array = group.create_array(
            f"{name}_{field}",
            shape=values.shape,
            dtype=np.float64,
            dimension_names=(f"{name}_channel",),
            overwrite=True,
        )
        array[:] = values


def finish_store(path: Path, spec: StoreSpec, splits: Iterable[str], scaffolding: Iterable[str]) -> ColumnStore:
    """Describe the store whose splits are finished in the partial folder of ``path``, rename it there and open it.

    ``scaffolding`` are the files and folders that served its making and are removed once it is in place.
    """
    import zarr

    folder = partial_path(path)
    with writable(folder):
        root = zarr.open_group(folder, mode="a", zarr_format=3)
        root.update_attributes({**spec.attributes(), "splits": sorted(splits)})
        remove_leftovers(folder)
    replace_folder(folder, path)
    # Only now: a kill before the rename must find them.
    for made in scaffolding:
        if (path / made).is_dir():
            shutil.rmtree(path / made)
        else:
            (path / made).unlink(missing_ok=True)
    return open_store(path)


def require_finite(
    values: NDArray[Any], variables: Iterable[Variable], levels: int, where: str, origin: str = ""
) -> None:
    """Raise :class:`SubgridError` that counts NaN and infinities per variable, if there are any."""
    # Both are NaN if anything is; far cheaper than looking at every value.
    if not values.size or (np.isfinite(values.min()) and np.isfinite(values.max())):
        return
    bad = ~np.isfinite(values)
    found = [
        f"{name} ({int(bad[:, part].sum())} of {bad[:, part].size})"
        for name, part in offsets(variables, levels).items()
        if bad[:, part].any()
    ]
    if found:
        raise SubgridError(f"NaN or infinity in {where}{origin}: {', '.join(found)}")


class StoreWriter:
    """Writes a store as a stream; killed and begun again with the same settings it goes on from the last checkpoint.

    The store is built in ``<path>.partial`` and renamed by :meth:`finish`. Memory is one block per split.
    """

    def __init__(self, path: Path | str, spec: StoreSpec) -> None:
        """Begin or resume a store at ``path``.

        Raises:
            SubgridError: ``path`` exists already, cannot be written, or holds a partial store of other settings.
        """
        self.path = Path(path)
        self.spec = spec
        self.folder = partial_path(self.path)
        if self.path.exists():
            raise SubgridError(f"{self.path} exists already; remove it or choose another name")
        make_folder(self.folder)
        self.splits: dict[str, _SplitWriter] = {}
        self.resumed: dict[str, NDArray[Any]] | None = None
        self._begin_or_resume()

    @property
    def _checkpoint_file(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def _begin_or_resume(self) -> None:
        described = self.folder / SETTINGS_FILE
        if described.exists() and self._checkpoint_file.exists():
            begin_store(self.path, self.spec)
            try:
                self._resume(read_arrays(self._checkpoint_file))
            except (SubgridError, KeyError, IndexError, TypeError, ValueError) as error:
                reason = error if isinstance(error, SubgridError) else f"{self._checkpoint_file}: {error!r}"
                raise SubgridError(f"{reason}: remove {self.folder} and the same command begins again") from error
            return
        if described.exists():  # begun, perhaps otherwise, and cut before its first checkpoint
            shutil.rmtree(self.folder)
        begin_store(self.path, self.spec)

    def _resume(self, state: Mapping[str, NDArray[Any]]) -> None:
        for key in {k.split("/")[1] for k in state if k.startswith("split/")}:
            prefix = f"split/{key}/"
            self._split(key).load_state({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        self.resumed = {k.removeprefix("extra/"): v for k, v in state.items() if k.startswith("extra/")}

    def _split(self, name: str) -> _SplitWriter:
        if name not in self.splits:
            self.splits[name] = _SplitWriter(self.folder / name, self.spec)
        return self.splits[name]

    def append(self, split: str, rows: Mapping[str, NDArray[Any]]) -> None:
        """Add rows: every (sample, channel) array of the spec plus ``time``, ``column`` and ``weight``.

        Raises:
            SubgridError: a missing array, a wrong shape, or NaN/infinity (named and counted).
        """
        with writable(self.folder):
            self._split(split).append(rows)

    def checkpoint(self, extra: Mapping[str, NDArray[Any]]) -> None:
        """Make everything appended so far survive a kill, together with the caller's ``extra`` arrays."""
        state = {f"extra/{k}": v for k, v in extra.items()}
        for name, split in self.splits.items():
            state.update({f"split/{name}/{k}": v for k, v in split.state().items()})
        write_arrays(self._checkpoint_file, state)

    def finish(self, **learnt: Any) -> ColumnStore:
        """Write the metadata, rename the store into place and open it.

        ``learnt`` (JSON-able) joins the provenance: what only the rows themselves could tell.
        """
        with writable(self.folder):
            for split in self.splits.values():
                split.finish()
        spec = replace(self.spec, provenance={**self.spec.provenance, **learnt})
        return finish_store(self.path, spec, self.splits, (self._checkpoint_file.name, SETTINGS_FILE))


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
        _chunk_name(name, block, 1 if name in MARKS else 2): split.block * row_bytes
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
