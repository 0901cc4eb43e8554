"""Safeguards of a coupled run: bounded rates, no sun at night, a dry stratosphere, a model top left to the dynamics."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from subgrid.columns.variables import VariableSet
from subgrid.emulator.constraints.base import Constraint
from subgrid.emulator.constraints.water import WATERS
from subgrid.emulator.features import InputFeatures
from subgrid.physics.vertical import hydrostatic_geopotential

DAY = 86400.0
#: Settings of :class:`EmulatorConfig` that bound rates: the tendencies of each, and what a unit of it is in SI.
LIMITS: dict[str, tuple[tuple[str, ...], float]] = {
    "limit_heating": (("temperature_tendency",), 1.0 / DAY),
    "limit_moistening": (("specific_humidity_tendency",), 1e-3 / DAY),
    "limit_acceleration": (("u_wind_tendency", "v_wind_tendency"), 1.0 / DAY),
}
_UNITS = {"temperature_tendency": "K/s", "specific_humidity_tendency": "kg/kg/s"}
#: Fluxes of sunlight, by quantity.
SOLAR = (
    "absorbed_solar",
    "surface_net_shortwave",
    "cam_out_SOLS",
    "cam_out_SOLL",
    "cam_out_SOLSD",
    "cam_out_SOLLD",
)
#: Less insolation than this is night, W/m2.
DARK = 1e-3
#: The tropopause is sought above this pressure, Pa.
LOWEST_TROPOPAUSE = 40000.0
#: Tendencies that have no part in a stratosphere, and at the top of a model.
_MOIST = tuple(f"{name}_tendency" for name in WATERS)
_TOP = (*_MOIST, "u_wind_tendency", "v_wind_tendency")


class RateLimit(Constraint):
    """Bounds tendencies on both sides: ``|y| <= most``. Counter: what is cut off on each level, summed over them.

    Args:
        name: a key of :data:`LIMITS`.
        most: in its units a day: K, g/kg or m/s.
    """

    per_level = True

    def __init__(self, name: str, most: float, features: InputFeatures, variables: VariableSet) -> None:
        self.counter, (self.needs_targets, unit) = name, LIMITS[name]
        self.units = _UNITS.get(self.needs_targets[0], "m/s2")
        super().__init__(features, variables)
        self.does = f"{' and '.join(self.needs_targets)} within ±{most * unit:.3g} {self.units}"
        self.most = most * unit

    def forward(self, p_in: Tensor, s_in: Tensor, p_out: Tensor, s_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raw inputs and outputs to raw outputs and the counter (n, level)."""
        cut = torch.zeros_like(p_in[:, :, 0])
        for name in self.needs_targets:
            tendency = self._tendency(p_out, name)
            bounded = torch.clamp(tendency, -self.most, self.most)
            cut = cut + (tendency - bounded).abs()
            p_out = self._replace_profile(p_out, name, bounded)
        return p_out, s_out, cut


class Night(Constraint):
    """No fluxes of sunlight where there is no insolation. Counter: what is taken away, summed over the fluxes."""

    does = "no fluxes of sunlight where there is no insolation"
    counter, units = "night", "W/m2"
    needs_inputs = ("insolation",)

    def __init__(self, features: InputFeatures, variables: VariableSet) -> None:
        super().__init__(features, variables)
        self.fluxes = [name for name in SOLAR if name in self.target_scalars]

    def forward(self, p_in: Tensor, s_in: Tensor, p_out: Tensor, s_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raw inputs and outputs to raw outputs and the counter (n,)."""
        sun = (self.features.scalar(s_in, "insolation") > DARK).to(s_out.dtype)
        taken = torch.zeros_like(sun)
        for name in self.fluxes:
            flux = self._flux(s_out, name)
            taken = taken + ((1.0 - sun) * flux).abs()
            s_out = self._replace_scalar(s_out, name, sun * flux)
        return p_out, s_out, taken


class Tropopause(Constraint):
    """No tendencies of water above the tropopause. Counter: |tendencies taken away| times mass, on each level.

    The tropopause is the lowest level above 400 hPa from which potential temperature rises upward by more than
    ``lapse``; all levels above it belong to the stratosphere, whatever their own lapse.

    Args:
        lapse: K/km (10 in climsim-online's ``cb_strato_water_constraint``).
    """

    counter, units, per_level = "tropopause", "kg/m2/s", True
    needs_inputs = ("temperature", "specific_humidity", "surface_pressure")
    needs_targets = ("specific_humidity_tendency",)

    def __init__(self, lapse: float, features: InputFeatures, variables: VariableSet) -> None:
        super().__init__(features, variables)
        self.does = (
            f"no tendencies of water above the level from which potential temperature rises by {lapse:g} K/km or more"
        )
        self.lapse = lapse / 1000.0
        self.waters = [name for name in _MOIST if name in self.target_profiles]

    def above(self, p_in: Tensor, s_in: Tensor) -> Tensor:
        """Whether a level is above the tropopause, (n, level), 1 or 0."""
        t = self.features.profile(p_in, "temperature")
        q = self.features.profile(p_in, "specific_humidity")
        ps, physics = self.features.scalar(s_in, "surface_pressure"), self.features.physics
        pressure = self.features.grid.mid_pressure(ps)
        theta = t * (1e5 / pressure) ** (physics.Rd / physics.cp)
        ground = torch.zeros_like(ps)
        height = hydrostatic_geopotential(t, q, ps, ground, self.features.grid, physics) / physics.gravity
        rise = (theta[:, :-1] - theta[:, 1:]) / (height[:, :-1] - height[:, 1:])  # of each level from the one below
        stable = ((rise > self.lapse) & (pressure[:, :-1] < LOWEST_TROPOPAUSE)).to(t.dtype)
        upward = torch.flip(torch.cummax(torch.flip(stable, [1]), 1)[0], [1])
        return torch.cat([upward, torch.zeros_like(t[:, -1:])], dim=1)

    def forward(self, p_in: Tensor, s_in: Tensor, p_out: Tensor, s_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raw inputs and outputs to raw outputs and the counter (n, level)."""
        above, mass = self.above(p_in, s_in), self.features.mass(s_in)
        taken = torch.zeros_like(mass)
        for name in self.waters:
            tendency = self._tendency(p_out, name)
            taken = taken + (above * tendency).abs() * mass
            p_out = self._replace_profile(p_out, name, (1.0 - above) * tendency)
        return p_out, s_out, taken


class Top(Constraint):
    """No tendencies of waters and winds on the top levels. Counter: the share of them that was not zero already.

    Args:
        levels: how many, from the top (15 in ClimSim's Kaggle edition, where 12 were trained so).
    """

    counter, per_level = "top", True

    def __init__(self, levels: int, features: InputFeatures, variables: VariableSet) -> None:
        super().__init__(features, variables)
        self.does = f"no tendencies of waters and winds on the top {levels} levels"
        held = [name for name in _TOP if name in self.target_profiles]
        keep = torch.ones(features.grid.n_levels, len(self.target_profiles))
        for name in held:
            keep[:levels, self.target_profiles.index(name)] = 0.0
        self.register_buffer("keep", keep, persistent=False)
        self.pruned = len(held)

    def forward(self, p_in: Tensor, s_in: Tensor, p_out: Tensor, s_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raw inputs and outputs to raw outputs and the counter (n, level)."""
        keep = cast(Tensor, self.keep).to(p_out.dtype)
        acted = ((1.0 - keep) * p_out).abs() > 0
        return keep * p_out, s_out, acted.to(p_out.dtype).sum(2) / max(self.pruned, 1)
