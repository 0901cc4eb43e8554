"""A coupled climate against its control: series, zonal means, maps, histograms and budgets, all area-weighted."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from subgrid.columns.grid import ColumnGrid
from subgrid.physics.constants import SPEEDY
from subgrid.scores.climate import area_mean, histogram, zonal_mean

SECONDS_PER_DAY = 86400.0
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


def global_series(daily: xr.Dataset, grid: ColumnGrid) -> dict[str, NDArray[np.float64]]:
    """Area means of each day, (time,): the quantities that show a drift."""
    mid = grid.vertical.nearest_level(MID_SIGMA)
    fields = {
        "temperature_mid": daily["temperature"][:, mid],
        "temperature_lowest": daily["temperature"][:, -1],
        "humidity_lowest": daily["specific_humidity"][:, -1] * 1e3,
        "precipitation": precipitation(daily),
        "evaporation": daily["evaporation"] * SECONDS_PER_DAY,
        "outgoing_longwave": daily["outgoing_longwave"],
        "absorbed_solar": daily["absorbed_solar"],
        "column_water_vapour": daily["column_water_vapour"],
    }
    return {name: area_mean(_values(field), grid.area) for name, field in fields.items()}


def budgets(daily: xr.Dataset, grid: ColumnGrid) -> dict[str, NDArray[np.float64]]:
    """Area means of each day, (time,), W/m2: what the column physics creates of energy and of water (times Lv).

    Energy: ``cp dT - (absorbed solar - surface net shortwave) - (upward - downward surface longwave - outgoing)
    - sensible heat - Lv P``; water: ``Lv (dq + P - E)``. Both vanish for a closed column physics.
    """
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
    for name in ("temperature", "specific_humidity", "u_wind"):
        means = [_values(daily[name][late].mean("time")) for daily in both]
        zonal = [zonal_mean(mean, grid.latitude, grid.area, latitude_edges(grid)) for mean in means]
        found[f"zonal_{name}"] = (("source", "level", "latitude"), np.stack(zonal))
    rain = [precipitation(daily) for daily in both]
    found["map_precipitation"] = (
        ("source", "column"),
        np.stack([_values(r[late].mean("time")) for r in rain]),
    )
    shares = [histogram(_values(r[late]), grid.area, RAIN_EDGES) for r in rain]
    found["histogram_precipitation"] = (("source", "bin"), np.stack(shares))
    found["rmse_temperature"] = (("time", "level"), _rmse(run, control, grid, "temperature"))
    found["rmse_u_wind"] = (("time", "level"), _rmse(run, control, grid, "u_wind"))
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
    mean = {
        name: comparison[f"series_{name}"][:, part].mean("time").values
        for name in ("temperature_mid", "temperature_lowest", "humidity_lowest", "precipitation")
    }
    return {
        "mid_troposphere_temperature_difference_K": float(mean["temperature_mid"][0] - mean["temperature_mid"][1]),
        "lowest_level_temperature_difference_K": float(mean["temperature_lowest"][0] - mean["temperature_lowest"][1]),
        "lowest_level_humidity_ratio": float(mean["humidity_lowest"][0] / mean["humidity_lowest"][1]),
        "precipitation_ratio": float(mean["precipitation"][0] / mean["precipitation"][1]),
    }
