"""Column physics of SPEEDY and an emulator combined: by process, by variable, gradually, or beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jcm import constants as jcm_constants

from subgrid.hosts.diagnostics import SHADOW, shadow_name
from subgrid.hosts.driving import Drive
from subgrid.hosts.speedy.model import (
    FLUXES,
    G_TO_KG,
    TAP,
    TERM_GROUPS,
    ColumnPhysics,
    Fields,
    Result,
    Situation,
    SpeedyModel,
    flat,
)
from subgrid.hosts.speedy.processes import PROCESS_FLUXES, PROGNOSTIC


def with_own_surface(model: SpeedyModel, physics: ColumnPhysics) -> ColumnPhysics:
    """``physics`` with its surface fluxes replaced by the host's own bulk formulae.

    The lowest level gives back what the emulated sensible heat, evaporation and stress put into it and receives
    the host's, which are driven by the emulated radiation at the surface. Downward shortwave is net / (1 - albedo),
    a little too high because SPEEDY reflects its visible band alone (up to 1 W/m2 in the sensible heat flux).
    """
    first = model.own_terms("flags", "forcing", "humidity")
    (surface,) = model.own_terms("surface")
    lowest = float(np.diff(np.asarray(model.coords.vertical.boundaries))[-1])

    def combined(at: Situation) -> Result:
        emulated = physics(at)
        diagnostics = dict(model.fresh_physics_carry)
        for term in first:
            _, diagnostics = term(at.state, diagnostics, at.forcing, model.terrain)
        fluxes = emulated.fluxes
        for process in ("shortwave", "longwave"):
            diagnostics = _told(model, process, diagnostics, fluxes, at.columns)
        own, diagnostics = surface(at.state, diagnostics, at.forcing, model.terrain)
        mass = lowest * at.columns["surface_pressure"] / jcm_constants.grav
        removed = {
            "temperature": fluxes["sensible_heat_flux"] / (jcm_constants.cpd * mass),
            "specific_humidity": fluxes["evaporation"] / mass,
            "u_wind": fluxes["surface_stress_u"] / mass,
            "v_wind": fluxes["surface_stress_v"] / mass,
        }
        tendencies = {
            name: emulated.tendencies[name].at[-1].add(-removed[name]) + flat(getattr(own, name)) for name in PROGNOSTIC
        }
        found = model.own_fluxes(diagnostics)
        return emulated._replace(
            tendencies=tendencies, fluxes={**fluxes, **{n: found[n] for n in PROCESS_FLUXES["surface"]}}
        )

    return combined


def beside_own(model: SpeedyModel, physics: ColumnPhysics, replaced: frozenset[str]) -> ColumnPhysics:
    """The host's own processes but those ``replaced``, which ``physics`` computes.

    The host's terms run in their order; where a replaced process hands something to a later term of the host (rain to
    clouds, radiation to the surface, the surface's emission to longwave) it is the emulator's. How high clouds reach
    is always the host's own diagnosis. Terms of which nothing is used are not computed.
    """
    terms = [term for term in model.model.physics.terms if term.category != TAP]
    categories = {category: process for process in TERM_GROUPS for category in TERM_GROUPS[process]}

    def combined(at: Situation) -> Result:
        emulated = physics(at)
        total = dict(emulated.tendencies)
        diagnostics = dict(model.fresh_physics_carry)
        for term in terms:
            own, diagnostics = term(at.state, diagnostics, at.forcing, model.terrain)
            process = categories.get(term.category, "")
            if process in replaced:
                diagnostics = _told(model, process, diagnostics, emulated.fluxes, at.columns)
            else:
                total = {name: total[name] + flat(getattr(own, name)) for name in PROGNOSTIC}
        return Result(total, {**model.own_fluxes(diagnostics), **emulated.fluxes}, emulated.diagnostics)

    return combined


def _told(
    model: SpeedyModel, process: str, diagnostics: Mapping[str, Any], fluxes: Fields, columns: Fields
) -> dict[str, Any]:
    """jcm's ``diagnostics`` with the emulated ``fluxes`` of ``process`` for the terms that come later."""
    grid = {n: model.grid_field(fluxes[n]) for n in PROCESS_FLUXES[process] if n in fluxes}
    changed: dict[str, dict[str, Any]] = {}
    if process == "convection":
        changed["_convection"] = {"precnv": grid["convective_precipitation"] / G_TO_KG}
    elif process == "condensation":
        changed["_condensation"] = {"precls": grid["large_scale_precipitation"] / G_TO_KG}
    elif process == "shortwave":
        down = fluxes["surface_net_shortwave"] / (1.0 - columns["albedo"])
        changed["_shortwave_rad"] = {"rsds": model.grid_field(down), "rsns": grid["surface_net_shortwave"]}
    elif process == "longwave":
        changed["_surface_flux"] = {"rlds": grid["surface_downward_longwave"]}
    elif process == "surface":
        names = {"rlus": "surface_upward_longwave", "shf": "sensible_heat_flux", "hfluxn": "surface_net_heat_flux"}
        changed["_surface_flux"] = {key: grid[name] for key, name in names.items()}
    return {**diagnostics, **{key: diagnostics[key].copy(**values) for key, values in changed.items()}}


