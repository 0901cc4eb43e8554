"""What the tests of ClimSim's files share: copies of a few steps, damage done to them, and what a store holds."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from subgrid.columns.climsim.names import file_name, month_name, step_time
from subgrid.columns.store import ColumnStore
from subgrid.columns.variables import offsets

#: A file's variables: dimensions and values by name.
Fields = dict[str, tuple[tuple[str, ...], np.ndarray]]


def path_of(months: Path, kind: str, number: int) -> Path:
    """The file of one step below the folder of months."""
    year, month, day, seconds = step_time(number)
    return months / month_name(year, month) / file_name(kind, year, month, day, seconds)


def copy_steps(sample: Path, into: Path, numbers: Iterable[int], month: int = 0) -> Path:
    """Copy both files of the steps ``month + numbers`` and the grid file; returns the folder of months."""
    months = into / "train"
    for number in numbers:
        for kind in ("mli", "mlo"):
            target = path_of(months, kind, month + number)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path_of(sample / "train", kind, month + number), target)
    for grid in sample.glob("*grid-info.nc"):
        shutil.copy(grid, into)
    return months


def read_raw(path: Path) -> dict[str, np.ndarray]:
    """All variables of a file, as they are."""
    with netCDF4.Dataset(path) as file:
        file.set_auto_maskandscale(False)
        return {name: np.array(variable[...]) for name, variable in file.variables.items()}


def rewrite(path: Path, change: Callable[[Fields], Any], file_format: str = "NETCDF3_64BIT_DATA") -> None:
    """Write a file again after ``change`` has worked on its variables."""
    with netCDF4.Dataset(path) as file:
        file.set_auto_maskandscale(False)
        fields: Fields = {name: (v.dimensions, np.array(v[...])) for name, v in file.variables.items()}
    change(fields)
    sizes = {name: size for names, values in fields.values() for name, size in zip(names, values.shape, strict=True)}
    with netCDF4.Dataset(path, "w", format=file_format) as file:
        for name, size in sizes.items():
            file.createDimension(name, size)
        for name, (dimensions, values) in fields.items():
            file.createVariable(name, values.dtype, dimensions, fill_value=False)[...] = values


def stored(store: ColumnStore, split: str) -> dict[str, np.ndarray]:
    """What a split holds, by variable: (sample, level) profiles and (sample,) scalars, float32."""
    found = {}
    for array, group in store.spec.arrays.items():
        rows = np.concatenate([store[split].read(array, block) for block in range(store[split].blocks)])
        for name, part in offsets(group, store.grid.levels).items():
            found[name] = rows[:, part]
    return {name: v[:, 0] if v.shape[1] == 1 else v for name, v in found.items()}


def all_bytes(store: ColumnStore) -> dict[str, bytes]:
    """Every file of a store save the descriptions that hold its provenance, by its path in the store."""
    folder = store.local()
    found = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: held for name, held in found.items() if name not in ("zarr.json", "log.txt")}
