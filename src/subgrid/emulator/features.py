"""From raw SI columns to the features that a network reads: relative humidity, buoyancy, the fifth place's profiles."""

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
#: What each kind of features is made of.
_HUMIDITY = ("temperature", "specific_humidity", "surface_pressure")
_STATE = ("temperature", "specific_humidity", "cloud_liquid", "cloud_ice", "u_wind", "v_wind")
_GASES = ("pbuf_ozone", "pbuf_CH4", "pbuf_N2O")
HUMID = ("relative_humidity", "relative_humidity_buoyancy", "climate_invariant")
#: The plume's buoyancy as an acceleration is read between these bounds, m/s2: as many K as above.
ACCELERATION_BOUNDS = (-1.2, 0.3)
#: Least saturation deficit that a latent heat flux is divided by, kg/kg.
LEAST_DEFICIT = 1e-4
#: Latent heat fluxes among the inputs, W/m2, which ``climate_invariant`` scales by the saturation deficit.
_LATENT = ("pbuf_LHFLX", "tm_pbuf_LHFLX")
#: Temperatures of surfaces among the inputs, which it reads as differences to the air above them.
_SURFACES = ("sea_surface_temperature", "land_surface_temperature")
NEEDED = {
    "raw": (),
    "relative_humidity": _HUMIDITY,
    "relative_humidity_buoyancy": _HUMIDITY,
    "climate_invariant": _HUMIDITY,
    "fifth_place": (*_STATE, *_GASES),
}
#: The profiles of the fifth place in their order, as it named them.
ENGINEERED = (
    "temp_diff1",
    "temp_diff2",
    "wind_diff1",
    "wind_diff2",
    "temp_humid",
    "air_total",
    "moisture",
    "liq_partition",
    "imbalance",
)