def driven(model: SpeedyModel, physics: ColumnPhysics, drive: Drive, area: jax.Array) -> ColumnPhysics:
    """``physics`` as far as ``drive`` lets it act, the host's own physics for the rest.

    Args:
        model: of the host.
        physics: the emulator's, whole.
        drive: mixing, ramp, variables, shadow mode.
        area: of the columns, with sum 1.
    """
    if drive.shadow:
        return _shadowed(model, physics, area)
    acts = set(drive.act_on) or {*FLUXES, *(f"{name}_tendency" for name in PROGNOSTIC)}

    def mixed(at: Situation, share: jax.Array) -> Result:
        emulated, own = physics(at), own_result(at)

        def mix(name: str, theirs: jax.Array, ours: jax.Array) -> jax.Array:
            return share * theirs + (1.0 - share) * ours if name in acts else ours

        return Result(
            {n: mix(f"{n}_tendency", emulated.tendencies[n], own.tendencies[n]) for n in PROGNOSTIC},
            {n: mix(n, emulated.fluxes[n], own.fluxes[n]) for n in FLUXES},
            emulated.diagnostics,
        )

    def own_result(at: Situation) -> Result:
        own = model.own_physics(at)
        return own._replace(fluxes={name: own.fluxes[name] for name in FLUXES})

    def combined(at: Situation) -> Result:
        share = drive.weight(at.elapsed, jnp).astype(jnp.float32)
        idle = jax.eval_shape(physics, at).diagnostics

        def off(at: Situation) -> Result:
            return own_result(at)._replace(diagnostics=jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), idle))

        def on(at: Situation) -> Result:
            found = physics(at)
            return found._replace(fluxes={name: found.fluxes[name] for name in FLUXES})

        def both(at: Situation) -> Result:
            return mixed(at, share)

        whole = jnp.int32(0 if drive.act_on else 1) * (share >= 1.0)
        return jax.lax.switch(jnp.where(share <= 0.0, 0, 2 - whole), (off, on, both), at)

    return combined


def _shadowed(model: SpeedyModel, physics: ColumnPhysics, area: jax.Array) -> ColumnPhysics:
    """The host's own physics, with the emulator's error beside it among the diagnostics.

    For each target, means over columns of the error, of its square, and of the host's value and its square.
    """

    def combined(at: Situation) -> Result:
        emulated, own = physics(at), model.own_physics(at)
        pairs = {f"{n}_tendency": (emulated.tendencies[n], own.tendencies[n]) for n in PROGNOSTIC}
        pairs |= {n: (emulated.fluxes[n], own.fluxes[n]) for n in FLUXES}
        scores = dict(emulated.diagnostics)
        for name, (theirs, ours) in pairs.items():
            error = theirs - ours
            for key, values in zip(SHADOW, (error, error**2, ours, ours**2), strict=True):
                scores[shadow_name(key, name)] = values @ area
        return Result(own.tendencies, {name: own.fluxes[name] for name in FLUXES}, scores)

    return combined
