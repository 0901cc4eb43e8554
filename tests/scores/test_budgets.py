"""Residual scores: by hand, in parts, and where there is nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from subgrid.scores.budgets import ResidualScores

RESIDUAL = np.array([3.0, -1.0, 5e-5, 0.0])
SIZE = np.array([30.0, 10.0, 1.0, 0.0])
WEIGHT = np.array([1.0, 2.0, 1.0, 4.0])


def test_by_hand():
    scores = ResidualScores()
    scores.update(RESIDUAL, SIZE, WEIGHT)
    found = scores.result()
    assert found["mean"] == pytest.approx((3.0 - 2.0 + 5e-5) / 8.0)
    assert found["rms"] == pytest.approx(math.sqrt((9.0 + 2.0 + 25e-10) / 8.0))
    assert found["relative_rms"] == pytest.approx(math.sqrt((0.01 + 2 * 0.01 + 25e-10) / 8.0))
    assert found["relative_max"] == pytest.approx(0.1)
    assert found["closed"] == pytest.approx(5.0 / 8.0)


def test_parts_give_the_whole():
    whole, parts = ResidualScores(), ResidualScores()
    whole.update(RESIDUAL, SIZE, WEIGHT)
    for part in (slice(0, 1), slice(1, 4)):
        parts.update(RESIDUAL[part], SIZE[part], WEIGHT[part])
    assert parts.result() == pytest.approx(whole.result())


def test_columns_of_no_weight_do_not_count():
    scores = ResidualScores()
    scores.update(np.array([1.0, 5.0]), np.array([1000.0, 5.0]), np.array([1.0, 0.0]))
    assert scores.result()["relative_max"] == pytest.approx(1e-3)
    assert math.isnan(ResidualScores().result()["mean"])
