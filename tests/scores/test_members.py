"""The fair CRPS against its definition and hand-worked values."""

import itertools

import numpy as np
import pytest
import torch

from subgrid.base.errors import SubgridError
from subgrid.scores.members import fair_crps


def test_two_members_by_hand():
    # |1 - 2| and |4 - 2|: mean 1.5; one pair, |1 - 4| / (2 * 1) = 1.5
    assert fair_crps(np.array([[1.0], [4.0]]), np.array([2.0])).tolist() == [0.0]
    assert fair_crps(np.array([[4.0], [1.0]]), np.array([0.0])).tolist() == [1.0]


def test_the_double_sum_of_the_definition():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((7, 5, 3)), rng.standard_normal((5, 3))
    pairs = sum(np.abs(a - b) for a, b in itertools.combinations(x, 2))
    expected = np.abs(x - y).mean(0) - pairs / (7 * 6)
    np.testing.assert_allclose(fair_crps(x, y), expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(fair_crps(torch.from_numpy(x), torch.from_numpy(y)), expected, rtol=1e-12, atol=1e-15)


def test_members_that_agree_score_their_absolute_error():
    np.testing.assert_allclose(fair_crps(np.full((4, 2), 3.0), np.array([1.0, 3.0])), [2.0, 0.0])


def test_it_does_not_depend_on_the_number_of_members():
    # Members and truth of one normal law: the expected score is 1 / sqrt(pi) whatever n is (the plain score is not).
    rng = np.random.default_rng(2)
    for n in (2, 16):
        score = fair_crps(rng.standard_normal((n, 200_000)), rng.standard_normal(200_000)).mean()
        assert score == pytest.approx(1 / np.sqrt(np.pi), abs=0.006)


def test_what_it_refuses():
    with pytest.raises(SubgridError, match="2 or more"):
        fair_crps(np.ones((1, 4)), np.ones(4))
    with pytest.raises(SubgridError, match=r"not \(3, 4\)"):
        fair_crps(np.ones((3, 4)), np.ones(5))
