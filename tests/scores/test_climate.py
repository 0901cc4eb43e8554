"""Climate statistics by hand."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from subgrid.base.errors import SubgridError
from subgrid.scores.climate import (
    area_mean,
    histogram,
    mean_in_bins,
    rain_bins,
    weighted_rmse,
    zonal_mean,
    zonal_spectrum,
)

REFERENCE = Path(__file__).parents[2].parent / "shared" / "reference" / "climsim"
GRID_INFO = REFERENCE / "grid_info" / "ClimSim_low-res_grid-info.nc"


def test_area_mean_by_hand():
    field = np.array([[1.0, 2.0, 3.0], [0.0, 4.0, np.nan]])
    mean = area_mean(field, [1.0, 1.0, 2.0])
    assert mean[0] == 2.25 and np.isnan(mean[1])
    assert area_mean([1.0, 3.0], [3.0, 1.0]) == 1.5


def test_zonal_mean_by_hand():
    latitude, area = [-90.0, -85.0, -80.0, 5.0, 90.0], [1.0, 3.0, 1.0, 1.0, 1.0]
    bands = zonal_mean(np.array([[2.0, 6.0, 7.0, 8.0, 9.0]]), latitude, area)
    assert bands.shape == (1, 18)
    assert bands[0, 0] == 5.0  # (2 + 3 * 6) / 4
    assert (bands[0, 1], bands[0, 9], bands[0, 17]) == (7.0, 8.0, 9.0)
    assert np.isnan(bands[0, 2:9]).all()
    halves = zonal_mean([2.0, 6.0, 7.0, 8.0, 9.0], latitude, area, edges=[-90, 0, 90])
    np.testing.assert_allclose(halves, [27 / 5, 17 / 2])


def test_zonal_bands_of_the_climsim_grid():
    if not GRID_INFO.exists():
        pytest.skip(f"reference data absent: {GRID_INFO}")
    xarray = pytest.importorskip("xarray")
    with xarray.open_dataset(GRID_INFO, decode_times=False) as info:
        latitude, area = info["lat"].values, info["area"].values
    counts = np.array([4, 8, 12, 20, 20, *[32] * 8, 20, 20, 12, 8, 4])
    shares = zonal_mean(np.ones(384), latitude, area)
    np.testing.assert_allclose(shares, 1.0)
    edges = np.arange(-90, 91, 10)
    np.testing.assert_allclose(histogram(latitude, np.ones(384), edges) * 384, counts)
    assert area_mean(latitude, area) == pytest.approx(0.0, abs=1e-10)


def test_weighted_rmse_by_hand():
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros((2, 2))
    assert weighted_rmse(a, b, [1.0, 3.0]) == pytest.approx(np.sqrt((1 + 12 + 9 + 48) / 8))
    assert weighted_rmse(a, b, np.array([[1.0, 0.0], [0.0, 0.0]])) == 1.0
    assert np.isnan(weighted_rmse(a * np.nan, b, 1.0))


def test_histogram_by_hand():
    rain = np.array([[0.0, 1.0, 5.0], [10.0, 20.0, -1.0]])  # mm/day
    shares = histogram(rain, [1.0, 2.0, 1.0], edges=[0, 1, 10])
    np.testing.assert_allclose(shares, [1 / 8, (2 + 1 + 1) / 8])  # 10 is in the last bin; 20 and -1 in none
    everything = histogram(rain, [1.0, 2.0, 1.0], edges=[-np.inf, 0, np.inf])
    np.testing.assert_allclose(everything, [1 / 8, 7 / 8])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: area_mean(np.ones((3, 2)), np.ones(3)), "must end in the columns"),
        (lambda: area_mean(np.ones(3), [1.0, -1.0, 1.0]), "not negative"),
        (lambda: area_mean(np.ones(3), np.zeros(3)), "not all zero"),
        (lambda: zonal_mean(np.ones(3), np.ones(2), np.ones(3)), "differ in shape"),
        (lambda: zonal_mean(np.ones(3), np.ones(3), np.ones(3), [10, 0]), "increasing"),
        (lambda: weighted_rmse(np.ones(3), np.ones(2), 1.0), "fields differ in shape"),
        (lambda: weighted_rmse(np.ones(3), np.ones(3), np.ones(2)), "weight .* does not fit"),
        (lambda: histogram([np.nan], [1.0], [0, 1]), "NaN"),
        (lambda: histogram([1.0], [1.0], [0]), "at least two"),
    ],
)
def test_unfit_input_is_refused(call, message):
    with pytest.raises(SubgridError, match=message):
        call()


class TestSpectrum:
    def test_a_wave_has_its_variance_at_its_wavenumber(self):
        longitude = np.arange(16) * 2 * np.pi / 16
        field = 3.0 + 2.0 * np.cos(5 * longitude)[:, None] * np.ones(4)
        found = zonal_spectrum(field, np.ones(4))
        expected = np.zeros(9)
        expected[0], expected[5] = 9.0, 2.0
        np.testing.assert_allclose(found, expected, atol=1e-12)

    @pytest.mark.parametrize("longitudes", [15, 16])
    def test_it_sums_to_the_mean_square(self, longitudes):
        rng = np.random.default_rng(0)
        field, area = rng.normal(size=(7, longitudes, 6)), rng.uniform(0.5, 1.0, 6)
        np.testing.assert_allclose(zonal_spectrum(field, area).sum(), area_mean(field**2, area).mean(), rtol=1e-12)

    def test_nan_is_refused(self):
        with pytest.raises(SubgridError, match="NaN"):
            zonal_spectrum(np.full((4, 3), np.nan), np.ones(3))


class TestRainBins:
    def test_bins_share_the_rainy_area(self):
        rng = np.random.default_rng(1)
        rain, area = rng.exponential(size=(50, 40)) - 0.5, rng.uniform(0.5, 1.0, 40)
        edges = rain_bins(rain, area, 0.1, 4)
        assert edges[0] == -np.inf and edges[1] == 0.1 and edges[-1] == np.inf and len(edges) == 6
        weight = np.broadcast_to(area, rain.shape)
        shares = [weight[(rain >= a) & (rain < b)].sum() for a, b in itertools.pairwise(edges[1:])]
        np.testing.assert_allclose(shares, np.mean(shares), rtol=0.01)

    def test_means_are_of_where_it_rains_so_much(self):
        rain = np.array([[0.0, 1.0, 5.0], [0.0, 5.0, 1.0]])
        field = np.stack([rain * 10.0, rain + 1.0], axis=1)
        found = mean_in_bins(field, rain, [1.0, 1.0, 2.0], [-np.inf, 0.5, 2.0, 9.0, np.inf])
        np.testing.assert_allclose(found[:3], [[0.0, 1.0], [10.0, 2.0], [50.0, 6.0]])
        assert np.isnan(found[3]).all()

    def test_a_desert_is_refused(self):
        with pytest.raises(SubgridError, match="rains nowhere"):
            rain_bins(np.zeros((2, 3)), np.ones(3), 0.1, 4)
