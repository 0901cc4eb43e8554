"""From raw SI columns to the features that a network reads: humidity relative to saturation, plume buoyancy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from subgrid.base.errors import UsageError
from subgrid.columns.variables import VariableSet, profiles, scalars
from subgrid.physics.column import layer_mass
from subgrid.physics.constants import SPEEDY
from subgrid.physics.moisture import moist_static_energy, relative_humidity, saturation_moist_static_energy
from subgrid.physics.vertical import VerticalGrid, hydrostatic_geopotential

#: Relative humidity is read up to here; beyond it a column is off any training data anyway.
RELATIVE_HUMIDITY_CEILING = 1.5
#: Buoyancy is read between these bounds, K: far below the parcel nothing depends on it.
BUOYANCY_BOUNDS = (-40.0, 40.0)


class InputFeatures(nn.Module):
    """Replaces and adds profiles of a column; scalars pass unchanged.

    ``raw`` changes nothing. ``relative_humidity`` puts q / q_sat(T, p), clipped to [0, 1.5], in the place of
    specific humidity. ``relative_humidity_buoyancy`` also appends the plume buoyancy
    ``(h_lowest - h*_k) / cp``: the moist static energy of the lowest level minus the saturation moist static
    energy of level k, in K (Beucler et al. 2024, "Climate-invariant machine learning"; undilute plume).

    Args:
        kind: one of the names above.
        variables: needs ``temperature``, ``specific_humidity``, ``surface_pressure`` (and
            ``surface_geopotential`` for the buoyancy) unless ``raw``.
        grid: vertical grid.
        saturation: saturation formula.

    Raises:
        UsageError: the variable set lacks a variable that the features need.
    """

    def __init__(self, kind: str, variables: VariableSet, grid: VerticalGrid, saturation: str) -> None:
        super().__init__()
        self.kind, self.grid, self.saturation = kind, grid, saturation
        self.profile_names = [v.name for v in profiles(variables.inputs)]
        self.scalar_names = [v.name for v in scalars(variables.inputs)]
        needed = [] if kind == "raw" else ["temperature", "specific_humidity", "surface_pressure"]
        needed += ["surface_geopotential"] if kind == "relative_humidity_buoyancy" else []
        missing = [n for n in needed if n not in self.profile_names + self.scalar_names]
        if missing:
            raise UsageError(
                f"emulator.inputs={kind} needs {', '.join(missing)}, which variable set '{variables.name}' lacks"
            )
        self.names = [
            "relative_humidity" if kind != "raw" and n == "specific_humidity" else n for n in self.profile_names
        ]
        if kind == "relative_humidity_buoyancy":
            self.names.append("plume_buoyancy")

    def profile(self, profile_values: Tensor, name: str) -> Tensor:
        """One raw profile, (n, level)."""
        return profile_values[:, :, self.profile_names.index(name)]

    def scalar(self, scalar_values: Tensor, name: str) -> Tensor:
        """One raw scalar, (n,)."""
        return scalar_values[:, self.scalar_names.index(name)]

    def forward(self, profile_values: Tensor, scalar_values: Tensor) -> tuple[Tensor, Tensor]:
        """(n, level, P) and (n, S) raw SI -> (n, level, P') and (n, S) features."""
        if self.kind == "raw":
            return profile_values, scalar_values
        t = self.profile(profile_values, "temperature")
        q = self.profile(profile_values, "specific_humidity")
        ps = self.scalar(scalar_values, "surface_pressure")
        pressure = self.grid.mid_pressure(ps)
        humidity = relative_humidity(q, t, pressure, self.saturation)  # type: ignore[arg-type]
        humidity = torch.clamp(humidity, 0.0, RELATIVE_HUMIDITY_CEILING)
        found = [
            humidity if name == "specific_humidity" else profile_values[:, :, i]
            for i, name in enumerate(self.profile_names)
        ]
        if self.kind == "relative_humidity_buoyancy":
            found.append(self._buoyancy(t, q, ps, pressure, self.scalar(scalar_values, "surface_geopotential")))
        return torch.stack(found, dim=2), scalar_values

    def _buoyancy(self, t: Tensor, q: Tensor, ps: Tensor, pressure: Tensor, phis: Tensor) -> Tensor:
        height = hydrostatic_geopotential(t, q, ps, phis, self.grid, SPEEDY)
        parcel = moist_static_energy(t[:, -1:], q[:, -1:], height[:, -1:], SPEEDY)
        saturated = saturation_moist_static_energy(t, pressure, height, SPEEDY, self.saturation)  # type: ignore[arg-type]
        return torch.clamp((parcel - saturated) / SPEEDY.cp, *BUOYANCY_BOUNDS)

    def mass(self, scalar_values: Tensor) -> Tensor:
        """Mass of each layer, (n, level), kg/m2."""
        thickness = self.grid.layer_thickness(self.scalar(scalar_values, "surface_pressure"))
        mass: Tensor = layer_mass(thickness, SPEEDY.gravity)
        return mass
