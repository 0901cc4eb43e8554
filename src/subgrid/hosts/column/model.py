"""Moist columns in radiative-convective equilibrium: simplified Betts-Miller convection against cooling and forcing.

Every step is

    columns -> column physics (convection, condensation) -> radiation, surface fluxes, mixing, large-scale forcing

Column physics alone moves energy between heat and vapour and rains; what the host adds is known apart from it. All of
it is differentiable in torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from subgrid.hosts.column.settings import ColumnConfig
from subgrid.physics.column import layer_mass
from subgrid.physics.constants import E3SM as C
from subgrid.physics.convection import BettsMiller, betts_miller
from subgrid.physics.moisture import saturation_specific_humidity
from subgrid.physics.vertical import VerticalGrid

SECONDS_PER_DAY = 86400.0
SURFACE_PRESSURE = 1.0e5
#: Temperature at which radiation stops to cool and begins to hold, K, and the time scale of that, s.
TROPOPAUSE, HOLDING = 200.0, 5.0 * SECONDS_PER_DAY
#: Bulk coefficient of heat and moisture, mean wind, m/s, and the spread of its logarithm.
EXCHANGE, WIND, GUSTS = 1.2e-3, 6.0, 0.3
#: The share of sigma that the surface mixes, and how fast, s.
MIXED, MIXING = 0.85, 3600.0
#: Ascent that cools by 1 K/day at mid-levels moistens by so much there, kg/kg/day: the moist adiabat's own slope.
MOISTENS = 2.5e-4


@dataclass(frozen=True)
class State:
    """Prognostic state of n columns: temperature and humidity (n, level), forcing and gusts (n,)."""

    temperature: Tensor
    humidity: Tensor
    ascent: Tensor
    gust: Tensor


class MoistColumns:
    """The columns' grid, forcing and step; float64.

    Args:
        config: settings.
    """

    def __init__(self, config: ColumnConfig | None = None) -> None:
        self.config = config or ColumnConfig()
        self.vertical = VerticalGrid.sigma(np.linspace(0.0, 1.0, self.config.levels + 1).tolist())
        self.dt = 60.0 * self.config.time_step_minutes
        n = self.config.columns
        seas = np.linspace(self.config.coldest_sea, self.config.warmest_sea, n) + self.config.sst
        self.sea = torch.from_numpy(seas)
        self.surface_pressure = torch.full((n,), SURFACE_PRESSURE, dtype=torch.float64)
        self.sigma = torch.tensor(self.vertical.sigma_levels, dtype=torch.float64)
        self.mass = layer_mass(self.vertical.layer_thickness(self.surface_pressure), C.gravity)
        self.scheme = BettsMiller(self.config.relative_humidity, 3600.0 * self.config.convective_hours)
        mixed = (self.sigma > MIXED).double()
        mixed[-1] = 1.0
        self._mixed = mixed * self.mass / (mixed * self.mass).sum(1, keepdim=True)
        self._in_mixed = mixed
        self._exner = self.sigma ** (C.Rd / C.cp)

    def initial(self) -> State:
        """A moist column near 80 % humidity below, no forcing."""
        warm = self.sea[:, None] - 1.0
        t = torch.clamp(warm * self.sigma**0.16, min=TROPOPAUSE)
        humidity = 0.8 * self.sigma.square()
        q = humidity * saturation_specific_humidity(t, self.vertical.mid_pressure(self.surface_pressure))
        zeros = torch.zeros(self.config.columns, dtype=torch.float64)
        return State(t, q, zeros, zeros)

    def fluxes(self, state: State) -> tuple[Tensor, Tensor]:
        """Sensible heat, W/m2, and evaporation, kg/m2/s, (n,): bulk formulae with the lowest level."""
        t, q = state.temperature[:, -1], state.humidity[:, -1]
        density = SURFACE_PRESSURE / (C.Rd * t)
        rate = density * EXCHANGE * WIND * torch.exp(GUSTS * state.gust)
        saturated = saturation_specific_humidity(self.sea, self.surface_pressure)
        return rate * C.cp * (self.sea - t / self._exner[-1]), rate * (saturated - q)

    def own_physics(self, t: Tensor, q: Tensor, ps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Heating and moistening (n, level), convective and large-scale precipitation (n,), of raw columns.

        Convection, then condensation of what is left above saturation within a step; enthalpy and water close.
        """
        mass = layer_mass(self.vertical.layer_thickness(ps), C.gravity)
        found = betts_miller(t, q, ps, self.vertical, self.scheme)
        after_t, after_q = t + self.dt * found.heating, q + self.dt * found.moistening
        saturated = saturation_specific_humidity(after_t, self.vertical.mid_pressure(ps))
        slope = saturation_specific_humidity(after_t + 0.01, self.vertical.mid_pressure(ps)) - saturated
        # Condensation warms and so raises saturation: one Newton step of the balance.
        excess = torch.relu(after_q - saturated) / (1.0 + C.Lv / C.cp * slope / 0.01)
        rate = excess / self.dt
        heating, moistening = found.heating + C.Lv / C.cp * rate, found.moistening - rate
        return heating, moistening, found.precipitation, (mass * rate).sum(1)

    def noise(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Standard normal numbers of a step for ascent and gusts, (n,) each."""
        drawn = torch.randn(2, self.config.columns, generator=generator, dtype=torch.float64)
        return drawn[0], drawn[1]

    def step(self, state: State, heating: Tensor, moistening: Tensor, noise: tuple[Tensor, Tensor]) -> State:
        """The state after column physics and everything that the host does."""
        t, q = state.temperature, state.humidity
        heat, evaporation = self.fluxes(state)
        day = self.dt / SECONDS_PER_DAY
        cooled = torch.where(t > TROPOPAUSE, -self.config.radiative_cooling * day, (TROPOPAUSE - t) * self.dt / HOLDING)
        lifted = torch.sin(math.pi * self.sigma) * day * state.ascent[:, None]
        warmed = (
            self._mixed * (heat * self.dt / C.cp / self.mass.sum(1))[:, None] * self.mass.sum(1)[:, None] / self.mass
        )
        wetted = (
            self._mixed * (evaporation * self.dt / self.mass.sum(1))[:, None] * self.mass.sum(1)[:, None] / self.mass
        )
        t = t + self.dt * heating + cooled - lifted + warmed
        q = q + self.dt * moistening + MOISTENS * lifted * self.sigma.square() + wetted
        t, q = self._mix(t, q)
        kept = math.exp(-self.config.time_step_minutes / 60.0 / self.config.forcing_hours)
        fresh = math.sqrt(1.0 - kept**2)
        return State(
            temperature=t,
            humidity=torch.clamp(q, min=1e-8),
            ascent=kept * state.ascent + fresh * self.config.forcing * noise[0],
            gust=kept * state.gust + fresh * noise[1],
        )

    def _mix(self, t: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """Potential temperature and humidity of the mixed layer drawn to their means; keeps enthalpy and water."""
        share = -math.expm1(-self.dt / MIXING)
        weight = self._mixed * self._exner
        theta = t / self._exner
        mean_theta = (weight * theta).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        mean_q = (self._mixed * q).sum(1, keepdim=True)
        theta = theta + share * self._in_mixed * (mean_theta - theta)
        return theta * self._exner, q + share * self._in_mixed * (mean_q - q)
