"""Means by group, daily R2 and rain bins against plain numpy."""

import numpy as np
import pytest

from subgrid.base.errors import SubgridError
from subgrid.scores.groups import DailyScores, GroupMeans, band_centres, latitude_band, rain_bin, rain_edges


def test_bands_of_ten_degrees():
    assert band_centres().tolist() == list(range(-85, 90, 10))
    latitude = np.array([-90.0, -80.0, -79.9, -0.1, 0.0, 9.9, 89.0, 90.0])
    assert latitude_band(latitude).tolist() == [0, 1, 1, 8, 9, 9, 17, 17]
    assert latitude_band(np.array([-90.0, 0.0, 90.0]), 90.0).tolist() == [0, 1, 1]


def test_bands_that_do_not_fit_are_refused():
    with pytest.raises(SubgridError, match="do not fill"):
        latitude_band(np.zeros(1), 7.0)
    with pytest.raises(SubgridError, match="outside"):
        latitude_band(np.array([91.0]))


def test_group_means_in_blocks():
    rng = np.random.default_rng(0)
    values, weight, group = rng.standard_normal((100, 3)), rng.uniform(0.5, 2.0, 100), rng.integers(0, 4, 100)
    means = GroupMeans(5, 3)
    for part in (slice(0, 33), slice(33, 33), slice(33, 100)):
        means.update(values[part], weight[part], group[part])
    for g in range(4):
        w = weight[group == g][:, None]
        np.testing.assert_allclose(means.mean()[g], (w * values[group == g]).sum(0) / w.sum(), rtol=1e-12)
    assert np.isnan(means.mean()[4]).all()


@pytest.mark.parametrize("first", [1_000_000, -719_000])  # the years of ClimSim lie before 1970
def test_daily_r2_is_that_of_the_daily_group_means(first):
    rng = np.random.default_rng(1)
    days, steps, columns = 9, 12, 6
    area, group = rng.uniform(0.8, 1.2, columns), np.array([0, 0, 1, 1, 1, 3])
    truth = rng.standard_normal((days, steps, columns, 2)) + rng.standard_normal((days, 1, columns, 2))
    prediction = truth + rng.standard_normal(truth.shape)
    truth[:, :, 5, 1] = 4.0
    rows = rng.permutation(days * steps * columns)
    time = np.repeat(first * 86400 + 7200 * np.arange(days * steps), columns)
    scores = DailyScores(4, 2)
    for part in np.array_split(rows, 7):
        column = part % columns
        flat = (prediction.reshape(-1, 2)[part], truth.reshape(-1, 2)[part])
        scores.update(*flat, area[column], group[column], time[part])
    assert len(scores.days) == days
    for g in (0, 1, 3):
        here = group == g
        y, p = (np.average(a[:, :, here].mean(1), axis=1, weights=area[here]) for a in (truth, prediction))
        with np.errstate(divide="ignore"):
            expected = 1.0 - ((p - y) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
        if g == 3:
            assert np.isnan(scores.r2()[3, 1])
            expected[1] = np.nan
        np.testing.assert_allclose(scores.r2()[g], expected, rtol=1e-10)
    assert np.isnan(scores.r2()[2]).all()  # no column there


def test_rain_bins_hold_equal_shares():
    rate = np.concatenate([np.zeros(40), np.random.default_rng(2).exponential(size=1000)])
    edges = rain_edges(rate)
    counts = np.bincount(rain_bin(rate, edges))
    assert counts.tolist() == [40] + [100] * 10
    assert rain_bin(np.array([0.0, -1e-20, edges[0], edges[-1] + 1.0]), edges).tolist() == [0, 0, 2, 10]


def test_a_split_without_rain():
    edges = rain_edges(np.zeros(5))
    assert edges.size == 0 and rain_bin(np.zeros(5), edges).tolist() == [0] * 5
