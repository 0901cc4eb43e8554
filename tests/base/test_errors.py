"""Errors: exit codes and the nearest valid names."""

from __future__ import annotations

import pytest

from subgrid.base.errors import SubgridError, UsageError, nearest, unknown_name


def test_exit_codes_tell_failed_work_from_wrong_usage():
    assert SubgridError.exit_code == 1
    assert UsageError.exit_code == 2
    assert issubclass(UsageError, SubgridError)


@pytest.mark.parametrize(
    ("name", "valid", "expected"),
    [
        ("unte", ["mlp", "unet"], ["unet"]),
        ("xyz", ["unet", "mlp"], ["mlp", "unet"]),  # nothing is close, few exist: all
        ("xyz", [f"name{i}" for i in range(9)], []),  # nothing is close, many exist: none
    ],
)
def test_nearest_gives_close_names_or_the_few_there_are(name, valid, expected):
    assert nearest(name, valid) == expected


def test_nearest_is_best_first_and_at_most_count():
    valid = ["temperature", "temperatures", "temperament", "pressure"]
    assert nearest("temperature", valid)[0] == "temperature"
    assert len(nearest("temperature", valid, count=2)) == 2


def test_unknown_name_names_the_kind_the_name_and_a_hint():
    error = unknown_name("architecture", "unte", iter(["mlp", "unet"]))
    assert isinstance(error, UsageError)
    assert str(error) == "unknown architecture 'unte'; did you mean unet?"
    assert str(unknown_name("thing", "q", [])) == "unknown thing 'q'"
