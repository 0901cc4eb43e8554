"""A host's climate on disk: daily means as a Zarr group that xarray opens, written piece by piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from subgrid.columns.grid import ColumnGrid
from subgrid.hosts.diagnostics import Dimensions

#: Days per chunk, and per piece of a run between two checkpoints.
PIECE_DAYS = 30


class ClimateWriter:
    """Daily means of ``days`` days, filled piece by piece; writing a piece again gives the same file.

    Dimensions: ``time`` (start of the day), ``level`` (0 = top), ``column``.

    Args:
        path: of the Zarr group.
        grid: of the columns.
        profiles, scalars: names of fields with and without levels.
        start: of the first day, seconds since 1970-01-01.
        days: of the whole run.
        attributes: of the group, written last.
        diagnostics: further fields with their dimensions.
    """

    def __init__(
        self,
        path: Path,
        grid: ColumnGrid,
        profiles: Sequence[str],
        scalars: Sequence[str],
        start: int,
        days: int,
        attributes: Mapping[str, Any],
        diagnostics: Dimensions | None = None,
    ) -> None:
        import zarr

        self.path, self.days = path, days
        self.fields: dict[str, tuple[str, ...]] = {
            **dict.fromkeys(profiles, ("level", "column")),
            **dict.fromkeys(scalars, ("column",)),
            **(diagnostics or {}),
        }
        self._held: dict[int, dict[str, NDArray[Any]]] = {}
        if (path / "zarr.json").exists():
            self.group = zarr.open_group(path, mode="a")
            if attributes.items() <= dict(self.group.attrs).items():  # written last: without them it was cut in here
                return
        self.group = zarr.open_group(path, mode="w", zarr_format=3)
        chunk = min(PIECE_DAYS, days)
        sizes = {"level": grid.levels, "column": grid.columns}
        for name, dimensions in self.fields.items():
            shape = tuple(sizes[d] for d in dimensions)
            self.group.create_array(
                name,
                shape=(days, *shape),
                chunks=(chunk, *shape),
                dtype="float32",
                fill_value=np.nan,
                dimension_names=("time", *dimensions),
            )
        coordinates: dict[str, tuple[NDArray[Any], tuple[str, ...], dict[str, Any]]] = {
            "time": (
                np.int64(start) + 86400 * np.arange(days),
                ("time",),
                {"units": "seconds since 1970-01-01"},
            ),
            "latitude": (grid.latitude, ("column",), {"units": "degrees_north"}),
            "longitude": (grid.longitude, ("column",), {"units": "degrees_east"}),
            "area": (grid.area, ("column",), {"units": "sr"}),
        }
        for name, (values, dims, attrs) in coordinates.items():
            array = self.group.create_array(
                name, shape=values.shape, dtype=values.dtype, dimension_names=dims, attributes=attrs
            )
            array[...] = values
        self.group.update_attributes(dict(attributes))

    def add(self, day: int, means: Mapping[str, NDArray[Any]]) -> None:
        """Hold the means of day number ``day`` until :meth:`flush`."""
        self._held[day] = {name: np.asarray(values, np.float32) for name, values in means.items()}

    def flush(self) -> None:
        """Write what is held."""
        days = sorted(self._held)
        if not days:
            return
        first, last = days[0], days[-1] + 1
        for name in self.fields:
            target: Any = self.group[name]
            target[first:last] = np.stack([self._held[d][name] for d in days])
        self._held.clear()


def open_climate(path: Path) -> xr.Dataset:
    """Daily means at ``path`` as a dataset (lazy)."""
    return xr.open_zarr(path, consolidated=False, chunks=None)


def monthly_means(daily: xr.Dataset) -> xr.Dataset:
    """Means of each calendar month of ``daily``, labelled by the month's first day."""
    return daily.resample(time="MS").mean()
