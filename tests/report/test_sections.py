"""Tables of the page's sections that are more than the scores as they stand."""

from __future__ import annotations

import pytest

from subgrid.report.sections import residual_table

from .builder import scores


def residual(mean: float, rms: float, largest: float) -> dict[str, float]:
    return {"mean": mean, "rms": rms, "relative_rms": largest / 2, "relative_max": largest, "closed": 0.5}


def test_residuals_stand_beside_those_of_the_truth_in_units_that_readers_know():
    energy = {"units": "W/m2", "terms": [], "truth": residual(-3.8, 4.27, 0.01), "emulator": residual(1.5, 14.1, 0.3)}
    water = {"units": "kg/m2/s", "terms": [], "truth": residual(0, 1e-8, 1e-7), "emulator": residual(0, 1e-5, 0.2)}
    table = residual_table({"budgets": {"energy": energy, "water": water}})
    assert [row[:2] for row in table.rows] == [
        ["Energy", "truth"],
        ["Energy", "emulator"],
        ["Water", "truth"],
        ["Water", "emulator"],
    ]
    assert "14.1" in table.rows[1][3] and "W" in table.rows[1][3]
    assert table.rows[3][3].startswith("0.864") and table.rows[3][3].endswith("mm/day")


@pytest.mark.parametrize("held", [{}, {"budgets": {}}])
def test_scores_without_budgets_have_no_such_table(held):
    assert residual_table({**scores(), **held}) is None
