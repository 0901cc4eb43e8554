"""Rows of zonal sections: those of a regular grid, and bands where there are none."""

from __future__ import annotations

import numpy as np

from subgrid.columns import ColumnGrid
from subgrid.evaluation.sections import SectionSums, zonal_rows
from subgrid.physics.vertical import VerticalGrid

LEVELS = VerticalGrid.sigma([0.0, 0.5, 1.0])


def grid(latitude, shape=None):
    latitude = np.asarray(latitude)
    return ColumnGrid(latitude, np.zeros(latitude.size), np.ones(latitude.size), LEVELS, shape=shape)


def test_a_regular_grid_has_rows_of_its_own():
    latitudes, row = zonal_rows(grid([-60.0, 0.0, 60.0] * 2, shape=(2, 3)))
    assert latitudes.tolist() == [-60.0, 0.0, 60.0]
    assert row.tolist() == [0, 1, 2, 0, 1, 2]


def test_any_other_grid_has_bands_of_ten_degrees():
    latitudes, row = zonal_rows(grid([82.1, -3.0, -9.9, 0.0, -90.0, 90.0]))
    assert latitudes.tolist() == [-85.0, -5.0, 5.0, 85.0]
    assert row.tolist() == [3, 1, 1, 2, 0, 3]


def test_sums_by_row_equal_plain_numpy():
    random = np.random.default_rng(0)
    truth, error = random.standard_normal((2, 50, 3))
    weight, row = random.uniform(0.5, 2.0, (50, 3)), random.integers(0, 4, 50)
    sums = SectionSums(5, 3)
    for part in (slice(0, 20), slice(20, 50)):
        sums.update((truth + error)[part], truth[part], weight[part], row[part])
    found, here = sums.result(), row == 2
    w, t, e = weight[here], truth[here], error[here]
    np.testing.assert_allclose(found["truth"][2], np.average(t, axis=0, weights=w))
    np.testing.assert_allclose(found["bias"][2], np.average(e, axis=0, weights=w))
    spread = np.average((t - np.average(t, axis=0, weights=w)) ** 2, axis=0, weights=w)
    np.testing.assert_allclose(found["r2"][2], 1.0 - np.average(e**2, axis=0, weights=w) / spread)
    assert np.isnan(found["r2"][4]).all()
