"""The published aggregation against plain numpy on whole (time, column, channel) arrays."""

import numpy as np
import pytest

from subgrid.base.errors import SubgridError
from subgrid.scores.climsim import ColumnScores
from subgrid.scores.members import fair_crps

TIMES, COLUMNS, LEVELS = 50, 12, 4
VARIABLES = {"profile": LEVELS, "scalar": 1}


def arrays(seed=0, mean=0.0, members=0):
    """Truth (time, column, channel) and a prediction of it, or several."""
    rng = np.random.default_rng(seed)
    spread = 10.0 ** rng.uniform(-1, 1, (COLUMNS, LEVELS + 1))
    truth = mean + spread * rng.standard_normal((TIMES, COLUMNS, LEVELS + 1))
    shape = (members, *truth.shape) if members else truth.shape
    return truth, truth + 0.3 * spread * rng.standard_normal(shape)


def in_blocks(truth, prediction, block=37, shuffled=True, seed=0):
    """Scores of rows that come in blocks of a length that no number of columns divides, in any order of time."""
    rows = np.arange(TIMES * COLUMNS)
    if shuffled:
        np.random.default_rng(seed).shuffle(rows)
    y = truth.reshape(-1, truth.shape[-1])
    p = prediction.reshape(*prediction.shape[:-3], *y.shape)
    scores = ColumnScores(VARIABLES, COLUMNS)
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        scores.update(p[..., part, :], y[part], part % COLUMNS)
    return scores


def plain(truth, prediction):
    """The published formulas as they are written."""
    error = prediction - truth
    unexplained, spread = (error**2).sum(0), ((truth - truth.mean(0)) ** 2).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = 1.0 - unexplained / spread
    return {
        "mae": np.abs(error).mean(0).mean(0),
        "rmse": np.sqrt((error**2).mean(0)).mean(0),
        "bias": error.mean(0).mean(0),
        "r2": r2.mean(0),
        "r2_pooled": 1.0 - (error**2).sum((0, 1)) / ((truth - truth.mean((0, 1))) ** 2).sum((0, 1)),
    }


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("mean", [0.0, 3e3, 1e6])
def test_equal_to_plain_numpy(shuffled, mean):
    truth, prediction = arrays(mean=mean)
    found, expected = in_blocks(truth, prediction, shuffled=shuffled).result(), plain(truth, prediction)
    for name, part in (("profile", slice(0, LEVELS)), ("scalar", slice(LEVELS, None))):
        for score, values in expected.items():
            if score == "r2_pooled" and mean == 1e6:  # then a spread of 0.1 to 10 counts as constant
                continue
            np.testing.assert_allclose(getattr(found[name], f"{score}_level"), values[part], rtol=1e-10, atol=1e-13)
            if score != "r2_pooled":
                assert getattr(found[name], score) == pytest.approx(values[part].mean(), rel=1e-10, abs=1e-13)
        if mean < 1e6:
            assert found[name].r2_guarded == pytest.approx(found[name].r2, rel=1e-12)
        assert found[name].columns == COLUMNS and found[name].crps is None


def test_pooled_over_levels_is_a_ratio_of_sums():
    truth, prediction = arrays()
    y, p = truth[..., :LEVELS], prediction[..., :LEVELS]
    expected = 1.0 - ((p - y) ** 2).sum() / ((y - y.mean((0, 1))) ** 2).sum()
    assert in_blocks(truth, prediction).result()["profile"].r2_pooled == pytest.approx(expected, rel=1e-12)


def test_by_hand():
    scores = ColumnScores({"a": 1}, 2)
    # Column 0: truth 0, 2, error 1, -1: MAE 1, R2 = 1 - 2 / 2 = 0. Column 1: truth 0, 4, error 0, 2: MAE 1, R2 0.5.
    scores.update(
        np.array([[1.0], [0.0], [1.0], [6.0]]), np.array([[0.0], [0.0], [2.0], [4.0]]), np.array([0, 1, 0, 1])
    )
    found = scores.result()["a"]
    assert (found.mae, found.bias, found.r2) == (1.0, 0.5, 0.25)
    assert found.rmse == pytest.approx((1.0 + np.sqrt(2.0)) / 2)
    # pooled: 1 - (1 + 1 + 0 + 4) / sum of (y - 1.5)^2 over 0, 2, 0, 4
    assert found.r2_pooled == pytest.approx(1.0 - 6.0 / 11.0)


