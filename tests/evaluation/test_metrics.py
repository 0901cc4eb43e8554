"""Sets of metrics by name."""

import pytest

from subgrid.base.errors import UsageError
from subgrid.evaluation.metrics import METRICS, chosen, plain_lines


def test_names_are_kept_once_and_in_order():
    assert chosen("climsim, standard,kaggle,climsim") == ["climsim", "kaggle"]
    assert chosen("standard") == []
    assert set(METRICS) == {"climsim", "kaggle"}


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match="climsim"):
        chosen("climsin")


def test_plain_lines_are_numbers_only():
    assert [line.split() for line in plain_lines("kaggle", {"r2_368": 0.5, "flag": True, "r2": {}})] == [
        ["kaggle", "r2_368", "0.5"]
    ]
