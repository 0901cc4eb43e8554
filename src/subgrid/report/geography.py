"""Columns as maps: back onto their regular longitude-latitude grid, with coastlines from the land fraction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from subgrid.columns.store import ColumnStore
from subgrid.report.style import COAST, latitude_edges, latitude_ticks, longitude_ticks

#: Blocks read to see the land fraction of every column.
BLOCKS = 6
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Land:
    """Land fraction of columns, with their places in degrees; all (column,), NaN where no sample was seen."""

    latitude: Values
    longitude: Values
    fraction: Values


def land_of(store: ColumnStore) -> Land | None:
    """The land fraction that the samples of ``store`` carry; None where the host has none."""
    variables = store.spec.arrays.get("inputs", ())
    wanted = [v for v in variables if v.name == "land_fraction"]
    if not wanted:
        return None
    fraction = np.full(store.grid.columns, np.nan)
    for name in store.split_names:
        split = store[name]
        for block in range(min(split.blocks, BLOCKS)):
            if not np.isnan(fraction).any():
                break
            fraction[split.read("column", block)] = split.read_variables(wanted, block)[:, 0]
    return Land(store.grid.latitude, store.grid.longitude, fraction)


@dataclass(frozen=True)
class Lattice:
    """A regular grid behind columns: longitudes from -180, latitudes from south, and each column's cell."""

    longitude: Values
    latitude: Values
    index: tuple[NDArray[np.intp], NDArray[np.intp]]

    def field(self, values: Values) -> Values:
        """(column,) to (latitude, longitude), NaN where there is no column."""
        found = np.full((self.latitude.size, self.longitude.size), np.nan)
        found[self.index] = values
        return found


def lattice(latitude: Values, longitude: Values) -> Lattice | None:
    """The regular grid of columns; None if they are not on one."""
    east = np.round((np.asarray(longitude, np.float64) + 180.0) % 360.0 - 180.0, 6)
    rows, row = np.unique(np.round(latitude, 6), return_inverse=True)
    lines, line = np.unique(east, return_inverse=True)
    if rows.size * lines.size != east.size or rows.size < 2 or lines.size < 2:
        return None
    return Lattice(lines, rows, (row, line))


def coastline(ax: Axes, land: Land | None) -> None:
    """The contour of half land, wrapped over the date line; nothing without geography."""
    if land is None:
        return
    grid = lattice(land.latitude, land.longitude)
    if grid is None:
        return
    field = grid.field(land.fraction)
    for row in field:
        known = np.flatnonzero(~np.isnan(row))
        if known.size:
            row[:] = np.interp(np.arange(row.size), known, row[known])
    field = np.nan_to_num(field)
    wrapped = np.concatenate([field[:, -1:], field, field[:, :1]], axis=1)
    step = 360.0 / grid.longitude.size
    longitude = np.concatenate([[grid.longitude[0] - step], grid.longitude, [grid.longitude[-1] + step]])
    if wrapped.min() < 0.5 < wrapped.max():
        ax.contour(longitude, grid.latitude, wrapped, levels=[0.5], colors=COAST, linewidths=0.8)


def draw_map(
    ax: Axes,
    latitude: Values,
    longitude: Values,
    values: Values,
    colours: str,
    norm: Normalize,
    land: Land | None = None,
) -> Any:
    """A map of (column,) values: cells on a regular grid, dots elsewhere; returns what a colour bar needs."""
    grid = lattice(latitude, longitude)
    if grid is None:
        east = (longitude + 180.0) % 360.0 - 180.0
        mesh: Any = ax.scatter(east, latitude, c=values, cmap=colours, norm=norm, s=8, linewidths=0)
    else:
        step = 360.0 / grid.longitude.size
        edges = np.append(grid.longitude - 0.5 * step, grid.longitude[-1] + 0.5 * step)
        rows = latitude_edges(grid.latitude)
        field = grid.field(values)
        mesh = ax.pcolormesh(edges, rows, field, cmap=colours, norm=norm, rasterized=True)
        # The first cell straddles the date line: its western half belongs to the eastern edge.
        if edges[-1] < 180.0 - 1e-6:
            last = np.array([edges[-1], edges[-1] + step])
            ax.pcolormesh(last, rows, field[:, :1], cmap=colours, norm=norm, rasterized=True)
    coastline(ax, land)
    ax.grid(False)
    ax.set_aspect("equal")
    latitude_ticks(ax, "y", step=30)
    longitude_ticks(ax)
    return mesh
