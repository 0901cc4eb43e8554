"""From raw SI columns to the features that a network reads: humidity relative to saturation, plume buoyancy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from subgrid.base.errors import UsageError
from subgrid.columns.variables import VariableSet, profiles, scalars
from subgrid.physics.column import layer_mass
from subgrid.physics.moisture import relative_humidity, saturation_specific_humidity
from subgrid.physics.vertical import VerticalGrid, hydrostatic_geopotential

#: Relative humidity is read up to here. Supersaturation is common in a spectral host's cold upper levels (SPEEDY at
#: T21: 14 % of points near 200 hPa are above 1.02), and its condensation grows with it.
RELATIVE_HUMIDITY_CEILING = 2.5
#: Buoyancy is read between these bounds, K: far below the parcel nothing depends on it.
BUOYANCY_BOUNDS = (-40.0, 40.0)


class InputFeatures(nn.Module):
    """Replaces and adds profiles of a column; scalars pass unchanged.

    ``raw`` changes nothing. ``relative_humidity`` puts q / q_sat(T, p), clipped to [0, 2.5], in the place of
    specific humidity. ``relative_humidity_buoyancy`` also appends the plume buoyancy
    ``(h_lowest - h*_k) / cp``: the moist static energy of the lowest level minus the saturation moist static
    energy of level k, in K (Beucler et al. 2024, "Climate-invariant machine learning"; undilute plume).

    Args:
        kind: one of the names above.
        variables: needs the quantities ``temperature``, ``specific_humidity`` and ``surface_pressure`` unless ``raw``.
        grid: vertical grid.
        saturation: saturation formula.

    Raises:
        UsageError: the variable set lacks a variable that the features need.
    """

    def __init__(self, kind: str, variables: VariableSet, grid: VerticalGrid, saturation: str) -> None:
        super().__init__()
        self.kind, self.grid, self.saturation = kind, grid, saturation
        self.physics = variables.physics
        self.profile_names = [v.quantity for v in profiles(variables.inputs)]
        self.scalar_names = [v.quantity for v in scalars(variables.inputs)]
        needed = [] if kind == "raw" else ["temperature", "specific_humidity", "surface_pressure"]
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
        """One raw profile by its quantity, (n, level)."""
        return profile_values[:, :, self.profile_names.index(name)]

    def scalar(self, scalar_values: Tensor, name: str) -> Tensor:
        """One raw scalar by its quantity, (n,)."""
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
            found.append(self._buoyancy(t, q, ps, pressure))
        return torch.stack(found, dim=2), scalar_values

    def _buoyancy(self, t: Tensor, q: Tensor, ps: Tensor, pressure: Tensor) -> Tensor:
        """Summed from differences, which float32 keeps: each energy alone rounds to 3e-5 K, a tenth of a percent of
        what the network resolves near the onset of convection."""
        height = hydrostatic_geopotential(t, q, ps, torch.zeros_like(ps), self.grid, self.physics) / self.physics.cp
        saturated = saturation_specific_humidity(t, pressure, self.saturation)  # type: ignore[arg-type]
        warmer = (t[:, -1:] - t) + (height[:, -1:] - height)
        return torch.clamp(warmer + (self.physics.Lv / self.physics.cp) * (q[:, -1:] - saturated), *BUOYANCY_BOUNDS)

    def mass(self, scalar_values: Tensor) -> Tensor:
        """Mass of each layer, (n, level), kg/m2."""
        thickness = self.grid.layer_thickness(self.scalar(scalar_values, "surface_pressure"))
        mass: Tensor = layer_mass(thickness, self.physics.gravity)
        return mass
