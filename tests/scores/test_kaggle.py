"""The competition's score against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from subgrid.scores.kaggle import PooledR2, competition_scores


def plain(prediction, truth):
    """R2 per channel with the rule of scikit-learn for constants."""
    error = ((truth - prediction) ** 2).sum(axis=0)
    spread = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    constant = np.ptp(truth, axis=0) == 0.0
    return np.where(constant, np.where(error == 0.0, 1.0, 0.0), 1.0 - error / np.where(constant, 1.0, spread))


def pooled(prediction, truth, cuts):
    scores = PooledR2(truth.shape[1])
    for a, b in zip(np.split(prediction, cuts), np.split(truth, cuts), strict=True):
        scores.update(a, b)
    return scores.result()


@pytest.mark.parametrize("cuts", [[], [1], [100, 100, 700], [3, 50, 999]])
def test_blocks_give_what_plain_numpy_gives_at_once(cuts):
    rng = np.random.default_rng(0)
    scale = 10.0 ** np.linspace(-24, 6, 40)
    truth = scale * (rng.standard_normal((1000, 40)) + np.linspace(0.0, 30.0, 40))
    prediction = truth + scale * rng.standard_normal((1000, 40)) * np.linspace(0.01, 3.0, 40)
    truth[:, 7] = prediction[:, 7] = 0.1
    truth[:, 8] = 0.1
    expected = plain(prediction, truth)
    assert expected[7] == 1.0 and expected[8] == 0.0 and expected.min() < -5.0
    assert np.allclose(pooled(prediction, truth, cuts), expected, rtol=0.0, atol=1e-10)


def test_two_rows_are_needed():
    scores = PooledR2(3)
    scores.update(np.ones((1, 3)), np.ones((1, 3)))
    assert np.isnan(scores.result()).all()


def test_by_hand():
    truth = np.array([[1.0], [2.0], [3.0], [6.0]])
    # deviations -2, -1, 0, 3: 14; errors 1, 0, 1, 1: 3
    assert pooled(truth + np.array([[1.0], [0.0], [-1.0], [1.0]]), truth, [2])[0] == pytest.approx(1.0 - 3.0 / 14.0)


def test_zero_weights_are_left_out_of_one_mean_and_count_one_in_the_other():
    found = competition_scores(np.array([0.5, -3.0, 0.1, 0.7]), np.array([1e15, 0.0, 2.0, 1.0]))
    assert found["r2_308"] == pytest.approx((0.5 + 0.1 + 0.7) / 3.0)
    assert found["r2_368"] == pytest.approx((0.5 + 1.0 + 0.1 + 0.7) / 4.0)


@pytest.mark.parametrize("weight", [np.zeros(4), np.ones(3)])
def test_weights_that_do_not_fit_are_refused(weight):
    with pytest.raises(ValueError, match="weights of"):
        competition_scores(np.ones(4), weight)
