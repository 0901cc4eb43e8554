"""What left the training range first, and skill as a shadow; by hand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from subgrid.columns import variable_set
from subgrid.coupling.watching import left_training, shadow_budgets, shadow_skill
from subgrid.hosts.diagnostics import SHADOW, shadow_name


def test_inputs_are_named_in_the_order_in_which_they_left():
    run = xr.Dataset(
        {
            "outside_temperature": (
                ("time", "level"),
                [[0.0, 0.0], [0.0, 0.02], [0.0, 0.3]],
            ),
            "outside_albedo": ("time", [0.0, 0.0, 0.5]),
            "outside_u_wind": (("time", "level"), np.zeros((3, 2))),
            "temperature": (("time", "level"), np.ones((3, 2))),
        }
    )
    assert left_training(run) == [
        {"input": "temperature", "level": 1, "day": 1, "distance": 0.3},
        {"input": "albedo", "level": None, "day": 2, "distance": 0.5},
    ]
    assert left_training(run, beyond=0.4) == [{"input": "albedo", "level": None, "day": 2, "distance": 0.5}]


def test_skill_is_that_of_all_days_and_levels_together():
    targets = [v for v in variable_set("speedy").targets if v.name in ("temperature_tendency", "evaporation")]
    rng = np.random.default_rng(0)
    own, error = rng.normal(size=(5, 3, 1000)), 0.5 * rng.normal(size=(5, 3, 1000))
    own[:, 2], error[:, 2] = 4.0, 0.1  # a level on which nothing varies
    fields = {}
    for target, part in ((targets[0], slice(0, 3)), (targets[1], 0)):
        values = dict(zip(SHADOW, (error, error**2, own, own**2), strict=True))
        for key, value in values.items():
            dims = ("time", "level") if isinstance(part, slice) else ("time",)
            fields[shadow_name(key, target.name)] = (dims, value[:, part].mean(-1))
    found = shadow_skill(xr.Dataset(fields), targets)
    heat = found["temperature_tendency"]
    wanted = 1 - (error[:, :2] ** 2).mean((0, 2)).sum() / own[:, :2].var((0, 2)).sum()
    assert heat["r2"] == pytest.approx(wanted, rel=1e-9)
    assert heat["r2_by_level"][:2] == pytest.approx(list(1 - (error**2).mean((0, 2))[:2] / own.var((0, 2))[:2]))
    assert heat["r2_by_level"][2] is None
    assert heat["bias"] == pytest.approx(error.mean())
    assert found["evaporation"]["r2_by_level"] is None
    assert found["evaporation"]["r2"] == pytest.approx(1 - (error[:, 0] ** 2).mean() / own[:, 0].var())


def test_what_a_shadow_would_create_is_the_budget_of_its_mean_errors(column_grid):
    names = ("convective_precipitation", "large_scale_precipitation", "absorbed_solar", "outgoing_longwave")
    names += ("surface_net_shortwave", "surface_upward_longwave", "surface_downward_longwave", "sensible_heat_flux")
    flat = {shadow_name("error", name): ("time", np.zeros(3)) for name in (*names, "evaporation")}
    heat, wet = np.zeros((3, 8)), np.zeros((3, 8))
    heat[:, 4], wet[:, 4] = 1e-6, 1e-9
    flat[shadow_name("error", "outgoing_longwave")] = ("time", np.full(3, 5.0))
    flat[shadow_name("error", "evaporation")] = ("time", np.full(3, 1e-6))
    profiles = {"temperature_tendency": heat, "specific_humidity_tendency": wet}
    run = xr.Dataset({**flat, **{shadow_name("error", k): (("time", "level"), v) for k, v in profiles.items()}})
    found = shadow_budgets(run, column_grid)
    mass = float(column_grid.vertical.sigma_thickness[4]) * 98500.0 / 9.81
    assert found["energy_residual"] == pytest.approx(1004.0 * mass * 1e-6 + 5.0, rel=1e-3)
    assert found["water_residual"] == pytest.approx(2.501e6 * (mass * 1e-9 - 1e-6), rel=1e-3)
    assert shadow_budgets(run.drop_vars(shadow_name("error", "evaporation")), column_grid) == {}
