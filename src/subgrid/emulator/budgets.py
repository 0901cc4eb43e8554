"""Budgets of a column: which terms an emulator's outputs and inputs must sum to zero with, declared host by host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from subgrid.base.errors import UsageError
from subgrid.columns.variables import VariableSet, profiles, scalars
from subgrid.emulator.features import InputFeatures
from subgrid.emulator.flat import unflatten
from subgrid.physics.constants import E3SM, SPEEDY, Constants
from subgrid.physics.vertical import VerticalGrid

NAMES = ("energy", "water")


@dataclass(frozen=True)
class Term:
    """One term of a budget.

    Args:
        quantity: what it is, among the targets or else among the inputs.
        factor: what a unit of it counts; of a profile per kg/m2 of its layer.
        moves: whether a closure may change it; only targets ever are.
    """

    quantity: str
    factor: float
    moves: bool = True


@dataclass(frozen=True)
class Budget:
    """A sum over a column that vanishes.

    Args:
        name: ``energy`` (W/m2) or ``water`` (kg/m2/s).
        terms: tendencies (times the mass of their layers) and fluxes.
        emission: factor of the black-body emission of the lowest layer, sigma T^4, where it enters.
    """

    name: str
    terms: tuple[Term, ...]
    emission: float = 0.0

    @property
    def units(self) -> str:
        """Of the residual."""
        return {"energy": "W/m2", "water": "kg/m2/s"}[self.name]


#: jcm 3.0 closes every process of SPEEDY but longwave: what the surface does not absorb of the downward longwave,
#: 1 - emissivity, is lost, and the same share of the shortwave that leaves at the top goes up in its place
#: (`get_upward_longwave_rad_fluxes` reflects the fluxes that the shortwave scheme left in `mod_radcon.flux`). Both are
#: known from inputs and outputs, so they are terms of the budget.
_REFLECTED, _BLACK = 0.02, 0.05
_RADIATION = {
    "absorbed_solar": -1.0 + _REFLECTED,
    "insolation": -_REFLECTED,
    "surface_net_shortwave": 1.0,
    "surface_upward_longwave": -1.0,
    "surface_downward_longwave": 1.0 + _REFLECTED / (1.0 - _REFLECTED),
    "outgoing_longwave": 1.0,
    "sensible_heat_flux": -1.0,
}
_RAIN = ("convective_precipitation", "large_scale_precipitation")
_SPEEDY = (
    Budget(
        "energy",
        (
            Term("temperature_tendency", SPEEDY.cp),
            *(Term(name, factor) for name, factor in _RADIATION.items()),
            *(Term(name, -SPEEDY.Lv, moves=False) for name in _RAIN),
        ),
        emission=-_REFLECTED * _BLACK,
    ),
    Budget(
        "water",
        (
            Term("specific_humidity_tendency", 1.0),
            *(Term(name, 1.0) for name in _RAIN),
            Term("evaporation", -1.0),
        ),
    ),
)
_E3SM_CLOUD = (("cloud_liquid_tendency", "cloud_ice_tendency"), ("cloud_water_tendency",))
_E3SM = (
    Budget(
        "energy",
        (
            Term("temperature_tendency", E3SM.cp),
            Term("absorbed_solar", -1.0),
            Term("surface_net_shortwave", 1.0),
            Term("cam_in_LWUP", -1.0),
            Term("surface_downward_longwave", 1.0),
            Term("outgoing_longwave", 1.0),
            Term("pbuf_SHFLX", -1.0),
            Term("cam_out_PRECC", -E3SM.Lv * E3SM.rho_water, moves=False),
        ),
    ),
    *(
        Budget(
            "water",
            (
                Term("specific_humidity_tendency", 1.0),
                *(Term(name, 1.0) for name in cloud),
                Term("cam_out_PRECC", E3SM.rho_water),
                Term("pbuf_LHFLX", -1.0 / E3SM.Lv),
            ),
        )
        for cloud in _E3SM_CLOUD
    ),
)
#: Of the host `column`, which has the constants of E3SM: its column physics only moves heat, vapour and rain.
_COLUMN = (
    Budget(
        "energy",
        (Term("temperature_tendency", E3SM.cp), *(Term(name, -E3SM.Lv, moves=False) for name in _RAIN)),
    ),
    Budget("water", (Term("specific_humidity_tendency", 1.0), *(Term(name, 1.0) for name in _RAIN))),
)
#: Budgets of the columns of each host, by its constants. Of several of one name the first fits that lacks nothing.
BUDGETS: dict[Constants, tuple[Budget, ...]] = {SPEEDY: _SPEEDY, E3SM: (*_E3SM, *_COLUMN)}


def missing_terms(budget: Budget, variables: VariableSet) -> list[str]:
    """Quantities that ``budget`` has and ``variables`` lacks."""
    held = {v.quantity for v in (*variables.inputs, *variables.targets)}
    return [term.quantity for term in budget.terms if term.quantity not in held]


def find_budget(name: str, variables: VariableSet) -> Budget:
    """The budget ``name`` of the host of ``variables``.

    Raises:
        UsageError: the host has none, or ``variables`` lacks a term of it (named).
    """
    known = [budget for budget in BUDGETS.get(variables.physics, ()) if budget.name == name]
    if not known:
        raise UsageError(f"the host of variable set '{variables.name}' has no {name} budget: switch the constraint off")
    for budget in known:
        missing = missing_terms(budget, variables)
        if not missing:
            return budget
    raise UsageError(
        f"the {name} budget needs {', '.join(missing_terms(known[0], variables))}, which variable set "
        f"'{variables.name}' lacks: switch the constraint off or choose another set"
    )


def known_budgets(variables: VariableSet) -> list[Budget]:
    """Every budget of which ``variables`` has all terms."""
    known = BUDGETS.get(variables.physics, ())
    return [budget for budget in known if not missing_terms(budget, variables)]


def column_budget(budget: Budget, variables: VariableSet, grid: VerticalGrid) -> ColumnBudget:
    """``budget`` for columns of ``variables`` on ``grid``."""
    return ColumnBudget(budget, InputFeatures("raw", variables, grid, "murray"), variables)


class ColumnBudget(nn.Module):
    """The sum of a budget's terms, and how much each output counts in it.

    Args:
        budget: its terms are all in ``variables``.
        features: where inputs lie, and the mass of layers.
        variables: inputs and targets.
    """

    def __init__(self, budget: Budget, features: InputFeatures, variables: VariableSet) -> None:
        super().__init__()
        self.budget, self.features = budget, features
        groups = {
            "profile": [v.quantity for v in profiles(variables.targets)],
            "scalar": [v.quantity for v in scalars(variables.targets)],
        }
        outputs = {name for names in groups.values() for name in names}
        terms = {term.quantity: term for term in budget.terms}
        for kind, names in groups.items():
            found = [terms.get(name, Term(name, 0.0, moves=False)) for name in names]
            self._keep(f"{kind}_factor", [term.factor for term in found])
            self._keep(f"{kind}_moves", [float(term.moves) for term in found])
        given = [terms[name].factor if name in terms and name not in outputs else 0.0 for name in features.scalar_names]
        self._keep("given_factor", given)
        self.emission = budget.emission * variables.physics.stefan_boltzmann

    def _keep(self, name: str, values: list[float]) -> None:
        # Not saved: they belong to the host, not to the training.
        self.register_buffer(name, torch.tensor(values, dtype=torch.float64), persistent=False)

    def factors(self, s_in: Tensor) -> tuple[Tensor, Tensor]:
        """What a unit of each output counts, (n, level, P) and (S,)."""
        mass = self.features.mass(s_in)
        profile = cast(Tensor, self.profile_factor).to(mass.dtype)
        return mass.unsqueeze(2) * profile, cast(Tensor, self.scalar_factor).to(mass.dtype)

    def given(self, p_in: Tensor, s_in: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the terms that the inputs give, and of their sizes, (n,)."""
        terms = s_in * cast(Tensor, self.given_factor).to(s_in.dtype)
        total, size = terms.sum(1), terms.abs().sum(1)
        if self.emission:
            emitted = self.emission * self.features.profile(p_in, "temperature")[:, -1] ** 4
            total, size = total + emitted, size + emitted.abs()
        return total, size

    def forward(self, p_in: Tensor, s_in: Tensor, p_out: Tensor, s_out: Tensor) -> tuple[Tensor, Tensor]:
        """Raw inputs and outputs to the residual and the sum of the terms' sizes, both (n,)."""
        factor_p, factor_s = self.factors(s_in)
        given, given_size = self.given(p_in, s_in)
        p, s = factor_p * p_out, factor_s * s_out
        size = p.abs().sum((1, 2)) + s.abs().sum(1) + given_size
        return p.sum((1, 2)) + s.sum(1) + given, size

    def of_rows(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Residual and size of flat raw columns (n, n_in) and outputs (n, n_out), (n,) each, in float64."""
        levels = self.features.grid.n_levels
        inputs = unflatten(torch.from_numpy(x).double(), len(self.features.profile_names), levels)
        n_profiles = len(cast(Tensor, self.profile_factor))
        outputs = unflatten(torch.from_numpy(np.ascontiguousarray(y)).double(), n_profiles, levels)
        with torch.inference_mode():
            residual, size = self(*inputs, *outputs)
        return residual.numpy(), size.numpy()
