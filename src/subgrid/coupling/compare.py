"""A coupled climate against its control: series, zonal means, maps, histograms and budgets, all area-weighted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from subgrid.columns.grid import ColumnGrid
from subgrid.physics.constants import SPEEDY
from subgrid.scores.climate import area_mean, histogram, zonal_mean

SECONDS_PER_DAY = 86400.0
RAIN = ("convective_precipitation", "large_scale_precipitation")
#: What the budgets need beside rain.
BUDGET = (
    "column_heating",
    "column_moistening",
    "absorbed_solar",
    "outgoing_longwave",
    "surface_net_shortwave",
    "surface_upward_longwave",
    "surface_downward_longwave",
    "sensible_heat_flux",
    "evaporation",
)
#: Where "mid-troposphere" is.
MID_SIGMA = 0.51
#: Edges of the histogram of daily precipitation, mm/day.
RAIN_EDGES = np.concatenate([[0.0, 0.1, 0.3, 1.0], np.arange(2.0, 62.0, 2.0)])


def precipitation(daily: xr.Dataset) -> xr.DataArray:
    """Total precipitation, mm/day."""
    return (daily["convective_precipitation"] + daily["large_scale_precipitation"]) * SECONDS_PER_DAY


def window(days: int) -> slice:
    """The days that a verdict is about: the last third of the run."""
    return slice(days - max(1, days // 3), days)


def _values(array: xr.DataArray) -> NDArray[np.float64]:
    return np.asarray(array.values, np.float64)


#: Series of a climate: the daily means that each needs, and what is made of them, (time, column).
SERIES: dict[str, tuple[tuple[str, ...], Callable[[xr.Dataset, ColumnGrid], xr.DataArray]]] = {
    "temperature_mid": (
        ("temperature",),
        lambda daily, grid: daily["temperature"][:, grid.vertical.nearest_level(MID_SIGMA)],
    ),
    "temperature_lowest": (("temperature",), lambda daily, grid: daily["temperature"][:, -1]),
    "humidity_lowest": (("specific_humidity",), lambda daily, grid: daily["specific_humidity"][:, -1] * 1e3),
    "precipitation": (RAIN, lambda daily, grid: precipitation(daily)),
    "evaporation": (("evaporation",), lambda daily, grid: daily["evaporation"] * SECONDS_PER_DAY),
    "outgoing_longwave": (("outgoing_longwave",), lambda daily, grid: daily["outgoing_longwave"]),
    "absorbed_solar": (("absorbed_solar",), lambda daily, grid: daily["absorbed_solar"]),
    "column_water_vapour": (("column_water_vapour",), lambda daily, grid: daily["column_water_vapour"]),
    "slow_mean": (("x",), lambda daily, grid: daily["x"].mean("level")),
    "slow_variance": (("x",), lambda daily, grid: daily["x"].var("level")),
}
#: Figures that decide: of which series, and whether a difference to the control or a ratio.
VERDICT = {
    "mid_troposphere_temperature_difference_K": ("temperature_mid", "difference"),
    "lowest_level_temperature_difference_K": ("temperature_lowest", "difference"),
    "lowest_level_humidity_ratio": ("humidity_lowest", "ratio"),
    "precipitation_ratio": ("precipitation", "ratio"),
    "slow_mean_difference": ("slow_mean", "difference"),
    "slow_variance_ratio": ("slow_variance", "ratio"),
}
#: Profiles whose zonal means and distance to the control are kept, where a host has them.
SECTIONS, DISTANCES = ("temperature", "specific_humidity", "u_wind"), ("temperature", "u_wind", "x")


def global_series(daily: xr.Dataset, grid: ColumnGrid) -> dict[str, NDArray[np.float64]]:
    """Area means of each day, (time,): the quantities that show a drift, of those that the host has."""
    return {
        name: area_mean(_values(make(daily, grid)), grid.area)
        for name, (needs, make) in SERIES.items()
        if all(one in daily for one in needs)
    }


def budgets(daily: xr.Dataset, grid: ColumnGrid) -> dict[str, NDArray[np.float64]]:
    """Area means of each day, (time,), W/m2: what the column physics creates of energy and of water (times Lv).

    Nothing where the host has not all of their terms.

    Energy: ``cp dT - (absorbed solar - surface net shortwave) - (upward - downward surface longwave - outgoing)
    - sensible heat - Lv P``; water: ``Lv (dq + P - E)``. Both vanish for a closed column physics.
    """
    if not all(name in daily for name in (*RAIN, *BUDGET)):
        return {}
    rain = daily["convective_precipitation"] + daily["large_scale_precipitation"]
    energy = (
        daily["column_heating"]
        - (daily["absorbed_solar"] - daily["surface_net_shortwave"])
        - (daily["surface_upward_longwave"] - daily["surface_downward_longwave"] - daily["outgoing_longwave"])
        - daily["sensible_heat_flux"]
        - SPEEDY.Lv * rain
    )
    water = SPEEDY.Lv * (daily["column_moistening"] + rain - daily["evaporation"])
    return {
        "energy_residual": area_mean(_values(energy), grid.area),
        "water_residual": area_mean(_values(water), grid.area),
    }


def compare(run: xr.Dataset, control: xr.Dataset, grid: ColumnGrid) -> xr.Dataset:
    """Everything that the report draws about one coupled run.

    Args:
        run: daily means of the coupled run, ``days`` long.
        control: daily means of the control over the same days.
        grid: their grid (regular, so that zonal means are rows).

    Returns:
        Series (time, source), zonal means over the last third (source, level, latitude), precipitation maps and
        histograms (source, ...), RMSE against the control (time).
    """
    sources = ["emulator", "control"]
    both = [run, control]
    late = window(run.sizes["time"])
    found: dict[str, Any] = {}
    for name, make in (("series", global_series), ("budget", budgets)):
        per_source = [make(daily, grid) for daily in both]
        for key in per_source[0]:
            found[f"{name}_{key}"] = (("source", "time"), np.stack([p[key] for p in per_source]))
    for name in (name for name in SECTIONS if name in run):
        means = [_values(daily[name][late].mean("time")) for daily in both]
        zonal = [zonal_mean(mean, grid.latitude, grid.area, latitude_edges(grid)) for mean in means]
        found[f"zonal_{name}"] = (("source", "level", "latitude"), np.stack(zonal))
    if all(name in run for name in RAIN):
        rain = [precipitation(daily) for daily in both]
        found["map_precipitation"] = (("source", "column"), np.stack([_values(r[late].mean("time")) for r in rain]))
        shares = np.stack([histogram(_values(r[late]), grid.area, RAIN_EDGES) for r in rain])
        found["histogram_precipitation"] = (("source", "bin"), shares)
    for name in (name for name in DISTANCES if name in run):
        found[f"rmse_{name}"] = (("time", "level"), _rmse(run, control, grid, name))
    edges = latitude_edges(grid)
    return xr.Dataset(
        found,
        coords={
            "source": sources,
            "time": run["time"].values,
            "latitude": 0.5 * (edges[1:] + edges[:-1]),
            "sigma": ("level", np.asarray(grid.vertical.sigma_levels)),
            "bin_left": ("bin", RAIN_EDGES[:-1]),
            "column_latitude": ("column", grid.latitude),
            "column_longitude": ("column", grid.longitude),
        },
        attrs={"window_days": late.stop - late.start, "days": late.stop},
    )


def _rmse(run: xr.Dataset, control: xr.Dataset, grid: ColumnGrid, name: str) -> NDArray[np.float64]:
    """Area-weighted root-mean-square difference of each day and level, (time, level)."""
    return np.sqrt(area_mean((_values(run[name]) - _values(control[name])) ** 2, grid.area))


def latitude_edges(grid: ColumnGrid) -> NDArray[np.float64]:
    """Edges of latitude rows of a regular grid, -90 to 90."""
    rows = np.unique(grid.latitude.round(6))
    return np.concatenate([[-90.0], 0.5 * (rows[1:] + rows[:-1]), [90.0]])


def verdict(comparison: xr.Dataset, part: slice | None = None) -> dict[str, float]:
    """The figures that decide, over ``part`` of the days (default: the last third)."""
    part = part or window(comparison.sizes["time"])
    found = {}
    for key, (name, kind) in VERDICT.items():
        if f"series_{name}" in comparison:
            emulator, control = comparison[f"series_{name}"][:, part].mean("time").values
            found[key] = float(emulator - control if kind == "difference" else emulator / control)
    return found
