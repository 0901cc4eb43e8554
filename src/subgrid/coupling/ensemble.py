"""Members beside each other: the noise floor of a control ensemble, and how far runs are from it, in units of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from subgrid.columns.grid import ColumnGrid
from subgrid.coupling.compare import (
    DISTANCES,
    RAIN,
    SECTIONS,
    global_series,
    latitude_edges,
    precipitation,
    worst_place,
)
from subgrid.scores.climate import area_mean, weighted_rmse, zonal_mean

#: Fields without levels whose means are compared, where a host has them.
FLAT = ("precipitation", "column_water_vapour", "outgoing_longwave")
Means = dict[str, NDArray[np.float64]]


def means(daily: xr.Dataset, days: slice, grid: ColumnGrid) -> Means:
    """Time means over ``days`` of everything that a distance is taken of.

    Returns:
        Fields by their names, (level, column) and (column,); ``zonal_<profile>``: the zonal mean at every column,
        (level, column); ``global_<series>``: area means of the series that show a drift, shape ().
    """
    part = daily.isel(time=days)
    found = {name: _mean(part[name]) for name in DISTANCES if name in part}
    for name in FLAT:
        if name == "precipitation" and all(one in part for one in RAIN):
            found[name] = _mean(precipitation(part))
        elif name in part:
            found[name] = _mean(part[name])
    edges = latitude_edges(grid)
    row = np.clip(np.searchsorted(edges, grid.latitude, side="right") - 1, 0, len(edges) - 2)
    for name in (name for name in SECTIONS if name in part):
        field = found[name] if name in found else _mean(part[name])
        found[f"zonal_{name}"] = zonal_mean(field, grid.latitude, grid.area, edges)[:, row]
    for name, series in global_series(part, grid).items():
        found[f"global_{name}"] = np.asarray(series.mean())
    return found


def _mean(values: xr.DataArray) -> NDArray[np.float64]:
    return np.asarray(values.mean("time").values, np.float64)


def distance(one: Means, other: Means, grid: ColumnGrid) -> dict[str, float]:
    """RMSE between two means, each field weighted by mass and area, or by area; of global means their difference."""
    mass = np.asarray(grid.vertical.sigma_thickness)[:, None] * grid.area
    found = {}
    for name, values in one.items():
        if name in other:
            weight = mass if values.ndim == 2 else grid.area
            apart = abs(values - other[name]) if values.ndim == 0 else weighted_rmse(values, other[name], weight)
            found[name] = float(apart)
    return found


def noise_floor(controls: Sequence[Means], grid: ColumnGrid) -> dict[str, float]:
    """Median over all pairs of control members of the RMSE between their means; empty for fewer than two."""
    pairs = [distance(a, b, grid) for a, b in combinations(controls, 2)]
    return _medians(pairs)


def against(run: Means, controls: Sequence[Means], grid: ColumnGrid) -> dict[str, float]:
    """Median over the control members of the RMSE between a run's means and theirs: what the floor is to a control."""
    return _medians([distance(run, control, grid) for control in controls])


def worst_zonal(run: Means, controls: Sequence[Means], grid: ColumnGrid) -> dict[str, float]:
    """Where below 100 hPa a run's zonal-mean temperature departs most from the mean of the controls'; and as
    ``between_controls_K`` how far a control departs somewhere from the others (median over the members)."""
    name = "zonal_temperature"

    def apart(one: Means, others: Sequence[Means]) -> dict[str, float]:
        return worst_place(one[name] - np.mean([other[name] for other in others], axis=0), grid, grid.latitude)

    found = apart(run, controls)
    if len(controls) > 1:
        own = [apart(one, [other for other in controls if other is not one])["difference_K"] for one in controls]
        found["between_controls_K"] = float(np.median(np.abs(own)))
    return found


def _medians(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.median([one[name] for one in found])) for name in (found[0] if found else {})}


def growth(one: xr.Dataset, other: xr.Dataset, grid: ColumnGrid, name: str) -> NDArray[np.float64]:
    """RMSE of each day between two runs, whole column by mass and area, (time,)."""
    days = min(one.sizes["time"], other.sizes["time"])
    apart = one[name].isel(time=slice(0, days)) - other[name].isel(time=slice(0, days)).values
    by_level = area_mean(np.asarray(apart.values, np.float64) ** 2, grid.area)
    thickness = np.asarray(grid.vertical.sigma_thickness)
    return np.asarray(np.sqrt(by_level @ (thickness / thickness.sum())))


def growth_of(
    members: Mapping[str, xr.Dataset], controls: Sequence[xr.Dataset], grid: ColumnGrid, days: int
) -> xr.Dataset:
    """RMSE of each day: of every member against the first control, and quantiles over pairs of controls.

    Args:
        members: daily means by name; one that ended early has NaN afterwards.
        controls: daily means of the control members.
        grid: their columns.
        days: length.

    Returns:
        ``growth_<field>`` (member, time) and ``noise_<field>`` (quantile, time), quantiles .1, .5 and .9.
    """
    found: dict[str, Any] = {}
    quantiles = [0.1, 0.5, 0.9]
    for name in (n for n in DISTANCES if n in controls[0]):
        lines = np.full((len(members), days), np.nan)
        for k, daily in enumerate(members.values()):
            line = growth(daily, controls[0], grid, name)
            lines[k, : len(line)] = line
        found[f"growth_{name}"] = (("member", "time"), lines)
        pairs = [growth(a, b, grid, name)[:days] for a, b in combinations(controls, 2)]
        if pairs:
            found[f"noise_{name}"] = (("quantile", "time"), np.quantile(pairs, quantiles, axis=0))
    return xr.Dataset(found, coords={"member": list(members), "quantile": quantiles, "time": np.arange(days)})
