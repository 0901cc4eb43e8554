"""A coupled climate against its control: series, zonal means, maps, histograms and budgets, all area-weighted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from subgrid.columns.grid import ColumnGrid
from subgrid.physics.constants import SPEEDY
from subgrid.scores.climate import (
    area_mean,
    histogram,
    mean_in_bins,
    rain_bins,
    weighted_rmse,
    zonal_mean,
    zonal_spectrum,
)

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
YEAR = 365
#: Where "mid-troposphere" is.
MID_SIGMA = 0.51
#: A zonal mean of temperature is judged where sigma exceeds this, below 100 hPa.
BELOW = 0.1
#: Edges of the histogram of daily precipitation, mm/day.
RAIN_EDGES = np.concatenate([[0.0, 0.1, 0.3, 1.0], np.arange(2.0, 62.0, 2.0)])


def precipitation(daily: xr.Dataset) -> xr.DataArray:
    """Total precipitation, mm/day."""
    return (daily["convective_precipitation"] + daily["large_scale_precipitation"]) * SECONDS_PER_DAY


def window(days: int) -> slice:
    """The days that a verdict is about: the last third of the run."""
    return slice(days - max(1, days // 3), days)


def judged_days(days: int) -> slice:
    """The days that files of scores are about: the last third, of a year and more the last year."""
    return slice(days - YEAR, days) if days >= YEAR else window(days)


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
#: Profiles whose zonal means, and whose distance to the control, are kept, where a host has them.
SECTIONS = ("temperature", "specific_humidity", "u_wind", "temperature_tendency", "specific_humidity_tendency")
DISTANCES = ("temperature", "specific_humidity", "u_wind", "v_wind", "x")
#: Regions by latitude, and the series whose means and standard deviations from day to day are told for each.
REGIONS = {
    "globe": (-90.0, 90.0),
    "tropics": (-30.0, 30.0),
    "northern extratropics": (30.0, 90.0),
    "southern extratropics": (-90.0, -30.0),
}
REGIONAL = ("temperature_lowest", "column_water_vapour", "precipitation")
#: Less rain is none, mm/day; bins of rain of equal area.
DRY, RAIN_BINS = 0.1, 10
#: Spectra along latitude circles: variable, and sigma of its level.
SPECTRA = {"temperature": 0.51, "u_wind": 0.25}


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


def compare(
    run: xr.Dataset, control: xr.Dataset, grid: ColumnGrid, land: NDArray[np.float64] | None = None
) -> xr.Dataset:
    """Everything that a report draws about one coupled run; of what the host has.

    Args:
        run: daily means of the coupled run, ``days`` long.
        control: daily means of the control over the same days.
        grid: their grid.
        land: share of land of each column, for histograms of land and sea apart.

    Returns:
        Series ``series_*`` and residuals ``budget_*`` (source, time); over the last third: sections ``zonal_*``
        (source, level, latitude) and of rain (source, latitude), ``region_*`` (source, region, statistic), the map of
        rain (source, column), its histogram (source, surface, bin), ``moistening_by_rain`` (source, rain_bin, level),
        ``spectrum_*`` (source, wavenumber), ``profile_rmse_*`` (level) of the means; each day ``rmse_*`` (time, level)
        and each month ``month_rmse_*`` (month) against the control; ``outside_*`` (time, level) as the run wrote them.
    """
    both, late = [run, control], window(run.sizes["time"])
    edges = latitude_edges(grid)
    coordinates: dict[str, Any] = {
        "source": ["emulator", "control"],
        "time": run["time"].values,
        "latitude": 0.5 * (edges[1:] + edges[:-1]),
        "sigma": ("level", np.asarray(grid.vertical.sigma_levels)),
        "bin_left": ("bin", RAIN_EDGES[:-1]),
        "column_latitude": ("column", grid.latitude),
        "column_longitude": ("column", grid.longitude),
        "region": list(REGIONS),
        "statistic": ["mean", "standard deviation"],
    }
    found: dict[str, Any] = {}
    for name, make in (("series", global_series), ("budget", budgets)):
        per_source = [make(daily, grid) for daily in both]
        for key in per_source[0]:
            found[f"{name}_{key}"] = (("source", "time"), np.stack([p[key] for p in per_source]))
    both_have = [str(name) for name in run if name in control]
    for name in (name for name in SECTIONS if name in both_have):
        means = [_values(daily[name][late].mean("time")) for daily in both]
        zonal = [zonal_mean(mean, grid.latitude, grid.area, edges) for mean in means]
        found[f"zonal_{name}"] = (("source", "level", "latitude"), np.stack(zonal))
    for name in DISTANCES:
        if name in both_have:
            found |= _distances(run, control, grid, name, late, coordinates)
    found |= _regions(both, grid, late)
    found |= _spectra(both, grid, late)
    if all(name in run for name in RAIN):
        found |= _rain(both, grid, late, land, coordinates)
    found |= {str(name): run[name].variable.load() for name in run if str(name).startswith("outside_")}
    return xr.Dataset(found, coords=coordinates, attrs={"window_days": late.stop - late.start, "days": late.stop})


def _distances(
    run: xr.Dataset, control: xr.Dataset, grid: ColumnGrid, name: str, late: slice, coordinates: dict[str, Any]
) -> dict[str, Any]:
    """RMSE against the control: by day and level, of the window's means by level, of monthly means (mass and area)."""
    apart = run[name] - control[name]
    weight = np.asarray(grid.vertical.sigma_thickness)[:, None] * grid.area
    monthly = apart.resample(time="MS").mean()
    coordinates["month"] = monthly["time"].values
    months = [weighted_rmse(_values(month), np.zeros(weight.shape), weight) for month in monthly]
    return {
        f"rmse_{name}": (("time", "level"), np.sqrt(area_mean(_values(apart) ** 2, grid.area))),
        f"profile_rmse_{name}": ("level", np.sqrt(area_mean(_values(apart[late].mean("time")) ** 2, grid.area))),
        f"month_rmse_{name}": ("month", np.asarray(months)),
    }


