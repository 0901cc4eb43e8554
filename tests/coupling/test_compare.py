"""Comparison of two climates on a small grid, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from subgrid.columns import ColumnGrid
from subgrid.coupling.compare import (
    RAIN_EDGES,
    budgets,
    compare,
    global_series,
    latitude_edges,
    verdict,
    window,
    worst_place,
)
from subgrid.hosts.speedy.settings import SpeedyConfig
from subgrid.physics.constants import SPEEDY
from subgrid.physics.vertical import VerticalGrid

DAYS, LEVELS = 9, 4


@pytest.fixture
def grid() -> ColumnGrid:
    latitude, longitude = np.array([-45.0, 45.0]), np.array([0.0, 90.0, 180.0, 270.0])
    lon, lat = np.meshgrid(longitude, latitude, indexing="ij")
    area = np.full(8, 0.5 * np.pi)
    return ColumnGrid(lat.ravel(), lon.ravel(), area, VerticalGrid.sigma([0, 0.25, 0.5, 0.75, 1.0]), (4, 2))


def climate(warm: float = 0.0, wet: float = 1.0) -> xr.Dataset:
    time = np.datetime64("2002-01-01", "ns") + np.arange(DAYS) * np.timedelta64(1, "D")
    profile, scalar = np.ones((DAYS, LEVELS, 8)), np.ones((DAYS, 8))
    fields = {
        "temperature": 280.0 * profile + warm,
        "specific_humidity": 0.01 * wet * profile,
        "u_wind": 5.0 * profile,
        "convective_precipitation": 2e-5 * wet * scalar,
        "large_scale_precipitation": 1e-5 * wet * scalar,
        "evaporation": 3e-5 * scalar,
        "outgoing_longwave": 230.0 * scalar,
        "absorbed_solar": 240.0 * scalar,
        "surface_net_shortwave": 170.0 * scalar,
        "surface_upward_longwave": 390.0 * scalar,
        "surface_downward_longwave": 330.0 * scalar,
        "sensible_heat_flux": 20.0 * scalar,
        "column_water_vapour": 25.0 * scalar,
        "column_heating": (70.0 + 60.0 - 230.0 + 20.0 + SPEEDY.Lv * 3e-5) * scalar,
        "column_moistening": 0.0 * scalar,
    }
    dims = {3: ("time", "level", "column"), 2: ("time", "column")}
    return xr.Dataset({n: (dims[v.ndim], v) for n, v in fields.items()}, coords={"time": time})


def test_verdict_by_hand(grid):
    found = verdict(compare(climate(warm=0.5, wet=1.1), climate(), grid))
    assert found["mid_troposphere_temperature_difference_K"] == pytest.approx(0.5)
    assert found["lowest_level_humidity_ratio"] == pytest.approx(1.1)
    assert found["precipitation_ratio"] == pytest.approx(1.1)


def test_budgets_close_for_a_closed_physics_and_show_a_leak(grid):
    closed = budgets(climate(), grid)
    np.testing.assert_allclose(closed["energy_residual"], 0.0, atol=1e-9)
    np.testing.assert_allclose(closed["water_residual"], 0.0, atol=1e-9)
    leaky = climate()
    leaky["column_moistening"] = leaky["column_moistening"] + 1e-6
    np.testing.assert_allclose(budgets(leaky, grid)["water_residual"], SPEEDY.Lv * 1e-6)


def test_histogram_counts_all_rain(grid):
    found = compare(climate(), climate(), grid)
    share = found["histogram_precipitation"].sel(source="control", surface="globe").values
    np.testing.assert_allclose(share.sum(), 1.0)
    rain = 3e-5 * 86400
    assert share[np.searchsorted(RAIN_EDGES, rain) - 1] == pytest.approx(1.0)


def test_rmse_and_zonal_mean(grid):
    found = compare(climate(warm=2.0), climate(), grid)
    np.testing.assert_allclose(found["rmse_temperature"], 2.0)
    assert found["zonal_temperature"].shape == (2, LEVELS, 2)
    np.testing.assert_array_equal(latitude_edges(grid), [-90.0, 0.0, 90.0])
    np.testing.assert_array_equal(found["latitude"], [-45.0, 45.0])


def test_the_largest_departure_of_a_zonal_mean_is_looked_for_below_100_hpa():
    thin = ColumnGrid(np.array([-45.0, 45.0]), np.zeros(2), np.ones(2), VerticalGrid.sigma([0.0, 0.1, 0.5, 1.0]))
    apart = np.array([[9.0, -9.0], [0.3, -1.2], [0.8, 0.1]])  # sigma 0.05, 0.3 and 0.75
    found = worst_place(apart, thin, thin.latitude)
    assert (found["difference_K"], found["latitude"]) == (-1.2, 45.0) and found["sigma"] == pytest.approx(0.3)


def test_series_units(grid):
    series = global_series(climate(), grid)
    np.testing.assert_allclose(series["precipitation"], 3e-5 * 86400)
    np.testing.assert_allclose(series["humidity_lowest"], 10.0)


@pytest.mark.parametrize(("days", "first"), [(90, 60), (30, 20), (2, 1), (1, 0), (365, 244)])
def test_window_is_the_last_third(days, first):
    assert window(days) == slice(first, days)


def test_a_day_has_whole_steps():
    assert SpeedyConfig().steps_per_day == 48


def test_land_and_sea_have_histograms_of_their_own(grid):
    wet = climate()
    wet["convective_precipitation"][:, 1::2] = 2e-4  # the northern row
    land = np.where(grid.latitude > 0, 0.9, 0.1)
    found = compare(climate(), wet, grid, land)["histogram_precipitation"].sel(source="control")
    heavy = np.searchsorted(RAIN_EDGES, 2.1e-4 * 86400) - 1
    assert found.sel(surface="land")[heavy] == 1.0 and found.sel(surface="ocean")[heavy] == 0.0
    assert found.sel(surface="globe")[heavy] == 0.5


def test_regions_have_means_and_spreads_from_day_to_day(grid):
    run = climate()
    run["convective_precipitation"][:, 1::2] *= np.arange(DAYS)[:, None]
    found = compare(run, climate(), grid)["region_precipitation"].sel(source="emulator")
    north = (2e-5 * np.arange(6, 9) + 1e-5) * 86400  # the last third
    expected = [north.mean(), north.std()]
    np.testing.assert_allclose(found.sel(region="northern extratropics"), expected)
    np.testing.assert_allclose(found.sel(region="southern extratropics"), [3e-5 * 86400, 0.0], atol=1e-12)
    assert np.isnan(found.sel(region="tropics")).all()  # no column there


def test_distances_of_means_and_months_are_mass_weighted(grid):
    warm = climate()
    warm["temperature"][:, 3] += 2.0
    warm["temperature"][::2, 0] += 1.0
    found = compare(warm, climate(), grid)
    np.testing.assert_allclose(found["profile_rmse_temperature"], [2 / 3, 0.0, 0.0, 2.0])
    np.testing.assert_allclose(found["month_rmse_temperature"], [np.sqrt((4.0 + (5 / 9) ** 2) / 4)])


def test_a_host_without_temperature_has_what_it_has(grid):
    time = climate()["time"]
    rng = np.random.default_rng(0)
    run, control = (
        xr.Dataset({"x": (("time", "level", "column"), rng.normal(size=(DAYS, LEVELS, 8)))}, coords={"time": time})
        for _ in range(2)
    )
    found = compare(run, control, grid)
    assert {"series_slow_mean", "series_slow_variance", "rmse_x"} <= set(found)
    assert not any("temperature" in str(name) or "precipitation" in str(name) for name in found)
    assert set(verdict(found)) == {"slow_mean_difference", "slow_variance_ratio"}
