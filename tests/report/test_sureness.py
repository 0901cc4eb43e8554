"""The section of what an emulator says of its own errors: its draws and its confidence, or nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from subgrid.base.formats import EVALUATION, write_record
from subgrid.columns.variables import variable_set
from subgrid.report import sureness, write_report
from subgrid.report.results import Results
from subgrid.report.style import CONTROL, EMULATOR, NARROW, png
from subgrid.report.sureness_section import confidence_table, member_table, sureness_section
from subgrid.scores.sureness import KEPT

from .builder import scores


def members() -> dict[str, Any]:
    """Scores of draws as the evaluation writes them; the winds carry no energy."""
    found = {}
    for k, v in enumerate(variable_set("speedy").targets):
        entry = {"crps": 1e-5 * (k + 1), "spread": 2e-5, "rmse": 2.5e-5, "spread_error": 0.8}
        found[v.name] = {**entry, "crps_energy": 3.25 if v.energy else None, "spread_energy": None}
    return {"members": 32, "seed": 4, "about": "", "variables": found}


def confidence() -> dict[str, Any]:
    """Scores of a confidence; one output does not vary."""
    found: dict[str, Any] = {}
    for k, v in enumerate(variable_set("speedy").targets):
        live = k != 2
        curve = [0.9 - 0.01 * i for i in range(len(KEPT))]
        entry: dict[str, Any] = {"kind": v.kind, "long_name": v.long_name, "rank_correlation": 0.432 if live else None}
        entry |= {f"{name}_kept": curve if live else None for name in ("r2", "mse", "mse_best")}
        found[v.name] = entry
    ranks = {"channels": 0.31, "pooled": 0.42, "columns": 0.58, "expected": 0.63}
    return {"rows": 20000, "n_nonfinite": 0, "rank_correlation": ranks, "kept": list(KEPT), "variables": found}


def test_the_tables_hold_every_variable():
    table = member_table(scores(), members())
    row = dict(zip(table.header, table.rows[0], strict=True))
    assert row["Variable"] == "Temperature tendency" and row["CRPS (W/m²)"] == "3.25" and row["Spread ÷ RMSE"] == "0.80"
    assert row["CRPS"] == "1.00×10⁻⁵ K/s" and len(table.rows) == len(variable_set("speedy").targets)
    assert dict(zip(table.header, table.rows[2], strict=True))["CRPS (W/m²)"] == "–"
    table = confidence_table(confidence())
    assert table.header == ["Variable", "Rank correlation", "R² of 100%", "R² of 90%", "R² of 50%", "R² of 10%"]
    assert table.rows[0][1:] == ["0.432", "0.900", "0.890", "0.850", "0.810"] and table.rows[2][1:] == ["–"] * 5


@pytest.mark.parametrize("narrow", [False, True])
def test_the_curves_are_those_of_the_scores(narrow):
    result = confidence()
    result["variables"]["temperature_tendency"]["mse_best_kept"] = [0.5] * len(KEPT)
    figure = sureness.kept_skill(result, narrow=narrow)
    assert len(figure.axes) == 4 and (figure.get_figwidth() == NARROW) == narrow
    assert all(ax.get_xlabel() and ax.get_ylabel() and ax.get_title(loc="left") for ax in figure.axes)
    lines = {line.get_color(): line for line in figure.axes[1].lines}
    np.testing.assert_array_equal(lines[EMULATOR].get_xdata(), KEPT)
    np.testing.assert_array_equal(lines[EMULATOR].get_ydata(), result["variables"]["temperature_tendency"]["mse_kept"])
    np.testing.assert_array_equal(lines[CONTROL].get_ydata(), [0.5] * len(KEPT))
    assert png(figure, dpi=40).startswith(b"\x89PNG")


@pytest.mark.usefixtures("quick")
def test_the_page_has_the_section_where_there_is_something_to_tell(tmp_path):
    assert sureness_section(Results(tmp_path, scores=scores())) is None
    assert sureness_section(Results(tmp_path, scores={**scores(), "members": None, "confidence": None})) is None
    for name, told in (("members", members()), ("confidence", confidence())):
        place = tmp_path / name / "evaluation"
        place.mkdir(parents=True)
        write_record(place / "scores.json", EVALUATION, {**scores(), "members": None, "confidence": None, name: told})
        page = write_report(tmp_path / name).read_text()
        assert "How sure the emulator is" in page and ("32 seeded draws" in page) == (name == "members")
        assert ("0.420 of all outputs and rows together" in page) == (name == "confidence")


def test_an_emulator_whose_confidence_is_worth_nothing_has_a_table_alone(tmp_path):
    result = confidence()
    for entry in result["variables"].values():
        entry.update(r2_kept=None, mse_kept=None, mse_best_kept=None, rank_correlation=None)
    result["rank_correlation"] = dict.fromkeys(result["rank_correlation"])
    section = sureness_section(Results(tmp_path, scores={**scores(), "confidence": result}))
    assert [type(block).__name__ for block in section.blocks] == ["Table"] and "None" not in section.lead[0]
