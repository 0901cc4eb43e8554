"""What an emulator's tendencies must respect: declared, switchable, and counted.

A constraint names the variables that it needs and is refused where a variable set lacks one. It maps raw inputs and
raw outputs to raw outputs plus one counter per column, which coupled runs average into their results.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from subgrid.base.errors import UsageError
from subgrid.columns.variables import VariableSet, profiles, scalars
from subgrid.emulator.budgets import Budget, ColumnBudget, find_budget
from subgrid.emulator.config import CLOSURES, EmulatorConfig
from subgrid.emulator.features import InputFeatures
from subgrid.emulator.transforms import Standardise
from subgrid.physics.moisture import saturation_specific_humidity

Outputs = tuple[Tensor, Tensor]
#: Room for three roundings, 2^-24 each: of the bound's factor, of its product with q, of the host's product with dt.
MARGIN = 2.0**-22
#: A layer with less water counts as dry, kg/kg: float32 loses digits in such products.
DRY = 1e-30


class Constraint(nn.Module):
    """Base: looks up the places of the variables that it needs.

    Attributes:
        counter: name of what :meth:`forward` counts.
        needs_inputs, needs_targets: variables without which it cannot work.
    """

    counter = ""
    needs_inputs: tuple[str, ...] = ()
    needs_targets: tuple[str, ...] = ()

    def __init__(self, features: InputFeatures, variables: VariableSet) -> None:
        super().__init__()
        self.features = features
        self.target_profiles = [v.quantity for v in profiles(variables.targets)]
        self.target_scalars = [v.quantity for v in scalars(variables.targets)]
        held = {v.quantity for v in (*variables.inputs, *variables.targets)}
        missing = [n for n in (*self.needs_inputs, *self.needs_targets) if n not in held]
        if missing:
            raise UsageError(
                f"constraint '{self.counter}' needs {', '.join(missing)}, which variable set '{variables.name}' "
                "lacks: switch it off or choose another set"
            )

    def _replace_profile(self, out: Tensor, name: str, values: Tensor) -> Tensor:
        k = self.target_profiles.index(name)
        return torch.cat([out[:, :, :k], values.unsqueeze(2), out[:, :, k + 1 :]], dim=2)

    def _replace_scalar(self, out: Tensor, name: str, values: Tensor) -> Tensor:
        k = self.target_scalars.index(name)
        return torch.cat([out[:, :k], values.unsqueeze(1), out[:, k + 1 :]], dim=1)

    def _tendency(self, out: Tensor, name: str) -> Tensor:
        return out[:, :, self.target_profiles.index(name)]

    def _flux(self, out: Tensor, name: str) -> Tensor:
        return out[:, self.target_scalars.index(name)]


class Condense(Constraint):
    """Condenses humidity above ``condense_above`` q_sat within ``condense_hours``: dries and heats the layer, rains.

    ``C = max(q - r q_sat, 0) / tau``; ``dq -= C``, ``dT += Lv C / cp``, large-scale precipitation += column sum.
    Counter: condensed water, kg/m2/s.
    """

    counter = "condensed_water"
    needs_inputs = ("temperature", "specific_humidity", "surface_pressure")
    needs_targets = ("temperature_tendency", "specific_humidity_tendency", "large_scale_precipitation")

    def __init__(self, features: InputFeatures, variables: VariableSet, config: EmulatorConfig) -> None:
        super().__init__(features, variables)
        self.above, self.rate = config.condense_above, 1.0 / (3600.0 * config.condense_hours)
        self.saturation = config.saturation

    def forward(self, p_in: Tensor, s_in: Tensor, p_out: Tensor, s_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raw inputs and outputs to raw outputs and the counter (n,)."""
        t = self.features.profile(p_in, "temperature")
        q = self.features.profile(p_in, "specific_humidity")
        pressure = self.features.grid.mid_pressure(self.features.scalar(s_in, "surface_pressure"))
        saturated = saturation_specific_humidity(t, pressure, self.saturation)  # type: ignore[arg-type]
        rate = torch.relu(q - self.above * saturated) * self.rate
        rain = (rate * self.features.mass(s_in)).sum(1)
        heating = (
            self._tendency(p_out, "temperature_tendency") + (self.features.physics.Lv / self.features.physics.cp) * rate
        )
        drying = self._tendency(p_out, "specific_humidity_tendency") - rate
        p_out = self._replace_profile(p_out, "temperature_tendency", heating)
        p_out = self._replace_profile(p_out, "specific_humidity_tendency", drying)
        falling = self._flux(s_out, "large_scale_precipitation") + rain
        return p_out, self._replace_scalar(s_out, "large_scale_precipitation", falling), rain


