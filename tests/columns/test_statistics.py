"""Channel statistics: equal to two-pass float64, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest

from subgrid.columns.statistics import ChannelStatistics


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    scale = np.array([1.0, 1e-20, 3.0, 0.0])
    shift = np.array([0.0, 1e-21, 1e6, 7.0])
    return (rng.standard_normal((1000, 4)) * scale + shift).astype(np.float32)


@pytest.mark.parametrize("cuts", [[], [1], [500], [3, 3, 4, 900]])
def test_merged_blocks_equal_two_pass_float64(values, cuts):
    total = ChannelStatistics.empty(4)
    for block in np.split(values, cuts):
        total = total.merge(ChannelStatistics.of(block))
    exact = values.astype(np.float64)
    found = total.summary()
    assert total.count == 1000
    np.testing.assert_allclose(found["mean"], exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found["std"], exact.std(0), rtol=1e-10)
    np.testing.assert_array_equal(found["min"], exact.min(0))
    np.testing.assert_array_equal(found["max"], exact.max(0))
    assert found["std"][3] == 0.0


def test_nothing_merges_with_nothing():
    none = ChannelStatistics.empty(2).merge(ChannelStatistics.of(np.empty((0, 2))))
    assert none.count == 0
    np.testing.assert_array_equal(none.std, [0.0, 0.0])


def test_arrays_hold_everything(values):
    made = ChannelStatistics.of(values)
    again = ChannelStatistics.from_arrays(made.to_arrays())
    assert again.count == made.count
    for name in ("mean", "m2", "low", "high"):
        np.testing.assert_array_equal(getattr(again, name), getattr(made, name))
