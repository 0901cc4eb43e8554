"""Survival, rank correlation and power: by hand, and on designs whose difference is known."""

from __future__ import annotations

import numpy as np
import pytest

from subgrid.base.errors import SubgridError
from subgrid.scores.survival import members_needed, power, power_of_errors, rank_correlation, survival_curve


def test_kaplan_meier_by_hand():
    found = survival_curve([2, 3, 3, 5, 8], [True, True, False, True, False])
    np.testing.assert_array_equal(found.time, [2, 3, 5])
    np.testing.assert_allclose(found.share, [4 / 5, 4 / 5 * 3 / 4, 4 / 5 * 3 / 4 * 1 / 2])
    assert (found.low <= found.share).all() and (found.share <= found.high).all()
    assert (found.low < found.high).all() and found.low.min() >= 0 and found.high.max() <= 1


def test_without_ends_nothing_falls():
    found = survival_curve([5, 5, 5], [False, False, False])
    assert found.time.size == 0


@pytest.mark.parametrize(
    ("lasted", "ended", "says"),
    [
        ([], [], "some"),
        ([1, 2], [True], "equally many"),
        ([1, np.nan], [True, True], "finite"),
        ([-1], [True], "negative"),
    ],
)
def test_what_is_no_survival_is_refused(lasted, ended, says):
    with pytest.raises(SubgridError, match=says):
        survival_curve(lasted, ended)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        curve = survival_curve(rng.exponential(10.0, 80), np.ones(80, bool))
        at = np.searchsorted(curve.time, 7.0) - 1
        covered += curve.low[at] <= np.exp(-0.7) <= curve.high[at]
    assert covered >= 51


def test_rank_correlation_is_spearmans_with_an_interval_around_it():
    rng = np.random.default_rng(1)
    a = rng.normal(size=100)
    b = a + rng.normal(size=100)
    rho, low, high = rank_correlation(a, b)
    from scipy.stats import spearmanr

    assert rho == pytest.approx(spearmanr(a, b).statistic)
    assert low < rho < high and low > 0.3 and high < 0.95
    assert rank_correlation(a, np.exp(a))[0] == pytest.approx(1.0)
    with pytest.raises(SubgridError, match="at least 3"):
        rank_correlation([1, 2], [1, 2])


def test_power_grows_with_members_and_with_the_difference():
    rng = np.random.default_rng(2)
    short, long = (np.minimum(rng.exponential(scale, 100), 30.0) for scale in (5.0, 20.0))
    designs = [(times, times < 30.0) for times in (short, long)]
    few, many = power(*designs, members=3), power(*designs, members=25)
    assert few < 0.5 < 0.9 < many
    assert power(designs[0], designs[0], members=25) < 0.12
    needed = members_needed(lambda members: power(*designs, members=members))
    assert needed is not None and 5 < needed < 25
    assert members_needed(lambda members: power(designs[0], designs[0], members=members), most=30) is None
    with pytest.raises(SubgridError, match="at least one member"):
        power(*designs, members=0)


def test_power_of_errors_counts_what_ended_as_worst():
    rng = np.random.default_rng(3)
    small, large = rng.normal(1.0, 0.1, 100), rng.normal(1.1, 0.1, 100)
    assert power_of_errors(small, large, 3) < 0.5 < 0.9 < power_of_errors(small, large, 40)
    assert power_of_errors(small, small, 25) < 0.12
    ended = np.where(np.arange(100) < 60, np.nan, small)
    assert power_of_errors(small, ended, 30) > 0.9
    with pytest.raises(SubgridError, match="at least one member"):
        power_of_errors(small, [], 3)
