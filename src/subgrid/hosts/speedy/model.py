"""jcm with SPEEDY physics, driven step by step with any column physics in place of its own.

One compiled program (`SpeedyModel.advance`) serves data generation, the control and the coupled run. Each step is

    gridpoint state -> clamp q >= 0 -> column physics -> jcm's water correction -> dynamics

and keeps in its carry what the columns of the last step were, so that sampling needs no second program.
SPEEDY's physics gets a fresh carry at every step, which refreshes its shortwave each step: physics without memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax_datetime as jdt
import numpy as np
from jcm import constants as jcm_constants
from jcm.date import DateData
from jcm.forcing import ForcingData
from jcm.model import Model
from jcm.physics.physics_term import PhysicsTerm
from jcm.physics.speedy.speedy_coords import SpeedyCoords, get_speedy_coords
from jcm.physics.speedy.speedy_terms import speedy_physics
from jcm.physics_interface import PhysicsState, PhysicsTendency, verify_state, verify_tendencies
from numpy.typing import NDArray

from subgrid.base.errors import UsageError
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.variables import Variable, variable_set
from subgrid.hosts.base import Noise
from subgrid.hosts.diagnostics import Dimensions
from subgrid.hosts.models import departure_at
from subgrid.hosts.speedy.boundary import terrain_and_forcing
from subgrid.hosts.speedy.processes import PROGNOSTIC
from subgrid.hosts.speedy.settings import SpeedyConfig
from subgrid.physics.vertical import VerticalGrid

Fields = dict[str, jax.Array]
SURFACE_PRESSURE_SCALE = float(jcm_constants.p0)
G_TO_KG = 1e-3
#: Bounds of a stable state: K, m/s. The two top levels (sigma below 0.1) have a lower one, because the host's own
#: polar night cools them to 114 and 152 K (jcm 3.0 at T21, July, whether shortwave runs at every step or not).
TEMPERATURE_BOUNDS = (150.0, 350.0)
POLAR_NIGHT_BOUND, POLAR_NIGHT_SIGMA = 90.0, 0.1
WIND_BOUND = 200.0
#: Process groups whose tendencies can be recorded, with the categories of jcm's terms in each.
TERM_GROUPS: dict[str, tuple[str, ...]] = {
    "convection": ("convection",),
    "condensation": ("condensation",),
    "shortwave": ("radiation_sw",),
    "longwave": ("radiation_lw_down", "radiation_lw_up"),
    "surface": ("surface",),
    "diffusion": ("vertical_diffusion",),
}
#: Tendencies by the column physics that daily means keep.
PHYSICS_MEANS = ("temperature_tendency", "specific_humidity_tendency")
#: Fluxes that a column physics returns, and column budgets kept beside them in the daily means.
FLUXES = tuple(v.name for v in variable_set("speedy").targets if v.kind == "scalar")
BUDGETS = ("column_water_vapour", "column_heating", "column_moistening", "host_limiter_moistening")


def term_variables() -> tuple[Variable, ...]:
    """Variables of the array ``terms``: the tendency of each process group."""
    targets = {v.name: v for v in variable_set("speedy").targets}
    return tuple(
        replace(
            targets[f"{name}_tendency"],
            name=f"{name}_tendency_{group}",
            long_name=f"{targets[f'{name}_tendency'].long_name} by {group}",
        )
        for group in TERM_GROUPS
        for name in PROGNOSTIC
    )


class Carry(NamedTuple):
    """Everything that one step hands to the next.

    ``begun`` is the step at which the run began; ``memory`` holds the previous step's input state, the physics
    tendencies of the two previous steps and the previous dynamics tendency; ``columns`` the inputs and targets of the
    last step; ``sums`` what a daily mean needs; ``last_good`` the spectral state one step back.
    """

    state: Any
    time: jdt.Datetime
    step: jax.Array
    begun: jax.Array
    memory: Fields
    columns: Fields
    sums: Fields
    stable: jax.Array
    last_good: Any


class Result(NamedTuple):
    """What a column physics returns: tendencies (level, column), fluxes (column,), and diagnostics of any shape."""

    tendencies: Fields
    fluxes: Fields
    diagnostics: Fields


class Situation(NamedTuple):
    """What a column physics sees: its columns, the state and the forcing they come from, and steps since the start."""

    columns: Fields
    state: PhysicsState
    forcing: ForcingData
    elapsed: jax.Array


ColumnPhysics = Callable[[Situation], Result]


def flat(field: jax.Array) -> jax.Array:
    """(level, lon, lat) -> (level, column), (lon, lat) -> (column,)."""
    return field.reshape(*field.shape[:-2], -1)


#: Category of the terms that record.
TAP = "tap"


class _Tap(PhysicsTerm):
    """Records the running tendency sum between two of jcm's terms; adds nothing itself."""

    name = TAP
    category = TAP

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label

    def __call__(self, state: Any, diagnostics: Any, forcing: Any, terrain: Any) -> Any:
        running = {name: diagnostics["_tendency_run"][name] for name in PROGNOSTIC}
        return PhysicsTendency.zeros(state.temperature.shape), {
            **diagnostics,
            f"tap_{self.label}": running,
        }


