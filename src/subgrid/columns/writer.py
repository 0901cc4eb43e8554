"""Writing a column store: as a stream of rows, or chunk by chunk in any order, and its description at the end."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.base.arrays import read_arrays, write_arrays
from subgrid.base.errors import SubgridError
from subgrid.base.files import (
    make_folder,
    partial_path,
    read_json,
    remove_leftovers,
    replace_folder,
    writable,
    write_file,
)
from subgrid.columns.layout import TIME_UNITS, StoreSpec, chunk_file, require_finite
from subgrid.columns.statistics import ChannelStatistics
from subgrid.columns.store import ColumnStore, open_store
from subgrid.columns.variables import channel_labels

logger = logging.getLogger("subgrid")
#: What a store is being made of, in the partial folder of one that is not finished.
SETTINGS_FILE = "settings.json"


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


def finished_store(path: Path, made_by: Mapping[str, Any]) -> ColumnStore:
    """The store that a conversion finds at ``path`` already.

    Raises:
        SubgridError: it is not finished, or its provenance says under ``convert`` other settings than ``made_by``.
    """
    store = open_store(path)
    if store.spec.provenance.get("convert") != json.loads(json.dumps(made_by)):
        raise SubgridError(f"{path} exists already, made with other settings; remove it or choose another name")
    logger.info("convert: %s is finished already", path)
    return store
