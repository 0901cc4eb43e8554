"""Numbers and verdicts in words."""

from __future__ import annotations

import pytest

from subgrid.report import words

from .builder import UNSTABLE, coupled_metrics


@pytest.mark.parametrize(
    ("value", "digits", "signed", "expected"),
    [
        (0.8361, 3, False, "0.836"),
        (-0.00001, 3, False, "0.000"),
        (-1.5, 1, False, "−1.5"),
        (0.4, 2, True, "+0.40"),
        (1305305, 0, False, "1,305,305"),
        (None, 3, False, "–"),
        (float("nan"), 3, False, "–"),
    ],
)
def test_fixed(value, digits, signed, expected):
    assert words.fixed(value, digits, signed) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(5.46e-6, "5.46×10⁻⁶"), (0, "0"), (245.07, "245"), (0.0941, "0.0941"), (-12.34, "−12.3"), (2e7, "2.00×10⁷")],
)
def test_short(value, expected):
    assert words.short(value) == expected


def test_duration_and_size():
    assert words.duration(3.21) == "3.2 s"
    assert words.duration(61.5) == "1 min 2 s"
    assert words.duration(3700) == "1 h 1 min"
    assert words.size(1402880) == "1.4 MB"
    assert words.size(12) == "12 bytes"


def test_stable_verdict_tells_the_drift():
    metrics = coupled_metrics() | {
        "mid_troposphere_temperature_difference_K": -0.18,
        "lowest_level_temperature_difference_K": 0.08,
        "lowest_level_humidity_ratio": 0.98,
        "precipitation_ratio": 1.094,
    }
    told = words.verdict(metrics)
    assert "all 12 days" in told
    assert "the middle troposphere is 0.18 K colder" in told
    assert "2.0% drier and precipitation is 9.4% higher" in told


def test_unstable_verdict_tells_where_and_when():
    told = words.verdict(coupled_metrics(UNSTABLE))
    assert told == (
        "The run left its bounds after 12 of 90 days: temperature out of bounds (112.5 K at σ = 0.10, level 1, "
        "83.1°S, 123.8°W), on 2002-02-14 at 03:30."
    )


def test_drift_and_not_a_number_have_verdicts():
    drift = {"reason": "global-mean temperature is -10.4 K from the control", "time": "2002-03-01T00:00:00"}
    assert "global-mean temperature is −10.4 K from the control" in words.verdict(coupled_metrics(drift))
    assert "(nan K at" in words.verdict(coupled_metrics(UNSTABLE | {"value": "nan"}))
