"""SPEEDY and an emulator combined: exact emulators of some processes, mixtures, ramps, some variables, shadow mode."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jcm.date import DateData
from jcm.physics_interface import verify_state

from subgrid.hosts.diagnostics import SHADOW, shadow_name
from subgrid.hosts.driving import Drive
from subgrid.hosts.speedy.acting import beside_own, driven, with_own_surface
from subgrid.hosts.speedy.model import FLUXES, Result, Situation, SpeedyModel
from subgrid.hosts.speedy.processes import PROCESS_FLUXES, PROGNOSTIC
from subgrid.hosts.speedy.settings import SpeedyConfig


@pytest.fixture(scope="module")
def model() -> SpeedyModel:
    return SpeedyModel(SpeedyConfig(), record_terms=True)


@pytest.fixture(scope="module")
def at(model) -> Situation:
    """Columns a week after the start, which is too stable to mix."""
    carry = model.program()(model.initial(), 350, True)
    state = verify_state(model.model.dycore.to_physics_state(carry.state))
    forcing = model.forcing.select(DateData(carry.time, carry.step, model.dt))
    return Situation(model.boundary(state, forcing), state, forcing, jnp.int32(0))


@pytest.fixture(scope="module")
def own(model, at) -> Result:
    return jax.jit(model.own_physics)(at)


def same(found, expected, share=1e-5, names=(*FLUXES, *PROGNOSTIC)):
    for name in names:
        one, other = ({**r.tendencies, **r.fluxes}[name] for r in (found, expected))
        np.testing.assert_allclose(one, other, rtol=0, atol=share * np.abs(other).max(), err_msg=name)


@pytest.mark.parametrize(
    ("replaced", "share"),
    [
        (("convection", "condensation"), 1e-5),
        # net shortwave / (1 - albedo) is a little more than what SPEEDY sends down: only the visible band is reflected
        pytest.param(("shortwave", "longwave"), 0.03, marks=pytest.mark.slow),
        pytest.param(("surface",), 1e-5, marks=pytest.mark.slow),
        pytest.param(("diffusion",), 1e-5, marks=pytest.mark.slow),
        (("convection", "condensation", "shortwave", "longwave", "surface"), 1e-5),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else "",
)
def test_an_exact_emulator_of_some_processes_beside_the_others_is_the_host_itself(model, at, own, replaced, share):
    def exact(at):
        own = model.own_physics(at)
        parts = {name: [own.fluxes[f"{name}_tendency_{process}"] for process in replaced] for name in PROGNOSTIC}
        told = {name: own.fluxes[name] for process in replaced for name in PROCESS_FLUXES[process]}
        return Result({name: sum(part) for name, part in parts.items()}, told, {})

    same(jax.jit(beside_own(model, exact, frozenset(replaced)))(at), own, share)
    for process in replaced:
        assert np.abs(np.asarray(own.fluxes[f"temperature_tendency_{process}"])).max() > 0


def test_a_replaced_process_hands_on_what_the_emulator_says(model, at, own):
    """More rain makes more cloud, and a brighter sky a warmer surface flux."""

    def rainy(at):
        own = model.own_physics(at)
        rain = {name: own.fluxes[name] + 1e-4 for name in ("convective_precipitation", "large_scale_precipitation")}
        return Result(dict.fromkeys(PROGNOSTIC, jnp.zeros_like(at.columns["temperature"])), rain, {})

    def bright(at):
        own = model.own_physics(at)
        told = {n: own.fluxes[n] for p in ("shortwave", "longwave") for n in PROCESS_FLUXES[p]}
        told["surface_downward_longwave"] = told["surface_downward_longwave"] + 50.0
        return Result(dict.fromkeys(PROGNOSTIC, jnp.zeros_like(at.columns["temperature"])), told, {})

    wet = jax.jit(beside_own(model, rainy, frozenset(("convection", "condensation"))))(at)
    assert float((wet.fluxes["absorbed_solar"] - own.fluxes["absorbed_solar"]).mean()) < -1.0
    warm = jax.jit(beside_own(model, bright, frozenset(("shortwave", "longwave"))))(at)
    land = at.columns["land_fraction"] > 0.99
    more = (warm.fluxes["surface_net_heat_flux"] - own.fluxes["surface_net_heat_flux"])[land]
    assert float(more.mean()) > 5.0


def test_own_surface_fluxes_take_the_place_of_emulated_ones(model, at, own):
    """With the own physics in the role of the emulator, keeping the own surface changes little.

    Not nothing: SPEEDY reflects its visible band alone, so the downward shortwave from net and albedo is too high.
    """
    kept = jax.jit(with_own_surface(model, model.own_physics))(at)
    for name in ("evaporation", "sensible_heat_flux", "surface_stress_u"):
        spread = float(jnp.std(own.fluxes[name]))
        assert float(jnp.abs(kept.fluxes[name] - own.fluxes[name]).max()) < 0.1 * spread
    change = jnp.abs(kept.tendencies["temperature"] - own.tendencies["temperature"]).max()
    assert float(change) < 0.1 * float(jnp.std(own.tendencies["temperature"][-1]))


@pytest.fixture(scope="module")
def strange(model):
    """A column physics that differs from the own one by known amounts, and counts its calls."""

    def physics(at):
        own = model.own_physics(at)
        return Result(
            {name: own.tendencies[name] + 1.0 for name in PROGNOSTIC},
            {name: own.fluxes[name] + 10.0 for name in FLUXES},
            {"calls": jnp.float32(1.0)},
        )

    return physics


@pytest.fixture(scope="module")
def area(model):
    return jnp.asarray(model.grid.area / model.grid.area.sum(), jnp.float32)


def differences(found, own):
    """What was added to tendencies and fluxes, which is the same everywhere."""
    added = {f"{n}_tendency": np.asarray(found.tendencies[n] - own.tendencies[n]) for n in PROGNOSTIC}
    added |= {n: np.asarray(found.fluxes[n] - own.fluxes[n]) / 10.0 for n in FLUXES}
    return {name: float(np.median(values)) for name, values in added.items()}


def test_it_acts_by_the_weight_of_the_step(model, at, own, strange, area):
    drive = Drive(spin_up_steps=2, ramp="linear", ramp_steps=4)
    physics = jax.jit(driven(model, strange, drive, area))
    for step, expected in {0: 0.0, 1: 0.0, 2: 0.25, 4: 0.75, 5: 1.0, 9: 1.0}.items():
        found = physics(at._replace(elapsed=jnp.int32(step)))
        assert all(abs(v - expected) < 1e-4 for v in differences(found, own).values()), step
        assert float(found.diagnostics["calls"]) == (1.0 if expected else 0.0)


def test_it_acts_on_the_variables_that_are_named(model, at, own, strange, area):
    names = ("temperature_tendency", "evaporation")
    found = differences(jax.jit(driven(model, strange, Drive(act_on=names, mix=0.5), area))(at), own)
    assert {name for name, value in found.items() if abs(value - 0.5) < 1e-4} == set(names)
    assert all(abs(value) < 1e-6 for name, value in found.items() if name not in names)


def test_a_shadow_does_not_act_and_is_scored(model, at, own, strange, area):
    found = jax.jit(driven(model, strange, Drive(shadow=True), area))(at)
    same(found, own, 1e-6)  # compiled in another program
    assert float(found.diagnostics["calls"]) == 1.0
    told = {key: found.diagnostics[shadow_name(key, "temperature_tendency")] for key in SHADOW}
    np.testing.assert_allclose(told["error"], 1.0, rtol=1e-4)
    np.testing.assert_allclose(told["square_error"], 1.0, rtol=1e-4)
    np.testing.assert_allclose(told["own"], own.tendencies["temperature"] @ area, rtol=1e-3, atol=1e-9)
    assert found.diagnostics[shadow_name("error", "evaporation")].shape == ()