def _regions(both: list[xr.Dataset], grid: ColumnGrid, late: slice) -> dict[str, Any]:
    """Means over the window's days of a region's daily means, and their standard deviations."""
    found: dict[str, Any] = {}
    for name in REGIONAL:
        needs, make = SERIES[name]
        if not all(one in both[0] for one in needs):
            continue
        fields = [_values(make(daily, grid)[late]) for daily in both]
        cells = np.full((2, len(REGIONS), 2), np.nan)
        for k, (south, north) in enumerate(REGIONS.values()):
            inside = (grid.latitude >= south) & (grid.latitude <= north)
            if inside.any():
                for source, field in enumerate(fields):
                    daily = area_mean(field[:, inside], grid.area[inside])
                    cells[source, k] = daily.mean(), daily.std()
        found[f"region_{name}"] = (("source", "region", "statistic"), cells)
    return found


def _spectra(both: list[xr.Dataset], grid: ColumnGrid, late: slice) -> dict[str, Any]:
    """Variance by zonal wavenumber of each day's field, mean over the window; of regular grids alone."""
    found: dict[str, Any] = {}
    if grid.shape is None:
        return found
    area = grid.area.reshape(grid.shape)[0]
    for name, sigma in SPECTRA.items():
        if name in both[0]:
            level = grid.vertical.nearest_level(sigma)
            fields = [_values(daily[name][late, level]).reshape(-1, *grid.shape) for daily in both]
            found[f"spectrum_{name}"] = (
                ("source", "wavenumber"),
                np.stack([zonal_spectrum(f, area) for f in fields]),
            )
    return found


def _rain(
    both: list[xr.Dataset],
    grid: ColumnGrid,
    late: slice,
    land: NDArray[np.float64] | None,
    coordinates: dict[str, Any],
) -> dict[str, Any]:
    """Map, zonal mean and histograms of precipitation, and what column physics moistens by how much it rains."""
    rain = [_values(precipitation(daily)[late]) for daily in both]
    surfaces = {"globe": np.ones(grid.columns, bool)}
    if land is not None:
        surfaces |= {"land": land >= 0.5, "ocean": land < 0.5}
    coordinates["surface"] = list(surfaces)
    shares = [[histogram(r[:, held], grid.area[held], RAIN_EDGES) for held in surfaces.values()] for r in rain]
    edges = latitude_edges(grid)
    found: dict[str, Any] = {
        "map_precipitation": (("source", "column"), np.stack([r.mean(0) for r in rain])),
        "zonal_precipitation": (
            ("source", "latitude"),
            np.stack([zonal_mean(r.mean(0), grid.latitude, grid.area, edges) for r in rain]),
        ),
        "histogram_precipitation": (("source", "surface", "bin"), np.asarray(shares)),
    }
    if all("specific_humidity_tendency" in daily for daily in both) and (rain[1] >= DRY).any():
        bins = rain_bins(rain[1], grid.area, DRY, RAIN_BINS)
        fields = [_values(daily["specific_humidity_tendency"][late]) for daily in both]
        means = [mean_in_bins(f, r, grid.area, bins) for f, r in zip(fields, rain, strict=True)]
        found["moistening_by_rain"] = (("source", "rain_bin", "level"), np.stack(means))
        coordinates["rain_from"] = ("rain_bin", np.maximum(bins[:-1], 0.0))
    return found


def latitude_edges(grid: ColumnGrid) -> NDArray[np.float64]:
    """Edges of latitude rows of a regular grid, -90 to 90."""
    rows = np.unique(grid.latitude.round(6))
    return np.concatenate([[-90.0], 0.5 * (rows[1:] + rows[:-1]), [90.0]])


def worst_place(apart: NDArray[Any], grid: ColumnGrid, latitude: NDArray[Any]) -> dict[str, float]:
    """Where below :data:`BELOW` a zonal mean of temperature departs most.

    Args:
        apart: departure, (level, n), K.
        grid: of the levels.
        latitude: of each of the n, degrees.
    """
    sigma = np.asarray(grid.vertical.sigma_levels)
    level, place = np.unravel_index(np.argmax(np.where(sigma[:, None] > BELOW, np.abs(apart), -1.0)), apart.shape)
    return {
        "level": int(level),
        "difference_K": float(apart[level, place]),
        "sigma": float(sigma[level]),
        "latitude": float(latitude[place]),
    }


def verdict(comparison: xr.Dataset, part: slice | None = None) -> dict[str, float]:
    """The figures that decide, over ``part`` of the days (default: the last third)."""
    part = part or window(comparison.sizes["time"])
    found = {}
    for key, (name, kind) in VERDICT.items():
        if f"series_{name}" in comparison:
            emulator, control = comparison[f"series_{name}"][:, part].mean("time").values
            found[key] = float(emulator - control if kind == "difference" else emulator / control)
    return found
