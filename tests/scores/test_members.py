"""The fair CRPS against its definition and hand-worked values."""

import itertools

import numpy as np
import pytest
import torch

from subgrid.base.errors import SubgridError
from subgrid.scores.members import MemberScores, fair_crps


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


def test_spread_and_error_by_hand():
    scores = MemberScores({"t": 2, "rain": 1})
    members = np.array([[[1.0, 0.0, 2.0]], [[3.0, 0.0, 4.0]]])
    truth = np.array([[0.0, 1.0, 3.0]])
    scores.update(members, truth, np.array([[1.0, 3.0, 1.0]]))
    found = scores.result()["t"]
    # crps of (1, 3) about 0 is 2 - 2/2, of (0, 0) about 1 it is 1; variances are 2 and 0, squared errors 4 and 1
    assert found.crps_level.tolist() == [1.0, 1.0] and found.crps == 1.0
    np.testing.assert_allclose(found.spread_level, [2**0.5, 0.0])
    assert found.spread == pytest.approx((2 / 4) ** 0.5) and found.rmse == pytest.approx(((4 + 3) / 4) ** 0.5)
    assert found.spread_error == pytest.approx(1.5**0.5 * (2 / 7) ** 0.5)
    rain = scores.result()["rain"]
    assert rain.rmse == 0.0 and np.isnan(rain.spread_error) and rain.to_dict()["spread_error"] is None


def test_blocks_add_up_and_a_truth_that_could_be_a_member_has_a_spread_error_of_one():
    rng = np.random.default_rng(3)
    members, truth, weight = (
        rng.standard_normal((4, 60_000, 1)),
        rng.standard_normal((60_000, 1)),
        rng.random((60_000, 1)),
    )
    whole, parts = MemberScores({"x": 1}), MemberScores({"x": 1})
    whole.update(members, truth, weight)
    for rows in (slice(0, 7), slice(7, 60_000)):
        parts.update(members[:, rows], truth[rows], weight[rows])
    assert whole.result()["x"].spread_error == pytest.approx(1.0, abs=0.01)
    for name, value in vars(whole.result()["x"]).items():
        np.testing.assert_allclose(getattr(parts.result()["x"], name), value, rtol=1e-12)
    with pytest.raises(SubgridError, match="3 members after rows with 4"):
        parts.update(members[:3], truth, weight)
    with pytest.raises(SubgridError, match=r"must both be \(n, 1\)"):
        parts.update(members, truth[:, 0], weight[:, 0])