class InputFeatures(nn.Module):
    """Replaces and adds profiles of a column; scalars pass unchanged.

    ``raw`` changes nothing. ``relative_humidity`` puts q / q_sat(T, p), clipped to [0, 2.5], in the place of
    specific humidity. ``relative_humidity_buoyancy`` also appends the plume buoyancy
    ``(h_lowest - h*_k) / cp``: the moist static energy of the lowest level minus the saturation moist static
    energy of level k, in K (Beucler et al. 2024, "Climate-invariant machine learning"; undilute plume).
    ``climate_invariant`` reads nothing that a warmer climate carries out of the range of a colder one: relative
    humidity; in place of temperature the plume's buoyancy ``g (h_lowest - h*_k) / (kappa cp T_k)`` with
    ``kappa = 1 + Lv^2 q_sat / (Rv cp T^2)``, m/s2; in place of a latent heat flux LHF among the inputs
    ``LHF / (Lv max(q_sat - q, 1e-4))`` with the deficit of the lowest level, kg/m2/s (all three as in that paper); and
    in place of the temperature of a surface its difference to the lowest level's.
    ``fifth_place`` appends the nine profiles of :func:`engineered_profiles` to the variables as they are.

    Args:
        kind: one of the names above.
        variables: needs the quantities that :data:`NEEDED` lists.
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
        missing = [n for n in NEEDED[kind] if n not in self.profile_names + self.scalar_names]
        if missing:
            raise UsageError(
                f"emulator.inputs={kind} needs {', '.join(missing)}, which variable set '{variables.name}' lacks"
            )
        replaced = {"specific_humidity": "relative_humidity"} if kind in HUMID else {}
        if kind == "climate_invariant":
            replaced["temperature"] = "plume_acceleration"
        self.names = [replaced.get(n, n) for n in self.profile_names]
        if kind == "fifth_place":
            self.names += ENGINEERED
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
        if self.kind == "fifth_place":
            named = {name: self.profile(profile_values, name) for name in NEEDED[self.kind]}
            return torch.cat([profile_values, engineered_profiles(named)], dim=2), scalar_values
        t = self.profile(profile_values, "temperature")
        q = self.profile(profile_values, "specific_humidity")
        ps = self.scalar(scalar_values, "surface_pressure")
        pressure = self.grid.mid_pressure(ps)
        humidity = relative_humidity(q, t, pressure, self.saturation)  # type: ignore[arg-type]
        humidity = torch.clamp(humidity, 0.0, RELATIVE_HUMIDITY_CEILING)
        made = {"specific_humidity": humidity}
        if self.kind == "climate_invariant":
            saturated = saturation_specific_humidity(t, pressure, self.saturation)  # type: ignore[arg-type]
            made["temperature"] = self._acceleration(t, q, ps, saturated)
            scalar_values = self._invariant_scalars(scalar_values, t[:, -1], (saturated - q)[:, -1])
        found = [made.get(name, profile_values[:, :, i]) for i, name in enumerate(self.profile_names)]
        if self.kind == "relative_humidity_buoyancy":
            saturated = saturation_specific_humidity(t, pressure, self.saturation)  # type: ignore[arg-type]
            found.append(torch.clamp(self._buoyancy(t, q, ps, saturated), *BUOYANCY_BOUNDS))
        return torch.stack(found, dim=2), scalar_values

    def _buoyancy(self, t: Tensor, q: Tensor, ps: Tensor, saturated: Tensor) -> Tensor:
        """Summed from differences, which float32 keeps: each energy alone rounds to 3e-5 K, a tenth of a percent of
        what the network resolves near the onset of convection."""
        height = hydrostatic_geopotential(t, q, ps, torch.zeros_like(ps), self.grid, self.physics) / self.physics.cp
        warmer = (t[:, -1:] - t) + (height[:, -1:] - height)
        return warmer + (self.physics.Lv / self.physics.cp) * (q[:, -1:] - saturated)

    def _acceleration(self, t: Tensor, q: Tensor, ps: Tensor, saturated: Tensor) -> Tensor:
        """Buoyancy of a saturated plume, m/s2: what it is warmer than the column, after condensation has warmed it."""
        physics = self.physics
        kappa = 1.0 + physics.Lv**2 * saturated / (physics.Rv * physics.cp * t.square())
        return torch.clamp(physics.gravity * self._buoyancy(t, q, ps, saturated) / (kappa * t), *ACCELERATION_BOUNDS)

    def _invariant_scalars(self, scalar_values: Tensor, t: Tensor, deficit: Tensor) -> Tensor:
        """Scalars: latent heat fluxes over the deficit (n,), surfaces relative to the air at ``t`` (n,)."""
        deficit = torch.clamp(deficit, min=LEAST_DEFICIT)
        found = []
        for i, name in enumerate(self.scalar_names):
            value = scalar_values[:, i]
            if name in _LATENT:
                value = value / (self.physics.Lv * deficit)
            found.append(value - t if name in _SURFACES else value)
        return torch.stack(found, dim=1)

    def mass(self, scalar_values: Tensor) -> Tensor:
        """Mass of each layer, (n, level), kg/m2."""
        thickness = self.grid.layer_thickness(self.scalar(scalar_values, "surface_pressure"))
        mass: Tensor = layer_mass(thickness, self.physics.gravity)
        return mass


def engineered_profiles(column: dict[str, Tensor]) -> Tensor:
    """Nine profiles of the fifth place of ClimSim's Kaggle competition, (n, level, 9) in the order of ENGINEERED.

    Differences to the level below of T, q, u and v; T/q; O3 + CH4 + N2O; q^2 (u^2 + v^2); ql/(ql + qi); and
    (ql - qi)/(ql + qi). The lowest level has none below: its differences are 0 (the published code took the top of the
    next variable). What is not finite is 0, where it made infinities the largest number.

    Args:
        column: raw SI profiles (n, level) by quantity, those that :data:`NEEDED` lists.
    """
    t, q, liquid, ice, u, v = (column[name] for name in _STATE)
    gases = column["pbuf_ozone"] + column["pbuf_CH4"] + column["pbuf_N2O"]
    found = [_to_below(t), _to_below(q), _to_below(u), _to_below(v), t / q, gases]
    found += [q.square() * (u.square() + v.square()), liquid / (liquid + ice), (liquid - ice) / (liquid + ice)]
    made = torch.stack(found, dim=2)
    return torch.where(torch.isfinite(made), made, torch.zeros_like(made))


def _to_below(values: Tensor) -> Tensor:
    """x[i] - x[i+1], and 0 on the lowest level."""
    return torch.cat([values[:, :-1] - values[:, 1:], torch.zeros_like(values[:, -1:])], dim=1)
