"""Weights of the competition: both published vectors, and files that are no sample submission."""

from __future__ import annotations

import numpy as np
import pytest

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns.kaggle.layout import INPUTS, SUBMISSION_HEADER, TARGET_LABELS, TARGETS, zero_weight
from subgrid.columns.kaggle.weights import present_weights, read_weights

NAMES = [f"test_{k}" for k in range(30)]


def old_weights():
    """1/std with the cap of 1e15, zero at levels 0 to 11 of five tendencies and 12 to 14 of cloud liquid."""
    spread = np.random.default_rng(0).uniform(1e-14, 1e-4, 368)
    weight = 1.0 / spread
    weight[TARGET_LABELS.index("ptend_q0002_15") : TARGET_LABELS.index("ptend_q0002_26")] = 1e15
    weight[zero_weight()] = 0.0
    weight[TARGET_LABELS.index("ptend_q0002_12") : TARGET_LABELS.index("ptend_q0002_15")] = 0.0
    return weight


def test_the_layout_is_that_of_the_competition():
    assert len(TARGET_LABELS) == 368 and sum(v.width(60) for v in INPUTS.values()) == 556
    assert list(TARGETS)[:6] == [f"ptend_{x}" for x in ("t", "q0001", "q0002", "q0003", "u", "v")]
    zero = [label for label, is_zero in zip(TARGET_LABELS, zero_weight(), strict=True) if is_zero]
    assert zero == [f"ptend_{x}_{k}" for x in ("q0001", "q0002", "q0003", "u", "v") for k in range(12)]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(("weight", "zeros"), [(old_weights(), 63), (present_weights().weight, 60)])
def test_both_published_vectors_are_read_exactly(tmp_path, write_kaggle, suffix, weight, zeros):
    path = write_kaggle(tmp_path / f"sample{suffix}", NAMES, np.tile(weight, (30, 1)), SUBMISSION_HEADER)
    found = read_weights(path)
    assert np.array_equal(found.weight, weight) and int((found.weight == 0.0).sum()) == zeros
    assert found.ids.to_pylist() == NAMES


def change(place, value):
    def damage(values):
        values[place] = value

    return damage


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (change((7, 3), 2.0), "row test_7 differs from the first one in ptend_t_3"),
        (change((slice(None), 3), np.nan), "ptend_t_3 is empty, NaN or infinite"),
        (change((slice(None), 3), -1.0), "zero or positive"),
        (change(slice(None), 0.0), "not all be zero"),
    ],
)
def test_what_is_no_sample_submission_is_refused(tmp_path, write_kaggle, damage, says):
    values = np.tile(old_weights(), (30, 1))
    damage(values)
    path = write_kaggle(tmp_path / "sample.csv", NAMES, values, SUBMISSION_HEADER)
    with pytest.raises(SubgridError, match=says):
        read_weights(path)


def test_an_id_that_is_there_twice_is_refused(tmp_path, write_kaggle):
    values = np.tile(old_weights(), (30, 1))
    path = write_kaggle(tmp_path / "sample.parquet", [*NAMES[:20], *NAMES[4:14]], values, SUBMISSION_HEADER)
    with pytest.raises(SubgridError, match="row test_4 is there twice"):
        read_weights(path)


def test_other_files_are_refused(tmp_path, write_kaggle):
    with pytest.raises(SubgridError, match="does not exist"):
        read_weights(tmp_path / "sample.csv")
    with pytest.raises(UsageError, match="unpack"):
        read_weights(tmp_path / "sample.csv.zip")
    path = write_kaggle(tmp_path / "s.parquet", NAMES, np.ones((30, 367)), SUBMISSION_HEADER[:-1])
    with pytest.raises(SubgridError, match=r"missing cam_out_SOLLD \(1\)"):
        read_weights(path)
    path = write_kaggle(tmp_path / "e.csv", [], np.ones((0, 368)), SUBMISSION_HEADER)
    with pytest.raises(SubgridError, match="has no row"):
        read_weights(path)
