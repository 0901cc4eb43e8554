"""Columns pushed off the host's own climate, with the host's exact answer: what a coupled run must know to come back.

A network trained on the climate alone has never seen a column that drifted, and nothing tells it which way is back.
Here temperature, humidity and wind of sampled columns are perturbed (smoothly in the vertical, with heavy tails) and
the host's column physics is evaluated on the result, so that the targets are exact and no noise enters the labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax_datetime as jdt
import numpy as np
from dinosaur.primitive_equations import get_geopotential_weights_sigma
from jcm import constants as jcm_constants
from jcm.date import DateData
from jcm.physics.clouds.speedy_humidity import get_qsat
from jcm.physics_interface import PhysicsState, PhysicsTendency, verify_tendencies

from subgrid.hosts.speedy.model import G_TO_KG, Carry, Fields, Situation, SpeedyModel
from subgrid.hosts.speedy.processes import PROGNOSTIC

#: Standard deviations at unit amplitude: temperature of the whole column, smooth in the vertical, of each level (K).
COLUMN_K, SMOOTH_K, LEVEL_K = 2.0, 2.5, 0.3
#: Smooth logarithm of relative humidity (1), smooth wind (m/s).
LOG_HUMIDITY, WIND = 0.2, 4.0
#: Levels over which smooth perturbations are correlated.
CORRELATION = 2.0
TEMPERATURE_RANGE = (95.0, 345.0)
HUMIDITY_CEILING = 2.5


def _smoother(levels: int) -> np.ndarray:
    """Matrix that turns white noise of the levels into smooth noise of unit variance."""
    distance = np.arange(levels)[:, None] - np.arange(levels)[None, :]
    kernel = np.exp(-0.5 * (distance / CORRELATION) ** 2)
    return kernel / np.sqrt(np.square(kernel).sum(1, keepdims=True))


def _virtual(t: jax.Array, q: jax.Array) -> jax.Array:
    """Virtual temperature, K."""
    return t * (1.0 + (jcm_constants.rv / jcm_constants.rd - 1.0) * q)


def _ground(model: SpeedyModel, weights: jax.Array) -> jax.Array:
    """Geopotential of each level of a column without depth, (level, column): what the dynamics stands on.

    It is the dynamics' own orography, which differs from the terrain that the physics sees by up to 1,200 m.
    """
    state = model.model.dycore.to_physics_state(model.initial().state)
    fields = [x.reshape(x.shape[0], -1) for x in (state.geopotential, state.temperature, state.specific_humidity)]
    return fields[0] - weights @ _virtual(fields[1], fields[2])


def perturber(model: SpeedyModel, seed: int) -> Callable[[Carry], Fields]:
    """A compiled function from the carry after a step to that step's columns, perturbed, with the host's answer.

    The amplitude of each column is exponentially distributed with mean 1. Previous and dynamics tendencies stay those
    of the unperturbed column.
    """
    smoother = jnp.asarray(_smoother(model.config.levels), jnp.float32)
    weights = jnp.asarray(get_geopotential_weights_sigma(model.coords.vertical, jcm_constants.rd), jnp.float32)
    sigma = jnp.asarray(model.grid.vertical.sigma_levels, jnp.float32)[:, None]
    ground = _ground(model, weights)

    def noise(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        white = jax.random.normal(key, shape, jnp.float32)
        return smoother @ white, white

    def state_of(columns: Fields, key: jax.Array) -> PhysicsState:
        keys = jax.random.split(key, 6)
        shape = columns["temperature"].shape
        amplitude = jax.random.exponential(keys[0], (shape[1],), jnp.float32)
        smooth, white = noise(keys[1], shape)
        whole = jax.random.normal(keys[2], (shape[1],), jnp.float32)
        pushed = columns["temperature"] + amplitude * (COLUMN_K * whole + SMOOTH_K * smooth + LEVEL_K * white)
        t = jnp.clip(pushed, *TEMPERATURE_RANGE)
        pressure = columns["surface_pressure"][None, :] / jcm_constants.p0
        humidity = columns["specific_humidity"] / (G_TO_KG * get_qsat(columns["temperature"], pressure, sigma))
        humidity = humidity * jnp.exp(LOG_HUMIDITY * amplitude * noise(keys[3], shape)[0])
        q = jnp.clip(humidity, 0.0, HUMIDITY_CEILING) * G_TO_KG * jnp.maximum(get_qsat(t, pressure, sigma), 0.0)
        q = jnp.minimum(q, 0.05)
        wind = {n: WIND * amplitude * noise(k, shape)[0] for n, k in (("u_wind", keys[4]), ("v_wind", keys[5]))}
        grid = model.grid_field
        return PhysicsState(
            u_wind=grid(columns["u_wind"] + wind["u_wind"]),
            v_wind=grid(columns["v_wind"] + wind["v_wind"]),
            temperature=grid(t),
            specific_humidity=grid(q),
            geopotential=grid(ground + weights @ _virtual(t, q)),
            normalized_surface_pressure=grid(pressure[0]),
            tracers={},
        )

    @jax.jit
    def answer(columns: Fields, time: jdt.Datetime, step: jax.Array) -> Fields:
        state = state_of(columns, jax.random.fold_in(jax.random.PRNGKey(seed), step))
        forcing = model.forcing.select(DateData(time, step, model.dt))
        found = {**columns, **model.boundary(state, forcing)}
        result = model.own_physics(Situation(found, state, forcing, step))
        raw = PhysicsTendency(**{n: model.grid_field(result.tendencies[n]) for n in PROGNOSTIC}, tracers={})
        applied = verify_tendencies(state, raw, model.dt)
        found |= {f"{n}_tendency": getattr(applied, n).reshape(*found["temperature"].shape) for n in PROGNOSTIC}
        return found | result.fluxes

    def perturbed(carry: Carry) -> dict[str, Any]:
        before = carry.time - jdt.Timedelta(seconds=jnp.int32(int(model.dt)))
        return answer(carry.columns, before, carry.step - 1)

    return perturbed
