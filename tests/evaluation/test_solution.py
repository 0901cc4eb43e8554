"""Scores of a submission against the truth: plain numpy, either kind of truth, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from subgrid.base.errors import SubgridError
from subgrid.columns.kaggle import files
from subgrid.columns.kaggle.layout import SUBMISSION_HEADER, TARGET_LABELS, TRAIN_HEADER, zero_weight
from subgrid.evaluation.kaggle import described
from subgrid.evaluation.solution import score_submission

ROWS = 90
NAMES = [f"train_{k}" for k in range(ROWS)]


@pytest.fixture(scope="module")
def weight():
    return np.where(zero_weight(), 0.0, 10.0 ** np.random.default_rng(3).uniform(0.0, 15.0, 368))


@pytest.fixture(scope="module")
def prediction(kaggle_values):
    """The truth with errors that differ between outputs, unweighted."""
    truth = kaggle_values(ROWS, seed=9)[:, 556:]
    rng = np.random.default_rng(1)
    return truth + truth.std(axis=0) * rng.uniform(0.1, 2.0, 368) * rng.standard_normal(truth.shape)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, kaggle_values, prediction, write_kaggle, weight):
    made, values = tmp_path_factory.mktemp("scores"), kaggle_values(ROWS, seed=9)
    write_kaggle(made / "train.parquet", NAMES, values, TRAIN_HEADER, group=37)
    write_kaggle(made / "solution.csv", NAMES, values[:, 556:] * weight, SUBMISSION_HEADER)
    write_kaggle(made / "sample.csv", NAMES, np.tile(weight, (ROWS, 1)), SUBMISSION_HEADER)
    write_kaggle(made / "submission.csv", NAMES, prediction * weight, SUBMISSION_HEADER)
    write_kaggle(made / "plain.csv", NAMES, prediction * (weight != 0.0), SUBMISSION_HEADER)
    return made


@pytest.mark.parametrize(
    ("submission", "truth", "weights"),
    [
        ("submission.csv", "train.parquet", "sample.csv"),
        ("submission.csv", "solution.csv", "sample.csv"),
        ("submission.csv", "solution.csv", ""),
        ("plain.csv", "train.parquet", ""),
    ],
)
def test_it_is_what_plain_numpy_gives(
    folder, kaggle_values, prediction, weight, monkeypatch, submission, truth, weights
):
    monkeypatch.setattr(files, "CHUNK", 150_000)
    monkeypatch.setattr(files, "BATCH", 16)
    asked = str(folder / weights) if weights else ""
    found = score_submission(folder / submission, folder / truth, asked)
    true = kaggle_values(ROWS, seed=9)[:, 556:]
    r2 = 1.0 - ((prediction - true) ** 2).sum(axis=0) / ((true - true.mean(axis=0)) ** 2).sum(axis=0)
    metrics = found["metrics"]["kaggle"]
    assert metrics["r2_308"] == pytest.approx(r2[weight != 0.0].mean(), abs=1e-10)
    assert metrics["r2_368"] == pytest.approx(np.where(weight != 0.0, r2, 1.0).mean(), abs=1e-10)
    assert metrics["r2"]["ptend_t"][17] == pytest.approx(r2[TARGET_LABELS.index("ptend_t_17")], abs=1e-10)
    assert (found["rows"], found["zero_weights"]) == (ROWS, 60)


def test_other_rows_are_refused(tmp_path, folder, prediction, write_kaggle):
    short = write_kaggle(tmp_path / "short.csv", NAMES[:-3], prediction[:-3], SUBMISSION_HEADER)
    with pytest.raises(SubgridError, match=r"short.csv has fewer rows than .*train.parquet"):
        score_submission(short, folder / "train.parquet")
    with pytest.raises(SubgridError, match=r"short.csv has fewer rows than .*submission.csv"):
        score_submission(folder / "submission.csv", short)
    names = [*NAMES[:40], "train_41", "train_40", *NAMES[42:]]
    swapped = write_kaggle(tmp_path / "swapped.parquet", names, prediction, SUBMISSION_HEADER)
    with pytest.raises(SubgridError, match=r"row 41 is train_41, in .* it is train_40"):
        score_submission(swapped, folder / "train.parquet")
    one = write_kaggle(tmp_path / "one.csv", NAMES[:1], prediction[:1], SUBMISSION_HEADER)
    with pytest.raises(SubgridError, match="needs two or more"):
        score_submission(one, one)


def test_what_json_cannot_hold_is_none():
    r2 = np.zeros(368)
    r2[3] = -np.inf
    found = described(r2, np.ones(368), 60)
    assert found["r2_308"] is None and found["r2"]["ptend_t"][3] is None and found["r2"]["ptend_t"][4] == 0.0
