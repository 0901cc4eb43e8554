"""What variables are made of: the sheet's saturation pressures, differences by hand, fills and wrong values."""

from __future__ import annotations

import numpy as np
import pytest

from subgrid.columns import variable_set
from subgrid.columns.climsim.derive import (
    FILLED,
    MASK,
    GridPart,
    needed_files,
    rule,
    scoring_variables,
    take_fills,
    wrong_value,
)
from subgrid.columns.climsim.sample import sample_grid

GRID = sample_grid(12, 9)


def made(name, **values):
    """A variable of (level, column) values that are called ``kind_back_variable``."""
    one = rule(name)
    return one.combine(GridPart.of(GRID, slice(0, 12)), [values[f"{s.kind}{s.back}_{s.name}"] for s in one.sources])


@pytest.mark.parametrize(
    ("t", "pressure"),
    [
        (180.0, 0.0056859528),
        (220.0, 2.6540863764),
        (253.16, 103.2767305969),
        (263.16, 273.2522563409),
        (273.16, 611.23992100),
        (300.0, 3533.3292126864),
    ],
)
def test_humidity_is_relative_to_the_published_saturation(t, pressure):
    """``rh = q 461 p / (287 es)`` with the sheet's es and the grid's own pressure."""
    q, ps = np.full((9, 12), 2e-3), np.linspace(9.5e4, 1.02e5, 12)
    vertical = GRID.vertical
    p = np.asarray(vertical.hyam)[:, None] * 1e5 + np.asarray(vertical.hybm)[:, None] * ps
    found = made("state_rh", before0_state_q0001=q, before0_state_t=np.full((9, 12), t), before0_state_ps=ps)
    np.testing.assert_allclose(found, q * 461.0 * p / (287.0 * pressure), rtol=1e-8)  # digits of the sheet


def test_differences_are_by_step_and_by_file():
    a, b, c, d = (np.full((9, 12), x) for x in (1.0, 13.0, 37.0, 85.0))
    assert np.all(made("ptend_t", after0_state_t=b, before0_state_t=a) == 0.01)
    assert np.all(made("state_t_prvphy", after1_state_t=b, before1_state_t=a) == 0.01)
    assert np.all(made("tm_state_t_prvphy", after2_state_t=c, before2_state_t=a) == 0.03)
    assert np.all(made("state_u_dyn", before0_state_u=d, after1_state_u=a) == 0.07)
    assert np.all(made("tm_state_u_dyn", before1_state_u=c, after2_state_u=a) == 0.03)
    waters = {f"before0_state_q000{i}": b for i in (1, 2, 3)} | {f"after1_state_q000{i}": a for i in (1, 2, 3)}
    assert np.all(made("state_q0_dyn", **waters) == 0.03)
    parts = {"after0_state_q0002": c, "after0_state_q0003": b, "before0_state_q0002": a, "before0_state_q0003": a}
    assert np.all(made("ptend_qn", **parts) == 0.04)


def test_a_small_tendency_survives_a_large_state():
    """The difference is taken in float64: float32 has no digit of 1e-6 K in 300 K."""
    before = np.full((9, 12), 300.0)
    found = made("ptend_t", after0_state_t=before + 1.2e-6, before0_state_t=before)
    np.testing.assert_allclose(found, 1e-9, rtol=1e-6)


def test_place_is_that_of_the_grid_file():
    latitude = np.deg2rad(GRID.latitude)
    np.testing.assert_allclose(made("clat"), np.cos(latitude))
    np.testing.assert_allclose(made("slat"), np.sin(latitude))
    assert np.array_equal(made("icol"), np.arange(1, 13))
    part = GridPart.of(GRID, slice(8, 12))
    assert np.array_equal(rule("icol").combine(part, []), [9, 10, 11, 12])


def test_which_files_a_set_needs():
    def needs(name):
        held = variable_set(name)
        return needed_files(s for v in (*held.inputs, *held.targets) for s in rule(v.name).sources)

    assert list(needs("v1")) == [(0, "after"), (0, "before")]
    assert needs("v1")[0, "before"] == [
        *("pbuf_LHFLX", "pbuf_SHFLX", "pbuf_SOLIN", "state_ps", "state_q0001", "state_t"),
    ]
    assert set(needs("v3")) == {(0, "after"), (0, "before"), (1, "after")}
    every = {(0, "after"), (0, "before"), (1, "after"), (1, "before"), (2, "after"), (2, "before")}
    assert set(needs("v4")) == set(needs("v5")) == set(needs("v6")) == every
    held = [name for names in needs("v2_rh_mc").values() for name in names]
    assert "state_pmid" not in held, "the pressure is the grid's"


@pytest.mark.parametrize(
    ("name", "beyond"),
    [
        ("v1", []),
        ("v2", ["snowhice_mask"]),
        ("v2_rh", ["state_q0001", "snowhice_mask"]),
        (
            "v2_rh_mc",
            ["state_q0001", "state_q0002", "state_q0003", "ptend_q0002", "ptend_q0003", "snowhice_mask"],
        ),
    ],
)
def test_what_scores_need_beyond_the_set(name, beyond):
    assert [v.name for v in scoring_variables(variable_set(name))] == beyond


def test_fills_of_snow_on_ice_become_a_mask():
    values = {FILLED: np.array([1e30, 0.2, 1e30, 0.0]), "state_ps": np.full(4, 1e5)}
    assert take_fills(values) == 2
    assert values[FILLED].tolist() == [0.0, 0.2, 0.0, 0.0]
    assert values[MASK].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert rule(MASK).combine(GridPart.of(GRID, slice(0, 4)), [values[FILLED], values[MASK]]) is values[MASK]
    assert wrong_value(values) is None
    assert take_fills({"state_ps": np.full(4, 1e30)}) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_wrong_values_are_counted(bad):
    field = np.ones((3, 4))
    field[1, :2] = bad
    assert wrong_value({"a": np.ones(4), "b": field}) == ("b", "has NaN or infinity (2 of 12 values)")


@pytest.mark.parametrize("fill", [1e30, -1e30, 9.96921e36])
def test_fills_elsewhere_are_told_apart(fill):
    name, reason = wrong_value({"a": np.array([1.0, fill])})
    assert (name, reason) == ("a", "has the fill value (1 of 2 values are at least 1e+29)")
