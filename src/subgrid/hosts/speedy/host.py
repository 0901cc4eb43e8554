"""The host `speedy` as the other rooms see it: generate columns, integrate with own physics or an emulator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import UsageError
from subgrid.columns.variables import VariableSet, offsets, variable_set
from subgrid.emulator.base import ColumnEmulator
from subgrid.hosts.bridge import FlatFunction, flat_function, null_callback_function
from subgrid.hosts.diagnostics import summarise
from subgrid.hosts.driving import Drive
from subgrid.hosts.speedy.acting import beside_own, driven, with_own_surface
from subgrid.hosts.speedy.model import FLUXES, ColumnPhysics, Result, Situation, SpeedyModel
from subgrid.hosts.speedy.processes import GROUPS, PROCESSES, PROGNOSTIC
from subgrid.hosts.speedy.settings import SpeedyConfig
from subgrid.hosts.stepping import SteppedHost


class Speedy(SteppedHost):
    """jcm with SPEEDY physics on real geography."""

    name = "speedy"

    def __init__(self, **settings: Any) -> None:
        super().__init__(SpeedyConfig(**settings))

    def build(self, record_terms: bool = False) -> SpeedyModel:
        """The embedded model."""
        return SpeedyModel(self.config, record_terms)

    @property
    def land(self) -> NDArray[np.float64]:
        """Share of land of each column."""
        return np.asarray(self.model.terrain.fmask, np.float64).ravel()

    @property
    def variables(self) -> VariableSet:
        """Everything that it supplies and needs."""
        return variable_set("speedy_expanded")

    @property
    def processes(self) -> Mapping[str, tuple[str, ...]]:
        """SPEEDY's processes and the targets of each."""
        return PROCESSES

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Names of several processes together."""
        return GROUPS

    def act(
        self, emulator: ColumnEmulator, sample: NDArray[np.float32], drive: Drive, replaced: frozenset[str]
    ) -> tuple[ColumnPhysics, str]:
        """The emulator in jax or through a callback, beside the host's own processes that it does not replace."""
        function, used = flat_function(emulator, sample, drive.bridge)
        physics, whole = self._as_physics(emulator, function), replaced == set(self.processes)
        if drive.keep == "surface":
            if not whole:
                raise UsageError("couple.keep=surface needs an emulator of the whole column physics")
            physics = with_own_surface(self.model, physics)
        elif not whole:
            physics = beside_own(self.model, physics, replaced)
        if drive.needs_own:
            physics = driven(self.model, physics, drive, self._area)
        return physics, used

    @property
    def _area(self) -> jax.Array:
        """Share of the globe of each column."""
        return jnp.asarray(self.grid.area / self.grid.area.sum(), jnp.float32)

    def null_callback_physics(self, emulator: ColumnEmulator) -> ColumnPhysics:
        """No column physics, but the crossing to torch and back that ``emulator`` would need."""
        return self._as_physics(emulator, null_callback_function(emulator, self.grid.columns))

    def _as_physics(self, emulator: ColumnEmulator, function: FlatFunction) -> ColumnPhysics:
        place = offsets(emulator.variables.targets, self.grid.levels)
        area = self._area

        def physics(at: Situation) -> Result:
            parts = [jnp.atleast_2d(at.columns[v.name]) for v in emulator.variables.inputs]
            y, counted, distances = function(jnp.concatenate(parts).T)
            y, nothing = y.T, jnp.zeros_like(at.columns["temperature"])
            named = ((name, f"{name}_tendency") for name in PROGNOSTIC)
            tendencies = {name: y[place[target]] if target in place else nothing for name, target in named}
            fluxes = {v.name: y[place[v.name].start] for v in emulator.variables.targets if v.kind == "scalar"}
            return Result(tendencies, fluxes, summarise(emulator, counted, distances, area, jnp))

        return physics

    def null_physics(self, at: Situation) -> Result:
        """No column physics at all: what a step of the dynamics alone costs."""
        nothing = jnp.zeros_like(at.columns["temperature"])
        return Result(dict.fromkeys(PROGNOSTIC, nothing), dict.fromkeys(FLUXES, nothing[0]), {})
