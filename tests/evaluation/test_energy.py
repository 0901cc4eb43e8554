"""Outputs as W/m2: by hand, and what the inputs must hold."""

import numpy as np

from subgrid.columns.variables import offsets, variable_set
from subgrid.evaluation.energy import air_mass, energy_factors, has_wind
from subgrid.physics.vertical import VerticalGrid


def test_air_mass_comes_from_each_columns_own_pressure():
    variables = variable_set("v1")
    x = np.zeros((2, 2 * 4 + 4), np.float32)
    x[:, offsets(variables.inputs, 4)["state_ps"]] = [[1e5], [8e4]]
    mass = air_mass(variables, x, VerticalGrid.sigma([0.0, 0.25, 0.5, 0.75, 1.0]))
    np.testing.assert_allclose(mass, [[2.5e4 / 9.80616] * 4, [2e4 / 9.80616] * 4], rtol=1e-12)


def test_a_given_speed_weighs_both_winds():
    variables = variable_set("v2")
    speed = np.array([[1.0, 2.0, 3.0, 4.0]])
    factor = energy_factors(variables, np.zeros((1, 9 * 4 + 17), np.float32), np.full((1, 4), 10.0), speed)
    place = offsets(variables.targets, 4)
    for name in ("ptend_u", "ptend_v"):
        np.testing.assert_array_equal(factor[:, place[name]], 10.0 * speed)
    assert has_wind(variables) and not has_wind(variable_set("v1"))