class PositiveWater(Constraint):
    """Bounds the loss of each water by what a layer holds: ``dq >= -max(q, 0) / dt`` less rounding; never creates any.

    The waters are humidity, and cloud liquid, cloud ice or their sum where the set has them both as input and as
    target. Counter: water added by the bound, kg/m2/s.
    """

    counter = "positive_water"
    needs_inputs = ("specific_humidity", "surface_pressure")
    needs_targets = ("specific_humidity_tendency",)

    def __init__(self, features: InputFeatures, variables: VariableSet, time_step: float) -> None:
        super().__init__(features, variables)
        self.time_step = time_step
        self.waters = [
            name
            for name in ("specific_humidity", "cloud_liquid", "cloud_ice", "cloud_water")
            if name in features.profile_names and f"{name}_tendency" in self.target_profiles
        ]

    def forward(self, p_in: Tensor, s_in: Tensor, p_out: Tensor, s_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raw inputs and outputs to raw outputs and the counter (n,)."""
        mass = self.features.mass(s_in)
        added = torch.zeros_like(mass[:, 0])
        for name in self.waters:
            q = torch.relu(self.features.profile(p_in, name) - DRY)
            tendency = self._tendency(p_out, f"{name}_tendency")
            bounded = torch.maximum(tendency, -q * ((1.0 - MARGIN) / self.time_step))
            added = added + ((bounded - tendency) * mass).sum(1)
            p_out = self._replace_profile(p_out, f"{name}_tendency", bounded)
        return p_out, s_out, added


class WaterByPrecipitation(Constraint):
    """Closes the column's water with precipitation: ``P = max(E - sum dq dp/g, 0)``, in the network's proportions.

    Counter: |change of precipitation|, kg/m2/s.
    """

    counter = "water_by_precipitation"
    needs_inputs = ("surface_pressure",)
    needs_targets = (
        "specific_humidity_tendency",
        "convective_precipitation",
        "large_scale_precipitation",
        "evaporation",
    )

    def forward(self, p_in: Tensor, s_in: Tensor, p_out: Tensor, s_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raw inputs and outputs to raw outputs and the counter (n,)."""
        moistening = (self._tendency(p_out, "specific_humidity_tendency") * self.features.mass(s_in)).sum(1)
        total = torch.relu(self._flux(s_out, "evaporation") - moistening)
        convective = torch.relu(self._flux(s_out, "convective_precipitation"))
        stratiform = torch.relu(self._flux(s_out, "large_scale_precipitation"))
        share = convective / (convective + stratiform + 1e-12)
        change = (total - convective - stratiform).abs()
        s_out = self._replace_scalar(s_out, "convective_precipitation", share * total)
        return p_out, self._replace_scalar(s_out, "large_scale_precipitation", (1.0 - share) * total), change


class Closure(Constraint):
    """Closes a budget by changing outputs, each in proportion to ``factor x room``.

    With residual ``r = sum_i a_i y_i + given`` every output that may move is changed by
    ``-a_i w_i r / sum_j a_j^2 w_j``. Kind ``projection``: w are the outputs' variances, which makes the change the
    smallest in units of their spreads (orthogonal projection; Beucler et al. 2021, "Enforcing analytic constraints in
    neural networks"). Kind ``level``: w is 1 for one tendency on one level, that whose spread is worth most in the
    budget, and 0 for all others (the residual layer of the same paper). Kind ``fluxes``: as projection, of fluxes
    alone. Done twice, since the first pass leaves the rounding of a residual that may be larger than what remains.
    Counter: |r| before.

    Args:
        budget: what is closed.
        kind: one of :data:`CLOSURES` or ``fluxes``.
        outputs: holds the spreads.
    """

    def __init__(
        self, budget: Budget, kind: str, features: InputFeatures, variables: VariableSet, outputs: Standardise
    ) -> None:
        super().__init__(features, variables)
        self.counter = f"{budget.name}_by_{kind}"
        self.kind, self.budget = kind, ColumnBudget(budget, features, variables)
        # Kept in a tuple so that the transform is not registered (and saved) twice.
        self._outputs = (outputs,)

    def forward(self, p_in: Tensor, s_in: Tensor, p_out: Tensor, s_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raw inputs and outputs to raw outputs and the counter (n,)."""
        room_p, room_s = self._room()
        p_out, s_out, residual = self._close(room_p, room_s, p_in, s_in, p_out, s_out)
        p_out, s_out, _ = self._close(room_p, room_s, p_in, s_in, p_out, s_out)
        return p_out, s_out, residual.abs()

    def _room(self) -> tuple[Tensor, Tensor]:
        """The weights w, (level, P) and (S,)."""
        spread_p = cast(Tensor, self._outputs[0].profile_std)
        spread_s = cast(Tensor, self._outputs[0].scalar_std)
        moves_p = cast(Tensor, self.budget.profile_moves).to(spread_p.dtype)
        moves_s = cast(Tensor, self.budget.scalar_moves).to(spread_s.dtype)
        if self.kind == "level":
            grid = self.features.grid
            thickness = torch.as_tensor(np.diff(np.add(grid.hyai, grid.hybi))).to(spread_p)
            worth = thickness[:, None] * spread_p * moves_p * cast(Tensor, self.budget.profile_factor).to(spread_p)
            return (worth == worth.max()).to(spread_p.dtype), torch.zeros_like(spread_s)
        room_p = torch.zeros_like(spread_p) if self.kind == "fluxes" else spread_p.square() * moves_p
        return room_p, spread_s.square() * moves_s

    def _close(
        self, room_p: Tensor, room_s: Tensor, p_in: Tensor, s_in: Tensor, p_out: Tensor, s_out: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Closed outputs and the residual before, (n,)."""
        residual, _ = self.budget(p_in, s_in, p_out, s_out)
        factor_p, factor_s = self.budget.factors(s_in)
        size = (factor_p.square() * room_p).sum((1, 2)) + (factor_s.square() * room_s).sum()
        step = (residual / torch.clamp(size, min=1e-30)).unsqueeze(1)
        return p_out - factor_p * room_p * step.unsqueeze(2), s_out - factor_s * room_s * step, residual


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
    if config.positive_water:
        found.append(PositiveWater(features, variables, time_step))
        if config.water in CLOSURES:  # what the bound adds is taken from the fluxes
            found.append(Closure(find_budget("water", variables), "fluxes", features, variables, outputs))
    if config.water == "precipitation":
        found.append(WaterByPrecipitation(features, variables))
    if config.energy in CLOSURES:  # last: it takes precipitation as it is
        found.append(Closure(find_budget("energy", variables), config.energy, features, variables, outputs))
    return found
