"""Outputs as energy in W/m2: the factor of each output channel, from the columns' own pressure and wind."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.columns.variables import VariableSet, offsets, quantities
from subgrid.physics.column import layer_mass, wind_speed
from subgrid.physics.vertical import VerticalGrid

Floats = NDArray[np.float64]
WIND = ("u_wind", "v_wind")
#: Surface pressure of columns that have none, Pa.
REFERENCE_PRESSURE = 1e5


def air_mass(variables: VariableSet, x: NDArray[np.float32], vertical: VerticalGrid) -> Floats:
    """Mass of air of each layer, kg m-2, (n, level), from the surface pressure among raw columns ``x`` (n, n_in).

    On a host without pressure every column is alike, with :data:`REFERENCE_PRESSURE` at its end.
    """
    place = quantities(variables.inputs, vertical.n_levels)
    if "surface_pressure" in place:
        pressure = x[:, place["surface_pressure"].start].astype(np.float64)
    else:
        pressure = np.full(len(x), REFERENCE_PRESSURE)
    thickness = vertical.layer_thickness(pressure)
    return np.asarray(layer_mass(thickness, variables.physics.gravity))


def has_wind(variables: VariableSet) -> bool:
    """Whether the inputs hold the wind that weighs wind tendencies."""
    return {v.quantity for v in variables.inputs}.issuperset(WIND)


def energy_factors(variables: VariableSet, x: NDArray[np.float32], mass: Floats, speed: Floats | None = None) -> Floats:
    """What turns each output channel of raw columns ``x`` (n, n_in) into W/m2, (n, channel).

    ``cp m`` for heating, ``Lv m`` for moistening and for each kind of cloud water, ``Lv`` or ``Lv rho_water`` for
    precipitation, the speed of the input wind times ``m`` for its tendencies (prediction and truth share one weight),
    1 for fluxes; m is each layer's mass.

    Args:
        variables: inputs and targets.
        x: raw columns.
        mass: see :func:`air_mass`.
        speed: of the wind, m s-1, (n, level), where the inputs do not hold it.
    """
    physics, levels = variables.physics, mass.shape[1]
    by_energy: dict[str, Any] = {
        "temperature": physics.cp * mass,
        "water": physics.Lv * mass,
        "water_depth": physics.Lv * physics.rho_water,
    }
    if any(v.energy == "wind" for v in variables.targets):
        if speed is None:
            place = quantities(variables.inputs, levels)
            u, v = (x[:, place[name]].astype(np.float64) for name in WIND)
            speed = np.asarray(wind_speed(u, v))
        by_energy["wind"] = speed * mass
    place = offsets(variables.targets, levels)
    factor = np.ones((len(mass), sum(v.width(levels) for v in variables.targets)))
    for variable in variables.targets:
        if variable.kind == "scalar" and variable.energy == "water":
            factor[:, place[variable.name]] = physics.Lv
        elif variable.energy in by_energy:
            factor[:, place[variable.name]] = by_energy[variable.energy]
    return factor