class SpeedyModel:
    """The embedded model: grid, forcing, and the compiled step."""

    def __init__(self, config: SpeedyConfig | None = None, record_terms: bool = False) -> None:
        self.config = config or SpeedyConfig()
        self.coords = get_speedy_coords(layers=self.config.levels, spectral_truncation=self.config.truncation)
        terrain, self.forcing = terrain_and_forcing(self.config, self.coords)
        self.record_terms = record_terms
        physics = speedy_physics(checkpoint_terms=False)
        if record_terms:
            taps = [item for i, term in enumerate(physics.terms) for item in (_Tap(str(i)), term)] + [
                _Tap(str(len(physics.terms)))
            ]
            self.categories = [term.category for term in physics.terms]
            physics = type(physics)(terms=taps, checkpoint_terms=False)
        self.model = Model(
            coords=self.coords,
            terrain=terrain,
            physics=physics,
            time_step=self.config.time_step_minutes,
            start_time=self.config.start,
        )
        self.terrain = self.model.terrain
        self.speedy_coords = SpeedyCoords.from_coordinate_system(self.coords)
        self.dt = float(self.config.time_step_minutes * 60)
        self.fresh_physics_carry = self.model.initial_physics_carry()
        self.grid = self._grid()
        self.arrays = self._arrays()
        self._programs: dict[ColumnPhysics, Callable[[Carry, int, bool], Carry]] = {}
        boundaries = np.asarray(self.coords.vertical.boundaries)
        middle = 0.5 * (boundaries[1:] + boundaries[:-1])
        #: Lower bound of a stable temperature at each level, K.
        self.coldest = np.where(middle < POLAR_NIGHT_SIGMA, POLAR_NIGHT_BOUND, TEMPERATURE_BOUNDS[0])

    # -- geometry ---------------------------------------------------------------------------------------------

    def _grid(self) -> ColumnGrid:
        horizontal = self.coords.horizontal
        longitude = np.degrees(np.asarray(horizontal.nodal_axes[0], np.float64))
        latitude = np.degrees(np.arcsin(np.asarray(horizontal.nodal_axes[1], np.float64)))
        _, weights = np.polynomial.legendre.leggauss(len(latitude))
        area = np.broadcast_to(weights * 2.0 * np.pi / len(longitude), (len(longitude), len(latitude)))
        lon, lat = np.meshgrid(longitude, latitude, indexing="ij")
        boundaries = np.asarray(self.coords.vertical.boundaries, np.float64)
        return ColumnGrid(
            latitude=lat.ravel(),
            longitude=lon.ravel(),
            area=area.ravel().copy(),
            vertical=VerticalGrid.sigma(boundaries.tolist()),
            shape=(len(longitude), len(latitude)),
        )

    def grid_field(self, field: jax.Array) -> jax.Array:
        """(level, column) -> (level, lon, lat), (column,) -> (lon, lat)."""
        return field.reshape(*field.shape[:-1], *self.coords.horizontal.nodal_shape)

    def _arrays(self) -> dict[str, tuple[Variable, ...]]:
        """What a store holds, by array."""
        expanded, base = variable_set("speedy_expanded"), variable_set("speedy")
        history = tuple(v for v in expanded.inputs if v not in base.inputs)
        found = {"inputs": base.inputs, "history": history, "targets": base.targets}
        return {**found, "terms": term_variables()} if self.record_terms else found

    # -- the host's own physics -------------------------------------------------------------------------------

    def boundary(self, state: PhysicsState, forcing: ForcingData) -> Fields:
        """Columns' inputs known before any column physics: (level, column) and (column,), units as in `speedy`."""
        from jcm.physics.forcing.speedy_forcing import set_forcing
        from jcm.physics.speedy.params import Parameters
        from jcm.physics.speedy.physics_data import PhysicsData

        data = PhysicsData.zeros(
            self.coords.horizontal.nodal_shape,
            self.config.levels,
            dt_seconds=self.dt,
            speedy_coords=self.speedy_coords,
        )
        _, data = set_forcing(state, data, Parameters.default(), forcing, self.terrain)
        sun, surface = data.shortwave_rad, data.mod_radcon
        fields = {
            "temperature": state.temperature,
            "specific_humidity": state.specific_humidity,
            "u_wind": state.u_wind,
            "v_wind": state.v_wind,
            "surface_pressure": state.normalized_surface_pressure * SURFACE_PRESSURE_SCALE,
            "insolation": sun.fsol,
            "ozone_upper": sun.ozupp,
            "ozone_lower": sun.ozone,
            "zenith_factor": sun.zenit,
            "albedo": surface.albsfc,
            "land_fraction": self.terrain.fmask,
            "surface_geopotential": self.terrain.phis0,
            "sea_surface_temperature": forcing.sea_surface_temperature,
            "land_surface_temperature": forcing.stl_am,
            "sea_ice_fraction": forcing.sice_am,
            "soil_moisture": forcing.soilw_am,
            "snow_cover": surface.snowc,
        }
        return {name: flat(field) for name, field in fields.items()}

    def own_physics(self, at: Situation) -> Result:
        """SPEEDY's column physics (all terms, shortwave included at every step)."""
        tendency, out = self.model.physics.compute_tendencies(
            at.state, at.forcing, self.terrain, prev_physics_data=self.fresh_physics_carry
        )
        fluxes = self.own_fluxes(out)
        if self.record_terms:
            fluxes.update(self._terms(out))
        return Result({name: flat(getattr(tendency, name)) for name in PROGNOSTIC}, fluxes, {})

    @staticmethod
    def own_fluxes(out: Mapping[str, Any]) -> Fields:
        """Fluxes (column,) from what jcm's terms leave behind."""
        short, long, surface = out["_shortwave_rad"], out["_longwave_rad"], out["_surface_flux"]
        fluxes = {
            "convective_precipitation": out["_convection"].precnv * G_TO_KG,
            "large_scale_precipitation": out["_condensation"].precls * G_TO_KG,
            "absorbed_solar": short.ftop,
            "outgoing_longwave": long.ftop,
            "surface_net_shortwave": short.rsns,
            "surface_downward_longwave": surface.rlds,
            "surface_upward_longwave": surface.rlus,
            "sensible_heat_flux": surface.shf,
            "evaporation": surface.evap * G_TO_KG,
            "surface_stress_u": surface.ustr,
            "surface_stress_v": surface.vstr,
            "surface_net_heat_flux": surface.hfluxn,
        }
        return {name: flat(field) for name, field in fluxes.items()}

    def own_terms(self, *categories: str) -> list[PhysicsTerm]:
        """jcm's terms of ``categories``, in the order given."""
        by_category = {term.category: term for term in self.model.physics.terms}
        return [by_category[c] for c in categories]

    def _terms(self, out: Mapping[str, Any]) -> Fields:
        """Tendency of each process group from the taps between jcm's terms."""
        found: Fields = {}
        for group, categories in TERM_GROUPS.items():
            for name in PROGNOSTIC:
                total = sum(
                    out[f"tap_{i + 1}"][name] - out[f"tap_{i}"][name]
                    for i, category in enumerate(self.categories)
                    if category in categories
                )
                found[f"{name}_tendency_{group}"] = flat(jnp.asarray(total))
        return found

    # -- the step ---------------------------------------------------------------------------------------------

    def program(self, physics: ColumnPhysics | None = None) -> Callable[[Carry, int, bool], Carry]:
        """The compiled ``advance(carry, steps, reset_sums)`` with ``physics`` (the host's own by default).

        ``steps`` is dynamic: one program serves any stretch. It stops early, with ``carry.stable`` false, at the
        first step whose state is not finite or out of bounds; ``carry.columns`` then holds that state.
        """
        chosen = physics or self.own_physics
        if chosen in self._programs:
            return self._programs[chosen]

        def advance(carry: Carry, steps: jax.Array, reset: jax.Array) -> Carry:
            sums = jax.tree.map(lambda x: jnp.where(reset, jnp.zeros_like(x), x), carry.sums)
            carry = carry._replace(sums=sums)

            def go_on(loop: tuple[jax.Array, Carry]) -> jax.Array:
                return (loop[0] < steps) & loop[1].stable

            def body(loop: tuple[jax.Array, Carry]) -> tuple[jax.Array, Carry]:
                return loop[0] + 1, self._step(chosen, loop[1])

            return jax.lax.while_loop(go_on, body, (jnp.int32(0), carry))[1]

        compiled = jax.jit(advance)

        def run(carry: Carry, steps: int, reset: bool = False) -> Carry:
            return compiled(carry, jnp.int32(steps), jnp.bool_(reset))

        self._programs[chosen] = run
        return run

    def _step(self, physics: ColumnPhysics, carry: Carry) -> Carry:
        raw = self.model.dycore.to_physics_state(carry.state)
        wind = jnp.maximum(jnp.abs(raw.u_wind).max(), jnp.abs(raw.v_wind).max())
        good = (
            (raw.temperature > self.coldest[:, None, None]).all()
            & (raw.temperature.max() < TEMPERATURE_BOUNDS[1])
            & (wind < WIND_BOUND)
            & jnp.isfinite(raw.specific_humidity.sum())
        )
        entered = {name: flat(getattr(raw, name)) for name in PROGNOSTIC}

        def refuse(old: Carry) -> Carry:
            return old._replace(columns={**old.columns, **entered}, stable=jnp.bool_(False))

        def accept(old: Carry) -> Carry:
            return self._accepted_step(physics, raw, old)

        return jax.lax.cond(good, accept, refuse, carry)

    def _accepted_step(self, physics: ColumnPhysics, raw: PhysicsState, carry: Carry) -> Carry:
        forcing = self.forcing.select(DateData(carry.time, carry.step, self.dt))
        state = verify_state(raw)
        columns = self.boundary(state, forcing)
        columns.update(self._history(columns, carry))
        result = physics(Situation(columns, state, forcing, carry.step - carry.begun))
        unlimited = PhysicsTendency(
            **{name: self.grid_field(result.tendencies[name]) for name in PROGNOSTIC}, tracers={}
        )
        tendency = verify_tendencies(state, unlimited, self.dt)
        applied = {name: flat(getattr(tendency, name)) for name in PROGNOSTIC}
        limiter = applied["specific_humidity"] - result.tendencies["specific_humidity"]
        columns.update({f"{name}_tendency": applied[name] for name in PROGNOSTIC})
        columns.update(result.fluxes)
        sums = self._add_to_sums(carry.sums, columns, limiter, result.diagnostics)
        memory = {
            **{name: columns[name] for name in PROGNOSTIC},
            **{f"{name}_prvphy": applied[name] for name in PROGNOSTIC},
            **{f"tm_{name}_prvphy": carry.memory[f"{name}_prvphy"] for name in PROGNOSTIC},
            **{f"{name}_dyn": columns[f"{name}_dyn"] for name in PROGNOSTIC},
        }
        return Carry(
            state=self.model.dycore.step(carry.state, tendency),
            time=carry.time + jdt.Timedelta(seconds=jnp.int32(int(self.dt))),
            step=carry.step + 1,
            begun=carry.begun,
            memory=memory,
            columns={name: columns[name] for name in carry.columns},
            sums=sums,
            stable=jnp.bool_(True),
            last_good=carry.state,
        )

    def _history(self, columns: Fields, carry: Carry) -> Fields:
        """Physics tendencies of the two previous steps, dynamics tendencies of this and the previous, latitude."""
        memory = carry.memory
        found: Fields = {}
        for name in PROGNOSTIC:
            total = (columns[name] - memory[name]) / self.dt
            found[f"{name}_prvphy"] = memory[f"{name}_prvphy"]
            found[f"tm_{name}_prvphy"] = memory[f"tm_{name}_prvphy"]
            found[f"{name}_dyn"] = total - memory[f"{name}_prvphy"]
            found[f"tm_{name}_dyn"] = memory[f"{name}_dyn"]
        latitude = jnp.asarray(np.radians(self.grid.latitude), jnp.float32)
        return {**found, "clat": jnp.cos(latitude), "slat": jnp.sin(latitude)}

    def _add_to_sums(self, sums: Fields, columns: Fields, limiter: jax.Array, diagnostics: Fields) -> Fields:
        thickness = jnp.asarray(np.diff(np.asarray(self.coords.vertical.boundaries)), jnp.float32)
        mass = thickness[:, None] * columns["surface_pressure"] / jcm_constants.grav
        derived = {
            "column_water_vapour": (mass * columns["specific_humidity"]).sum(0),
            "column_heating": jcm_constants.cpd * (mass * columns["temperature_tendency"]).sum(0),
            "column_moistening": (mass * columns["specific_humidity_tendency"]).sum(0),
            "host_limiter_moistening": (mass * limiter).sum(0),
            **diagnostics,
        }
        return {
            name: value + (columns[name] if name in columns else derived.get(name, 0.0)) for name, value in sums.items()
        }

    def nudged(self, carry: Carry, noise: Noise) -> Carry:
        """The state with ``noise`` on its temperature, as far as the spectral truncation holds it."""
        horizontal = self.coords.horizontal
        random = np.random.default_rng((noise.member, int(carry.step)))
        shape = (self.config.levels, *horizontal.nodal_shape)
        modal = horizontal.to_modal(random.standard_normal(shape).astype(np.float32))
        modal = modal * (noise.size / float(jnp.std(horizontal.to_nodal(modal))))
        state = replace(carry.state, temperature_variation=carry.state.temperature_variation + modal)
        return carry._replace(state=state, last_good=state)

    def perturber(self, seed: int) -> Callable[[Carry], Fields]:
        """See :func:`subgrid.hosts.speedy.perturb.perturber`."""
        from subgrid.hosts.speedy.perturb import perturber

        return perturber(self, seed)

    def departure(self, carry: Carry) -> dict[str, Any]:
        """The first variable, level and place beyond the bounds, from the state that was refused."""
        for name in PROGNOSTIC:
            values = np.asarray(carry.columns[name])
            if name == "temperature":
                low, high = self.coldest[:, None], TEMPERATURE_BOUNDS[1]
                beyond = np.maximum(low - values, values - high)
            elif name in ("u_wind", "v_wind"):
                beyond = np.abs(values) - WIND_BOUND
            else:
                beyond = np.full(values.shape, -1.0)
            found = departure_at(self.grid, name, values, beyond)
            if found is not None:
                return found
        return {"reason": "state out of bounds"}

    # -- states -----------------------------------------------------------------------------------------------

    def climate_names(self) -> tuple[list[str], list[str]]:
        """Names of the daily-mean fields: profiles, then scalars."""
        return [*PROGNOSTIC, *PHYSICS_MEANS], ["surface_pressure", *FLUXES, *BUDGETS]

    def column_names(self) -> list[str]:
        """Names of everything that ``carry.columns`` holds."""
        expanded = variable_set("speedy_expanded")
        names = [v.name for v in (*expanded.inputs, *expanded.targets)]
        if self.record_terms:
            names += [v.name for v in term_variables()]
        return names

    def initial(self, diagnostics: Dimensions | None = None) -> Carry:
        """The host's default initial state (isothermal, at rest, perturbed) at the configured start."""
        return self.restart(self.model.initial_state(), self.model.start_time, 0, None, diagnostics)

    def restart(
        self,
        state: Any,
        time: jdt.Datetime,
        step: int,
        memory: Fields | None,
        diagnostics: Dimensions | None = None,
    ) -> Carry:
        """A carry that begins from a spectral state; without ``memory`` the previous tendencies are zero.

        ``diagnostics`` names the sums that a column physics adds to, with their dimensions.
        """
        levels, n = self.config.levels, self.grid.columns
        profile, scalar = jnp.zeros((levels, n), jnp.float32), jnp.zeros(n, jnp.float32)
        blank = {(): jnp.float32(0.0), ("level",): jnp.zeros(levels, jnp.float32), ("column",): scalar}
        if memory is None:
            current = verify_state(self.model.dycore.to_physics_state(state))
            memory = {name: flat(getattr(current, name)) for name in PROGNOSTIC}
            for name in PROGNOSTIC:
                memory |= {k: profile for k in (f"{name}_prvphy", f"tm_{name}_prvphy", f"{name}_dyn")}
        profiles, scalars = self.climate_names()
        expanded = variable_set("speedy_expanded")
        flat_scalars = {v.name for v in (*expanded.inputs, *expanded.targets) if v.kind == "scalar"}
        return Carry(
            state=state,
            time=time,
            step=jnp.int32(step),
            begun=jnp.int32(step),
            memory=memory,
            columns={name: scalar if name in flat_scalars else profile for name in self.column_names()},
            sums={
                **dict.fromkeys(profiles, profile),
                **dict.fromkeys(scalars, scalar),
                **{name: blank[dims] for name, dims in (diagnostics or {}).items()},
            },
            stable=jnp.bool_(True),
            last_good=state,
        )

    def to_arrays(self, carry: Carry) -> dict[str, NDArray[Any]]:
        """What a restart needs, as plain arrays (complex as pairs)."""
        kept = (carry.state, carry.time, carry.step, carry.memory)
        found = {}
        for i, leaf in enumerate(jax.tree.leaves(kept)):
            values = np.asarray(leaf)
            if np.iscomplexobj(values):
                values = np.stack([values.real, values.imag], axis=-1)
            found[f"carry.{i:03d}"] = values
        return found

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]], diagnostics: Dimensions | None = None) -> Carry:
        """Rebuild a carry from :meth:`to_arrays`, at a day's start.

        Raises:
            UsageError: the arrays are of another resolution.
        """
        template = self.initial()
        kept = (template.state, template.time, template.step, template.memory)
        leaves, structure = jax.tree.flatten(kept)
        names = sorted(k for k in arrays if k.startswith("carry."))
        if len(names) != len(leaves):
            raise UsageError(f"the restart holds {len(names)} arrays, this host needs {len(leaves)}")
        rebuilt = []
        for name, leaf in zip(names, leaves, strict=True):
            values, like = np.asarray(arrays[name]), np.asarray(leaf)
            if np.iscomplexobj(like):
                values = values[..., 0] + 1j * values[..., 1]
            if values.shape != like.shape:
                raise UsageError(
                    f"the restart's state has shape {values.shape}, this host's {like.shape}: it is of another "
                    "resolution"
                )
            rebuilt.append(jnp.asarray(values.astype(like.dtype)))
        state, time, step, memory = jax.tree.unflatten(structure, rebuilt)
        return self.restart(state, time, int(step), memory, diagnostics)

    @staticmethod
    def seconds(time: jdt.Datetime) -> int:
        """Seconds since 1970-01-01 of the model clock."""
        return int(time.delta.days) * 86400 + int(time.delta.seconds)
