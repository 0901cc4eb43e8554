"""Names of ClimSim's files and the numbers of their steps."""

from __future__ import annotations

import pytest

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns.climsim.names import file_name, months, parse_name, step_number, step_time


def test_a_name_and_its_parts():
    name = "E3SM-MMF.mli.0001-02-28-85200.nc"
    assert parse_name(name) == ("mli", 1, 2, 28, 85200)
    assert file_name(*parse_name(name)) == name
    assert parse_name("E3SM-MMF.mlexpand.0008-12-31-01200.nc") == ("mlexpand", 8, 12, 31, 1200)


@pytest.mark.parametrize(
    "name",
    [
        "ClimSim_low-res_grid-info.nc",
        "E3SM-MMF.mlx.0001-02-01-00000.nc",
        "E3SM-MMF.mli.0001-02-01-00000.nc.partial",
        "E3SM-MMF.mli.0001-02-29-00000.nc",
        "E3SM-MMF.mli.0001-13-01-00000.nc",
        "E3SM-MMF.mli.0001-02-01-01000.nc",
        "E3SM-MMF.mli.0001-02-01-86400.nc",
        "train/0001-02/E3SM-MMF.mli.0001-02-01-00000.nc",
    ],
)
def test_another_name_is_refused_by_name(name):
    with pytest.raises(SubgridError, match=name.split("/")[0]):
        parse_name(name)


def test_steps_count_from_the_first_file_without_leap_days():
    assert step_number(1, 2, 1, 0) == 0
    assert step_number(1, 2, 1, 85200) == 71
    assert step_number(1, 3, 1, 0) == 28 * 72
    assert step_number(1, 1, 31, 85200) == -1
    # A year has 26,280 steps; every fourth year too. The published training split ends after seven of them.
    assert step_number(4, 2, 1, 0) - step_number(3, 2, 1, 0) == 26280
    assert step_number(5, 3, 1, 0) - step_number(4, 2, 28, 0) == 26280 + 72
    assert step_number(8, 2, 1, 0) == 7 * 26280


@pytest.mark.parametrize("number", [0, 1, 71, 72, -1, 2015, 2016, 183959, 183960, 262799])
def test_a_number_gives_back_its_time(number):
    assert step_number(*step_time(number)) == number


def test_months_are_lists_and_ranges_across_years():
    assert months("0001-02") == ["0001-02"]
    assert months("0001-11:0002-01") == ["0001-11", "0001-12", "0002-01"]
    assert months("0002-01, 0001-02:0001-03,0001-03") == ["0001-02", "0001-03", "0002-01"]


@pytest.mark.parametrize("text", ["", "1-2", "0001-13", "0001-00", "0001-03:0001-02", "0001-02:0001-03:0001-04", "all"])
def test_months_that_are_none_are_wrong_usage(text):
    with pytest.raises(UsageError, match="month"):
        months(text)
