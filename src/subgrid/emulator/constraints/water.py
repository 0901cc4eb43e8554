"""Constraints on water: condensation of what exceeds saturation, no loss of what is not there, closure by rain."""

from __future__ import annotations

import torch
from torch import Tensor

from subgrid.columns.variables import VariableSet
from subgrid.emulator.config import EmulatorConfig
from subgrid.emulator.constraints.base import Constraint
from subgrid.emulator.features import InputFeatures
from subgrid.physics.moisture import saturation_specific_humidity

#: Room for three roundings, 2^-24 each: of the bound's factor, of its product with q, of the host's product with dt.
MARGIN = 2.0**-22
#: A layer with less water counts as dry, kg/kg: float32 loses digits in such products.
DRY = 1e-30
#: Names of waters, where a set has them.
WATERS = ("specific_humidity", "cloud_liquid", "cloud_ice", "cloud_water")


class Condense(Constraint):
    """Condenses humidity above ``condense_above`` q_sat within ``condense_hours``: dries and heats the layer, rains.

    ``C = max(q - r q_sat, 0) / tau``; ``dq -= C``, ``dT += Lv C / cp``, large-scale precipitation += column sum.
    Counter: condensed water of each layer.
    """

    counter, units, per_level = "condensed_water", "kg/m2/s", True
    needs_inputs = ("temperature", "specific_humidity", "surface_pressure")
    needs_targets = ("temperature_tendency", "specific_humidity_tendency", "large_scale_precipitation")

    def __init__(self, features: InputFeatures, variables: VariableSet, config: EmulatorConfig) -> None:
        super().__init__(features, variables)
        self.above, self.rate = config.condense_above, 1.0 / (3600.0 * config.condense_hours)
        self.does = (
            f"humidity above {config.condense_above:g} of saturation rains out within {config.condense_hours:g} h"
        )
        self.saturation = config.saturation

    def forward(self, p_in: Tensor, s_in: Tensor, p_out: Tensor, s_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raw inputs and outputs to raw outputs and the counter (n, level)."""
        t = self.features.profile(p_in, "temperature")
        q = self.features.profile(p_in, "specific_humidity")
        pressure = self.features.grid.mid_pressure(self.features.scalar(s_in, "surface_pressure"))
        saturated = saturation_specific_humidity(t, pressure, self.saturation)  # type: ignore[arg-type]
        rate = torch.relu(q - self.above * saturated) * self.rate
        condensed = rate * self.features.mass(s_in)
        heating = (
            self._tendency(p_out, "temperature_tendency") + (self.features.physics.Lv / self.features.physics.cp) * rate
        )
        drying = self._tendency(p_out, "specific_humidity_tendency") - rate
        p_out = self._replace_profile(p_out, "temperature_tendency", heating)
        p_out = self._replace_profile(p_out, "specific_humidity_tendency", drying)
        falling = self._flux(s_out, "large_scale_precipitation") + condensed.sum(1)
        return p_out, self._replace_scalar(s_out, "large_scale_precipitation", falling), condensed


class PositiveWater(Constraint):
    """Bounds the loss of each water by what a layer holds: ``dq >= -max(q, 0) / dt`` less rounding; never creates any.

    The waters are humidity, and cloud liquid, cloud ice or their sum where the set has them both as input and as
    target. Counter: water added to each layer by the bound.
    """

    does = "the loss of each water bounded by what a layer holds"
    counter, units, per_level = "positive_water", "kg/m2/s", True
    needs_inputs = ("specific_humidity", "surface_pressure")
    needs_targets = ("specific_humidity_tendency",)

    def __init__(self, features: InputFeatures, variables: VariableSet, time_step: float) -> None:
        super().__init__(features, variables)
        self.time_step = time_step
        self.waters = [
            name for name in WATERS if name in features.profile_names and f"{name}_tendency" in self.target_profiles
        ]

    def forward(self, p_in: Tensor, s_in: Tensor, p_out: Tensor, s_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raw inputs and outputs to raw outputs and the counter (n, level)."""
        mass = self.features.mass(s_in)
        added = torch.zeros_like(mass)
        for name in self.waters:
            q = torch.relu(self.features.profile(p_in, name) - DRY)
            tendency = self._tendency(p_out, f"{name}_tendency")
            bounded = torch.maximum(tendency, -q * ((1.0 - MARGIN) / self.time_step))
            added = added + (bounded - tendency) * mass
            p_out = self._replace_profile(p_out, f"{name}_tendency", bounded)
        return p_out, s_out, added


class WaterByPrecipitation(Constraint):
    """Closes the column's water with precipitation: ``P = max(E - sum dq dp/g, 0)``, in the network's proportions.

    Counter: |change of precipitation|.
    """

    does = "closes the column's water with precipitation"
    counter, units = "water_by_precipitation", "kg/m2/s"
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
