"""What left the training range first, and skill as a shadow; by hand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from subgrid.columns import variable_set
from subgrid.coupling.watching import left_training, shadow_skill
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
