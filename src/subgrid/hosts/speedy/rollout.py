"""The host's dynamics as a differentiable function of flat arrays, for training through several steps of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jax_datetime as jdt
import numpy as np
from jax.flatten_util import ravel_pytree
from jcm.date import DateData
from jcm.physics_interface import PhysicsTendency, verify_state, verify_tendencies
from numpy.typing import NDArray

from subgrid.columns.variables import VariableSet, offsets
from subgrid.hosts.speedy.model import Carry, SpeedyModel
from subgrid.hosts.speedy.processes import PROGNOSTIC


class DifferentiableDynamics:
    """One step of the dynamics under given column physics, and its vector-Jacobian product.

    A state is a float32 vector (spectral coefficients); columns are (column, n_in), column physics (column, n_out),
    both in the flat layout of ``variables``.
    """

    def __init__(self, model: SpeedyModel, variables: VariableSet) -> None:
        self.model, self.variables = model, variables
        self._place = offsets(variables.targets, model.config.levels)
        _, self._unravel = ravel_pytree(model.initial().state)
        self.advance = jax.jit(self._advance)
        self.pull = jax.jit(self._pull)

    def state(self, carry: Carry) -> jax.Array:
        """The spectral state of ``carry`` as a vector."""
        return ravel_pytree(carry.state)[0]

    def columns(self, values: Any) -> NDArray[np.float32]:
        """Inputs (column, n_in) from ``carry.columns``."""
        return self._joined(values, self.variables.inputs)

    def targets(self, values: Any) -> NDArray[np.float32]:
        """Targets (column, n_out) from ``carry.columns``."""
        return self._joined(values, self.variables.targets)

    @staticmethod
    def _joined(values: Any, variables: Any) -> NDArray[np.float32]:
        parts = [np.atleast_2d(np.asarray(values[v.name])) for v in variables]
        return np.ascontiguousarray(np.concatenate(parts).T, np.float32)

    def _advance(
        self, state: jax.Array, physics: jax.Array, time: jdt.Datetime, step: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """State and columns one step later, with the tendencies in ``physics`` as the host limits them."""
        model = self.model
        spectral = self._unravel(state)
        before = verify_state(model.model.dycore.to_physics_state(spectral))
        y = physics.T
        given = {name: model.grid_field(y[self._place[f"{name}_tendency"]]) for name in PROGNOSTIC}
        tendency = verify_tendencies(before, PhysicsTendency(**given, tracers={}), model.dt)
        after = model.model.dycore.step(spectral, tendency)
        later = time + jdt.Timedelta(seconds=jnp.int32(int(model.dt)))
        forcing = model.forcing.select(DateData(later, step + 1, model.dt))
        found = model.boundary(verify_state(model.model.dycore.to_physics_state(after)), forcing)
        columns = jnp.concatenate([jnp.atleast_2d(found[v.name]) for v in self.variables.inputs]).T
        return ravel_pytree(after)[0], columns

    def _pull(
        self,
        state: jax.Array,
        physics: jax.Array,
        time: jdt.Datetime,
        step: jax.Array,
        towards: tuple[jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array]:
        """Gradients with respect to state and physics of what has the gradients ``towards`` after the step."""
        _, pull = jax.vjp(lambda s, y: self._advance(s, y, time, step), state, physics)
        return pull(towards)

    def clock(self, carry: Carry, ahead: int) -> tuple[jdt.Datetime, jax.Array]:
        """Time and step counter ``ahead`` steps after ``carry``."""
        return carry.time + jdt.Timedelta(seconds=jnp.int32(ahead * int(self.model.dt))), carry.step + ahead

    def states(self, spin_up_days: int, days: int, stride: int) -> Iterator[Carry]:
        """The host's own states from rest, every ``stride`` steps of the ``days`` after the spin-up."""
        advance, a_day = self.model.program(), self.model.config.steps_per_day
        carry = advance(self.model.initial(), spin_up_days * a_day, True)
        for _ in range(days * a_day // stride):
            yield carry
            carry = advance(carry, stride, True)

    def trajectory(self, carry: Carry, steps: int) -> list[Any]:
        """``carry.columns`` of the host's own next ``steps`` steps: inputs and targets of each."""
        found = []
        for _ in range(steps):
            carry = self.model.program()(carry, 1, True)
            found.append(carry.columns)
        return found
