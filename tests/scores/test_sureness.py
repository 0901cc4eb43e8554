"""Rank correlation and the skill of the surest rows against hand-worked values."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from subgrid.base.errors import SubgridError
from subgrid.scores.sureness import KEPT, kept_scores, spearman


def test_the_rank_correlation_is_spearmans_with_ties():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 5, 200).astype(float)
    b = a + rng.standard_normal(200)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, rel=1e-12)
    assert spearman(a, np.abs(b)) == pytest.approx(spearman(a, b**2), rel=1e-12)  # of a loss only the order counts
    assert np.isnan(spearman(a, np.ones(200))) and np.isnan(spearman(np.zeros(0), np.zeros(0)))


def test_what_the_rank_correlation_refuses():
    with pytest.raises(SubgridError, match=r"\(3,\) and \(2,\)"):
        spearman(np.zeros(3), np.zeros(2))
    with pytest.raises(SubgridError, match="not finite"):
        spearman(np.array([1.0, np.nan]), np.array([1.0, 2.0]))


def test_kept_rows_by_hand():
    # ten rows of one output; told in the order of the rows, errors 1 in the surest five and 3 in the others
    told = np.arange(10.0)[:, None]
    error = np.where(told < 5, 1.0, -3.0)
    truth = told * 2.0
    found = kept_scores(told, error, truth)
    n = np.round(np.array(KEPT) * 10)
    lost = [e * 1.0 if e <= 5 else 5 + 9.0 * (e - 5) for e in n]
    spread = [4.0 * (e**2 - 1) / 12.0 * e for e in n]  # of 0, 2, 4 ... about their mean
    np.testing.assert_allclose(found.mse, np.array(lost) / n / 5.0)
    np.testing.assert_allclose(found.r2[:-1], 1.0 - np.array(lost[:-1]) / spread[:-1])
    assert np.isnan(found.r2[-1])  # one row does not vary
    np.testing.assert_allclose(found.mse_best, found.mse)


def test_each_output_has_rows_of_its_own_and_a_wrong_order_is_shown():
    told = np.stack([np.arange(10.0), -np.arange(10.0)], axis=1)
    error = np.stack([np.arange(10.0), np.arange(10.0)], axis=1)
    found = kept_scores(told, error, np.random.default_rng(0).standard_normal((10, 2)))
    half = KEPT.index(0.5)
    mean = np.mean(np.arange(10.0) ** 2)
    low, high = np.mean(np.arange(5.0) ** 2), np.mean(np.arange(5.0, 10.0) ** 2)
    assert found.mse[half] == pytest.approx((low + high) / (2 * mean))
    assert found.mse_best[half] == pytest.approx(low / mean)
    with pytest.raises(SubgridError, match="three arrays"):
        kept_scores(told, error[:, :1], error)
