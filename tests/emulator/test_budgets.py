"""Budgets: their terms by hand, both kinds of ClimSim's cloud, and the refusal that names what lacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.columns import variable_set
from subgrid.columns.variables import offsets
from subgrid.emulator import EmulatorConfig, build_emulator
from subgrid.emulator.budgets import Budget, Term, column_budget, find_budget, known_budgets
from subgrid.physics.constants import E3SM, SPEEDY
from subgrid.physics.vertical import VerticalGrid

GRID = VerticalGrid.hybrid(hyai=(0.02, 0.1, 0.05, 0.02, 0.0), hybi=(0.0, 0.1, 0.4, 0.7, 1.0))
LEVELS = 4


def rows(variables, seed=0):
    rng = np.random.default_rng(seed)
    widths = [sum(v.width(LEVELS) for v in group) for group in (variables.inputs, variables.targets)]
    x, y = (rng.standard_normal((5, width)).astype(np.float32) for width in widths)
    x[:, offsets(variables.inputs, LEVELS)[pressure_of(variables)]] = 9.5e4
    return x, y


def pressure_of(variables):
    return next(v.name for v in variables.inputs if v.quantity == "surface_pressure")


@pytest.mark.parametrize(("name", "cloud"), [("v2_rh", ("ptend_q0002", "ptend_q0003")), ("v2_rh_mc", ("ptend_qn",))])
def test_climsims_water_by_hand(name, cloud):
    variables = variable_set(name)
    x, y = rows(variables)
    ins, outs = offsets(variables.inputs, LEVELS), offsets(variables.targets, LEVELS)
    x, y = x.astype(np.float64), y.astype(np.float64)
    mass = GRID.layer_thickness(np.full(5, 9.5e4)) / E3SM.gravity
    terms = [mass * y[:, outs[v]] for v in ("ptend_q0001", *cloud)]
    terms += [1000.0 * y[:, outs["cam_out_PRECC"]], -x[:, ins["pbuf_LHFLX"]] / E3SM.Lv]
    terms = np.concatenate(terms, axis=1)
    residual, size = column_budget(find_budget("water", variables), variables, GRID).of_rows(x, y)
    np.testing.assert_allclose(residual, terms.sum(1), rtol=1e-9)
    np.testing.assert_allclose(size, np.abs(terms).sum(1), rtol=1e-9)
    assert [b.name for b in known_budgets(variables)] == ["water"]


@pytest.mark.parametrize(
    ("name", "budget", "lacks"),
    [
        ("v2_rh_mc", "energy", "absorbed_solar, outgoing_longwave"),
        ("v1", "water", "cloud_liquid_tendency, cloud_ice_tendency"),
    ],
)
def test_what_lacks_is_named(name, budget, lacks):
    with pytest.raises(UsageError, match=f"the {budget} budget needs {lacks}.*, which variable set '{name}' lacks"):
        find_budget(budget, variable_set(name))
    settings = {**variable_set(name).emulator, "energy" if budget == "energy" else "water": "projection"}
    with pytest.raises(UsageError, match=lacks):
        build_emulator("mlp", variable_set(name), GRID, 1200.0, EmulatorConfig(**settings))


def test_emission_of_the_lowest_layer_enters():
    variables = variable_set("speedy")
    x, y = rows(variables)
    place = offsets(variables.inputs, LEVELS)["temperature"]
    x[:, place] = 300.0
    budget = Budget("energy", (Term("sensible_heat_flux", -1.0),), emission=2.0)
    residual, size = column_budget(budget, variables, GRID).of_rows(x, y)
    emitted = 2.0 * SPEEDY.stefan_boltzmann * 300.0**4
    flux = y[:, offsets(variables.targets, LEVELS)["sensible_heat_flux"]][:, 0].astype(np.float64)
    np.testing.assert_allclose(residual, emitted - flux, rtol=1e-9)
    np.testing.assert_allclose(size, emitted + np.abs(flux), rtol=1e-9)


def test_float64_throughout():
    variables = variable_set("speedy")
    found = column_budget(find_budget("energy", variables), variables, GRID)
    assert found.profile_factor.dtype == torch.float64
    assert found.state_dict() == {}
