"""Streaming scores: equal to a two-pass evaluation, mergeable, honest about constants and divergence."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from subgrid.base.errors import SubgridError
from subgrid.scores.pointwise import PointwiseScores, channel_weights

VARIABLES = {"t": 3, "flux": 1}
SLICES = {"t": slice(0, 3), "flux": slice(3, 4)}


def two_pass(prediction, truth, weight):
    """The formulas as they stand, over whole arrays of one variable."""
    mean = (weight * truth).sum(0) / weight.sum(0)
    error = prediction - truth
    squared, variance = weight * error**2, weight * (truth - mean) ** 2
    return {
        "r2": 1 - squared.sum() / variance.sum(),
        "mae": (weight * np.abs(error)).sum() / weight.sum(),
        "rmse": np.sqrt(squared.sum() / weight.sum()),
        "bias": (weight * error).sum() / weight.sum(),
        "r2_level": 1 - squared.sum(0) / variance.sum(0),
        "mae_level": (weight * np.abs(error)).sum(0) / weight.sum(0),
        "rmse_level": np.sqrt(squared.sum(0) / weight.sum(0)),
        "bias_level": (weight * error).sum(0) / weight.sum(0),
    }


def assert_equal_to_two_pass(scores, prediction, truth, weight):
    for name, result in scores.result().items():
        channels = SLICES[name]
        expected = two_pass(prediction[:, channels], truth[:, channels], weight[:, channels])
        for key, value in expected.items():
            np.testing.assert_allclose(getattr(result, key), value, rtol=1e-10, err_msg=f"{name} {key}")


def sample(seed, n, offset=0.0, scale=1.0):
    rng = np.random.default_rng(seed)
    truth = offset + scale * rng.normal(size=(n, 4)) * [1.0, 2.0, 3.0, 4.0]
    prediction = truth + scale * (0.5 * rng.normal(size=(n, 4)) + 0.2)
    return prediction, truth, rng.uniform(0.1, 2.0, size=(n, 4))


def test_by_hand():
    scores = PointwiseScores({"x": 2})
    truth = np.array([[0.0, 10.0], [2.0, 30.0]])
    prediction = np.array([[1.0, 10.0], [2.0, 24.0]])
    scores.update(prediction, truth, np.array([1.0, 3.0]))
    x = scores.result()["x"]
    # means 1.5 and 25; variances 1*2.25 + 3*0.25 = 3 and 1*225 + 3*25 = 300; squares 1 and 3*36 = 108
    assert x.r2 == pytest.approx(1 - 109 / 303)
    np.testing.assert_allclose(x.r2_level, [1 - 1 / 3, 1 - 108 / 300])
    np.testing.assert_allclose(x.mae_level, [0.25, 4.5])
    np.testing.assert_allclose(x.bias_level, [0.25, -4.5])
    np.testing.assert_allclose(x.rmse_level, [0.5, np.sqrt(27)])
    assert (x.mae, x.bias, x.rmse) == pytest.approx((19 / 8, -17 / 8, np.sqrt(109 / 8)))
    assert (x.n_samples, x.n_constant, x.n_nonfinite) == (2, 0, 0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 200), max_size=6),
    # standard deviations down to 1e-4 of the mean, and tendencies whose squares underflow float32
    scales=st.sampled_from([(0.0, 1.0), (300.0, 0.03), (-1e5, 1e3), (0.0, 1e-20)]),
)
def test_blocks_equal_a_two_pass_evaluation(seed, cuts, scales):
    prediction, truth, weight = sample(seed, 200, *scales)
    scores = PointwiseScores(VARIABLES)
    for block in np.split(np.arange(200), sorted(cuts)):
        scores.update(prediction[block], truth[block], weight[block])
    assert_equal_to_two_pass(scores, prediction, truth, weight)


def test_order_of_samples_far_from_each_other_does_not_matter():
    prediction, truth, weight = sample(1, 400)
    order = np.argsort(truth[:, 0])
    scores = PointwiseScores(VARIABLES)
    for block in np.split(order, 8):
        scores.update(prediction[block], truth[block], weight[block])
    assert_equal_to_two_pass(scores, prediction, truth, weight)


def test_many_workers_agree_with_one_to_the_last_bit():
    prediction, truth, weight = sample(2, 90)
    one, many = PointwiseScores(VARIABLES), PointwiseScores(VARIABLES)
    for block in np.split(np.arange(90), [30, 50]):
        one.update(prediction[block], truth[block], weight[block])
        worker = PointwiseScores(VARIABLES)
        worker.update(prediction[block], truth[block], weight[block])
        many.merge(worker)
    assert json.dumps({k: v.to_dict() for k, v in one.result().items()}) == json.dumps(
        {k: v.to_dict() for k, v in many.result().items()}
    )


def test_merge_into_and_of_empty_scores():
    prediction, truth, weight = sample(3, 20)
    scores, empty = PointwiseScores(VARIABLES), PointwiseScores(VARIABLES)
    scores.update(prediction, truth, weight)
    scores.merge(PointwiseScores(VARIABLES))
    scores.update(prediction[:0], truth[:0], weight[:0])
    empty.merge(scores)
    assert_equal_to_two_pass(empty, prediction, truth, weight)


def test_the_mean_of_the_scored_set_scores_zero_and_no_constant_scores_more():
    _, truth, weight = sample(4, 100)
    mean = (weight * truth).sum(0) / weight.sum(0)
    for shift, expected in ((0.0, 0.0), (0.7, None)):
        scores = PointwiseScores(VARIABLES)
        for half in (slice(0, 50), slice(50, 100)):
            scores.update(np.broadcast_to(mean + shift, truth.shape)[half], truth[half], weight[half])
        for result in scores.result().values():
            if expected is None:
                assert result.r2 < 0 and (result.r2_level < 0).all()
            else:
                assert result.r2 == pytest.approx(0.0, abs=1e-13)
                np.testing.assert_allclose(result.r2_level, 0.0, atol=1e-13)


def test_perfect_prediction():
    _, truth, weight = sample(5, 30)
    scores = PointwiseScores(VARIABLES)
    scores.update(truth, truth, weight)
    for result in scores.result().values():
        assert (result.r2, result.mae, result.rmse, result.bias) == (1.0, 0.0, 0.0, 0.0)


def test_constant_levels_are_masked_from_r2_and_counted():
    _, truth, weight = sample(6, 50)
    truth[:, 0] = 0.0  # zero variance
    truth[:, 1] = 280.0 + 1e-4 * truth[:, 1]  # std / mean below 1e-5
    prediction = truth + 0.1
    scores = PointwiseScores(VARIABLES)
    scores.update(prediction, truth, weight)
    t = scores.result()["t"]
    assert t.constant.tolist() == [True, True, False] and t.n_constant == 2
    assert np.isnan(t.r2_level[:2]).all()
    assert t.r2 == pytest.approx(t.r2_level[2])  # only the level that varies
    np.testing.assert_allclose(t.mae_level, 0.1)  # the errors still count everywhere
    assert t.mae == pytest.approx(0.1)


def test_a_variable_without_variation_or_weight_has_no_r2():
    scores = PointwiseScores({"x": 1, "y": 1})
    scores.update(np.ones((3, 2)), np.zeros((3, 2)), np.array([[1.0, 0.0]] * 3))
    x, y = scores.result().values()
    assert np.isnan(x.r2) and x.mae == 1.0
    assert np.isnan(y.r2) and np.isnan(y.mae) and y.n_constant == 1
    assert y.to_dict()["mae"] is None and y.to_dict()["r2_level"] == [None]


def test_no_samples_give_nan():
    result = PointwiseScores({"x": 2}).result()["x"]
    assert np.isnan([result.r2, result.mae, result.rmse, result.bias]).all() and result.n_samples == 0


def test_column_weight_alone_equals_the_same_weight_in_every_channel():
    prediction, truth, _ = sample(7, 20)
    column = np.linspace(1, 2, 20)
    scores = PointwiseScores(VARIABLES)
    scores.update(prediction, truth, column)
    assert_equal_to_two_pass(scores, prediction, truth, np.broadcast_to(column[:, None], truth.shape))


def test_weights_matter_only_by_ratio_and_zero_weight_drops_a_sample():
    prediction, truth, weight = sample(8, 20)
    weight[0] = 0.0
    full, part = PointwiseScores(VARIABLES), PointwiseScores(VARIABLES)
    full.update(prediction, truth, 1e12 * weight)
    part.update(prediction[1:], truth[1:], weight[1:])
    for name, result in full.result().items():
        assert result.r2 == pytest.approx(part.result()[name].r2, rel=1e-12)
        assert result.bias == pytest.approx(part.result()[name].bias, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torch_tensors_are_scored_in_float64(dtype):
    prediction, truth, weight = (torch.tensor(x, dtype=dtype) for x in sample(9, 40))
    scores = PointwiseScores(VARIABLES)
    scores.update(prediction.requires_grad_(), truth, weight)
    arrays = (x.detach().double().numpy() for x in (prediction, truth, weight))
    assert_equal_to_two_pass(scores, *arrays)


def test_diverged_predictions_are_counted_and_shown():
    prediction, truth, weight = sample(10, 20)
    prediction[3, 0], prediction[4, 3] = np.nan, np.inf
    scores = PointwiseScores(VARIABLES)
    for half in (slice(0, 10), slice(10, 20)):
        scores.update(prediction[half], truth[half], weight[half])
    t, flux = scores.result().values()
    assert (t.n_nonfinite, flux.n_nonfinite) == (1, 1)
    assert np.isnan(t.r2) and np.isfinite(t.r2_level[1:]).all()
    assert flux.rmse == np.inf and flux.r2 == -np.inf
    json.dumps(flux.to_dict(), allow_nan=False)


def test_unfit_blocks_are_refused():
    prediction, truth, weight = sample(11, 5)
    scores = PointwiseScores(VARIABLES)
    for bad, message in [
        ((prediction[:, :3], truth, weight), r"prediction \(5, 3\) and truth \(5, 4\) must both be \(n, 4\)"),
        ((prediction[0], truth[0], weight[0]), "must both be"),
        ((prediction, truth, weight[:, :3]), r"weight must have shape \(5,\) or \(5, 4\)"),
        ((prediction, truth, -weight), "not negative"),
        ((prediction, np.where(truth == truth[2, 3], np.nan, truth), weight), "truth of flux is not finite"),
    ]:
        with pytest.raises(SubgridError, match=message):
            scores.update(*bad)
    assert scores.result()["t"].n_samples == 0


def test_unfit_variables_are_refused():
    for variables in ({}, {"x": 0}):
        with pytest.raises(SubgridError, match="at least one level"):
            PointwiseScores(variables)
    with pytest.raises(SubgridError, match="cannot merge"):
        PointwiseScores({"a": 1, "b": 1}).merge(PointwiseScores({"b": 1, "a": 1}))


def test_channel_weights_by_hand():
    mass = np.array([[10.0, 20.0, 30.0], [1.0, 2.0, 3.0]])
    weights = channel_weights(VARIABLES, np.array([2.0, 3.0]), mass)
    np.testing.assert_array_equal(weights, [[20, 40, 60, 2], [3, 6, 9, 3]])


def test_channel_weights_refuse_what_does_not_fit():
    with pytest.raises(SubgridError, match="layer mass has 2 levels, but the variables have"):
        channel_weights(VARIABLES, np.ones(4), np.ones((4, 2)))
    with pytest.raises(SubgridError, match="expected, not"):
        channel_weights(VARIABLES, np.ones(3), np.ones((4, 3)))
