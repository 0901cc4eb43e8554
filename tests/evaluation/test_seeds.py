"""Bands over seeds: the least, the mean and the greatest of each level, and what does not belong together."""

import pytest

from subgrid.base.errors import SubgridError
from subgrid.evaluation.seeds import SCORES, seed_bands


def scores(values, split="test", name="ptend_t"):
    entry = {key: values for key in SCORES}
    return {"split": split, "metrics": {"climsim": {"variables": {name: entry}}}}


def test_by_hand():
    found = seed_bands({"a": scores([0.1, 0.5, None]), "b": scores([0.3, 0.4, 0.9]), "c": scores([0.2, 0.9, 0.8])})
    band = found["variables"]["ptend_t"]["r2_pooled_level"]
    assert found["seeds"] == 3
    assert band["min"] == [0.1, 0.4, None] and band["max"] == [0.3, 0.9, None]
    assert band["mean"] == [pytest.approx(0.2), pytest.approx(0.6), None]


@pytest.mark.parametrize(
    "other", [scores([0.1, 0.5], name="ptend_u"), scores([0.1, 0.5], split="train"), scores([0.1])]
)
def test_what_does_not_belong_together(other):
    with pytest.raises(SubgridError, match=r"b and a are not scores of one network"):
        seed_bands({"a": scores([0.1, 0.5]), "b": other})


def test_an_evaluation_without_literature_scores():
    with pytest.raises(SubgridError, match=r"b has no literature scores: run subgrid evaluate RUN metrics=climsim"):
        seed_bands({"a": scores([0.1]), "b": {"split": "test", "metrics": {}}})
