"""Moist columns in radiative-convective equilibrium: simplified Betts-Miller convection against cooling and forcing.

Every step is

    columns -> column physics (convection, condensation) -> radiation, surface fluxes, mixing, large-scale forcing

Column physics alone moves energy between heat and vapour and rains; what the host adds is known apart from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from subgrid.columns.variables import variable_set
from subgrid.hosts.column.settings import ColumnConfig
from subgrid.hosts.small import Parts, Situation, TorchModel, columns_around
from subgrid.physics.column import layer_mass
from subgrid.physics.constants import E3SM as C
from subgrid.physics.convection import BettsMiller, betts_miller, parcel_temperature
from subgrid.physics.moisture import saturation_specific_humidity

SECONDS_PER_DAY = 86400.0
SURFACE_PRESSURE = 1.0e5
#: Temperature at which radiation stops to cool and begins to hold, K, and the time scale of that, s.
TROPOPAUSE, HOLDING = 200.0, 5.0 * SECONDS_PER_DAY
#: Bulk coefficient of heat and moisture, mean wind, m/s, and the spread of its logarithm.
EXCHANGE, WIND, GUSTS = 1.2e-3, 6.0, 0.3
#: Air warmer than the moist adiabat above its sea loses its excess to the rest of the tropics in this time, s: gravity
#: waves keep temperature gradients weak. Without it the random forcing would warm a column without end.
SPREADING = 1.0 * SECONDS_PER_DAY
#: The share of sigma that the surface mixes, and how fast, s.
MIXED, MIXING = 0.85, 3600.0
#: Ascent that cools by 1 K/day at mid-levels moistens by so much there, kg/kg/day: the moist adiabat's own slope.
MOISTENS = 2.5e-4
#: A layer never dries below this, kg/kg.
DRIEST = 1e-8
#: A state beyond these is unstable: K, kg/kg.
BOUNDS = {"temperature": (120.0, 360.0), "specific_humidity": (0.0, 0.2)}
PROCESSES = {
    "convection": ("temperature_tendency", "specific_humidity_tendency", "convective_precipitation"),
    "condensation": ("temperature_tendency", "specific_humidity_tendency", "large_scale_precipitation"),
}
#: Spread of a perturbed state at unit amplitude: smooth in the vertical, K; of the logarithm of humidity, 1.
PUSH_K, PUSH_LOG = 2.0, 0.2


class MoistColumns(TorchModel):
    """The columns' grid, forcing and step.

    The state holds ``temperature`` and ``specific_humidity`` (level, column), and of the large-scale forcing ``ascent``
    (K/day of cooling at mid-levels) and ``gust`` (1), (column,).

    Args:
        config: settings.
        record_terms: keep the tendencies of each process.
    """

    def __init__(self, config: ColumnConfig | None = None, record_terms: bool = False) -> None:
        config = config or ColumnConfig()
        n = config.columns * config.copies
        super().__init__(config, columns_around(n, config.levels), variable_set("column"), BOUNDS, record_terms)
        self.vertical = vertical = self.grid.vertical
        seas = np.linspace(config.coldest_sea, config.warmest_sea, config.columns) + config.sst_change
        self.sea = torch.from_numpy(np.tile(seas, config.copies))
        self.surface_pressure = torch.full((n,), SURFACE_PRESSURE, dtype=torch.float64)
        self.sigma = torch.tensor(vertical.sigma_levels, dtype=torch.float64)[:, None]
        self.mass = layer_mass(vertical.layer_thickness(self.surface_pressure), C.gravity).T
        self.scheme = BettsMiller(config.relative_humidity, 3600.0 * config.convective_hours)
        self._in_mixed = (self.sigma > MIXED).double()
        self._in_mixed[-1] = 1.0
        self._mixed = self._in_mixed * self.mass / (self._in_mixed * self.mass).sum(0)
        self._exner = self.sigma ** (C.Rd / C.cp)
        near = self.first_state()
        adiabat = parcel_temperature(
            near["temperature"].T, near["specific_humidity"].T, self.surface_pressure, vertical
        )
        self._warmest = torch.clamp(adiabat.T, min=TROPOPAUSE)

    @property
    def processes(self) -> Mapping[str, tuple[str, ...]]:
        """Convection, and condensation of what is left above saturation."""
        return PROCESSES

    def first_state(self) -> Parts:
        """Moist columns near 80 % humidity below, no forcing."""
        t = torch.clamp((self.sea - 1.0) * self.sigma**0.16, min=TROPOPAUSE)
        q = 0.8 * self.sigma.square() * self._saturated(t)
        nothing = torch.zeros_like(self.sea)
        return {"temperature": t, "specific_humidity": q, "ascent": nothing, "gust": nothing}

    def _saturated(self, t: Tensor) -> Tensor:
        pressure = self.vertical.mid_pressure(self.surface_pressure).T
        return saturation_specific_humidity(t, pressure)

    def inputs(self, state: Parts, step: int) -> Parts:
        """Temperature, humidity, and surface pressure, which is the same everywhere."""
        del step
        kept = {name: state[name] for name in ("temperature", "specific_humidity")}
        return {**kept, "surface_pressure": self.surface_pressure}

    def process(self, name: str, at: Situation, before: Parts) -> Parts:
        """Enthalpy and water close in each of the two."""
        t, q = at.columns["temperature"], at.columns["specific_humidity"]
        if name == "convection":
            found = betts_miller(t.T, q.T, self.surface_pressure, self.vertical, self.scheme)
            return {
                "temperature_tendency": found.heating.T,
                "specific_humidity_tendency": found.moistening.T,
                "convective_precipitation": found.precipitation,
            }
        t = t + self.dt * before["temperature_tendency"]
        saturated = self._saturated(t)
        slope = (self._saturated(t + 0.01) - saturated) / 0.01
        # Condensation warms and so raises saturation: one Newton step of the balance.
        left = q + self.dt * before["specific_humidity_tendency"] - saturated
        rate = torch.relu(left) / (1.0 + C.Lv / C.cp * slope) / self.dt
        return {
            "temperature_tendency": C.Lv / C.cp * rate,
            "specific_humidity_tendency": -rate,
            "large_scale_precipitation": (self.mass * rate).sum(0),
        }

    def fluxes(self, state: Parts) -> tuple[Tensor, Tensor]:
        """Sensible heat, W/m2, and evaporation, kg/m2/s, (column,): bulk formulae with the lowest level."""
        t, q = state["temperature"][-1], state["specific_humidity"][-1]
        density = SURFACE_PRESSURE / (C.Rd * t)
        rate = density * EXCHANGE * WIND * torch.exp(GUSTS * state["gust"])
        saturated = saturation_specific_humidity(self.sea, self.surface_pressure)
        return rate * C.cp * (self.sea - t / self._exner[-1]), rate * (saturated - q)

    def advance(self, state: Parts, at: Situation, targets: Parts, random: np.random.Generator) -> Parts:
        """Column physics, then cooling, ascent, what spreads away, surface fluxes, mixing; the forcing's next value."""
        del at
        t, q, day = state["temperature"], state["specific_humidity"], self.dt / SECONDS_PER_DAY
        heat, evaporation = self.fluxes(state)
        cooled = torch.where(t > TROPOPAUSE, -self.config.radiative_cooling * day, (TROPOPAUSE - t) * self.dt / HOLDING)
        spread = torch.relu(t - self._warmest) * (self.dt / SPREADING)
        lifted = torch.sin(math.pi * self.sigma) * day * state["ascent"]
        share = self._mixed / self.mass
        t = t + self.dt * targets["temperature_tendency"] + cooled - lifted - spread + share * (heat * self.dt / C.cp)
        q = q + self.dt * targets["specific_humidity_tendency"] + MOISTENS * lifted * self.sigma.square()
        t, q = self._mix(t, q + share * (evaporation * self.dt))
        kept = math.exp(-24.0 * day / self.config.forcing_hours)
        fresh = math.sqrt(1.0 - kept**2)
        noise = torch.from_numpy(np.tile(random.standard_normal((2, self.config.columns)), self.config.copies))
        return {
            "temperature": t,
            "specific_humidity": torch.clamp(q, min=DRIEST),
            "ascent": kept * state["ascent"] + fresh * self.config.forcing * noise[0],
            "gust": kept * state["gust"] + fresh * noise[1],
        }

    def _mix(self, t: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """Potential temperature and humidity of the mixed layer drawn to their means; keeps enthalpy and water."""
        share = -math.expm1(-self.dt / MIXING)
        weight = self._mixed * self._exner
        theta = t / self._exner
        mean_theta = (weight * theta).sum(0) / weight.sum(0)
        mean_q = (self._mixed * q).sum(0)
        theta = theta + share * self._in_mixed * (mean_theta - theta)
        return theta * self._exner, q + share * self._in_mixed * (mean_q - q)

    def pushed(self, state: Parts, random: np.random.Generator) -> Parts:
        """Temperature smoothly, relative humidity by a factor; the amplitude of each column is exponential."""
        levels, n = state["temperature"].shape
        amplitude = random.exponential(size=n)

        def smooth() -> Tensor:
            waves = np.sin(np.pi * np.arange(1, 5)[:, None] * (np.arange(levels) + 0.5) / levels)
            return torch.from_numpy(amplitude * (waves.T @ random.standard_normal((4, n))) / math.sqrt(2.0))

        t = torch.clamp(state["temperature"] + PUSH_K * smooth(), *BOUNDS["temperature"])
        humidity = state["specific_humidity"] / self._saturated(state["temperature"])
        q = torch.clamp(humidity * torch.exp(PUSH_LOG * smooth()), 0.0, 2.0) * self._saturated(t)
        return {**state, "temperature": t, "specific_humidity": q}
