"""What an emulator's answers must respect: declared, switchable, and counted.

A constraint names the variables that it needs and is refused where a variable set lacks one. It maps raw inputs and
raw outputs to raw outputs, and counts what it did in each column, which coupled runs write with their results.
"""

from __future__ import annotations

from subgrid.columns.variables import VariableSet
from subgrid.emulator.budgets import find_budget
from subgrid.emulator.config import CLOSURES, EmulatorConfig
from subgrid.emulator.constraints.base import Constraint
from subgrid.emulator.constraints.closure import Closure
from subgrid.emulator.constraints.safeguards import LIMITS, Night, RateLimit, Top, Tropopause
from subgrid.emulator.constraints.water import Condense, PositiveWater, WaterByPrecipitation
from subgrid.emulator.features import InputFeatures
from subgrid.emulator.transforms import Standardise

__all__ = ["Constraint", "build_constraints"]


def build_constraints(
    config: EmulatorConfig,
    variables: VariableSet,
    features: InputFeatures,
    outputs: Standardise,
    time_step: float,
) -> list[Constraint]:
    """The constraints that ``config`` asks for, in the order in which they act.

    Raises:
        UsageError: the variable set lacks what one of them needs.
    """
    found: list[Constraint] = []
    if config.water in CLOSURES:
        found.append(Closure(find_budget("water", variables), config.water, features, variables, outputs))
    if config.condense:
        found.append(Condense(features, variables, config))
    if config.tropopause > 0:
        found.append(Tropopause(config.tropopause, features, variables))
    if config.top > 0:
        found.append(Top(config.top, features, variables))
    found += [RateLimit(name, getattr(config, name), features, variables) for name in LIMITS if getattr(config, name)]
    if config.positive_water:
        found.append(PositiveWater(features, variables, time_step))
        if config.water in CLOSURES:  # what the bound adds is taken from the fluxes
            found.append(Closure(find_budget("water", variables), "fluxes", features, variables, outputs))
    if config.water == "precipitation":
        found.append(WaterByPrecipitation(features, variables))
    if config.night:
        found.append(Night(features, variables))
    if config.energy in CLOSURES:  # last: it takes precipitation as it is
        found.append(Closure(find_budget("energy", variables), config.energy, features, variables, outputs))
    return found