def test_a_column_that_does_not_vary():
    truth, prediction = arrays()
    truth[:, 3, 1] = 0.25
    truth[:, 5, 2] = prediction[:, 5, 2] = 0.0
    found = in_blocks(truth, prediction).result()["profile"]
    assert found.r2_level[1] == -np.inf  # x / 0, as published
    assert np.isnan(found.r2_level[2])  # 0 / 0
    assert found.n_constant_level.tolist() == [0, 1, 1, 0]
    others = np.delete(np.arange(COLUMNS), 3)
    expected = plain(truth[:, others], prediction[:, others])["r2"][1]
    assert found.r2_guarded_level[1] == pytest.approx(expected, rel=1e-10)
    assert np.isfinite(found.r2_pooled) and found.to_dict()["r2"] is None
    assert found.to_dict()["r2_level"][1] is None


def test_a_column_that_hardly_varies_beside_the_others_is_left_out():
    """Numbers of 1e-20 that vary among numbers of 1 say nothing of skill, and would give an R2 of -1e40."""
    truth, prediction = arrays()
    truth[:, 3, 1] *= 1e-20
    found = in_blocks(truth, prediction).result()["profile"]
    assert found.n_constant_level.tolist() == [0, 1, 0, 0]
    assert found.r2_level[1] < -1e30 and found.r2_guarded_level[1] > 0.5


def test_a_variable_that_varies_nowhere():
    truth, prediction = arrays()
    truth[..., LEVELS] = 3.0
    found = in_blocks(truth, prediction).result()["scalar"]
    assert np.isnan(found.r2_guarded) and np.isnan(found.r2_pooled) and found.n_constant_level.tolist() == [COLUMNS]
    assert found.mae > 0


def test_columns_without_rows_are_left_out():
    truth, prediction = arrays()
    scores = ColumnScores(VARIABLES, COLUMNS + 5)
    column = np.tile(np.arange(COLUMNS) + 3, TIMES)
    scores.update(prediction.reshape(-1, LEVELS + 1), truth.reshape(-1, LEVELS + 1), column)
    found = scores.result()["profile"]
    assert found.columns == COLUMNS
    assert found.mae == pytest.approx(plain(truth, prediction)["mae"][:LEVELS].mean(), rel=1e-12)
    assert np.isnan(ColumnScores(VARIABLES, 3).result()["scalar"].mae)


def test_members_are_scored_by_their_mean_and_by_crps():
    truth, prediction = arrays(members=5)
    found = in_blocks(truth, prediction).result()["profile"]
    expected = plain(truth, prediction.mean(0))
    assert found.mae == pytest.approx(expected["mae"][:LEVELS].mean(), rel=1e-10)
    crps = fair_crps(prediction, truth).mean((0, 1))[:LEVELS]
    np.testing.assert_allclose(found.crps_level, crps, rtol=1e-10)
    assert found.crps == pytest.approx(crps.mean(), rel=1e-10)


def test_a_diverged_prediction_is_shown_and_counted():
    truth, prediction = arrays()
    prediction[7, 2, 1] = np.nan
    found = in_blocks(truth, prediction).result()["profile"]
    assert np.isnan(found.mae_level[1]) and np.isfinite(found.mae_level[0]) and found.n_nonfinite == 1


def test_what_is_refused():
    scores = ColumnScores(VARIABLES, COLUMNS)
    good = np.zeros((3, LEVELS + 1))
    with pytest.raises(SubgridError, match="must be"):
        scores.update(good[:, :2], good, np.zeros(3, int))
    with pytest.raises(SubgridError, match="must be"):
        scores.update(good, good, np.zeros(2, int))
    with pytest.raises(SubgridError, match="outside 0 to 11"):
        scores.update(good, good, np.array([0, 1, COLUMNS]))
    with pytest.raises(SubgridError, match="not finite"):
        scores.update(good, np.full_like(good, np.inf), np.zeros(3, int))
    scores.update(good, good, np.zeros(3, int))
    with pytest.raises(SubgridError, match="every block or in none"):
        scores.update(np.stack([good, good]), good, np.zeros(3, int))
    with pytest.raises(SubgridError, match="no channels"):
        ColumnScores({}, 3)
