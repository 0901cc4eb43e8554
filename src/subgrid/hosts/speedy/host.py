"""The host `speedy` as the other rooms see it: generate columns, integrate with own physics or an emulator."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from subgrid.base.arrays import read_arrays, write_arrays
from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.progress import Progress
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.store import ColumnStore
from subgrid.columns.variables import VariableSet, offsets, variable_set
from subgrid.emulator.base import ColumnEmulator
from subgrid.hosts.base import AS_TRAINED, Integration, check_fits
from subgrid.hosts.bridge import FlatFunction, flat_function, null_callback_function
from subgrid.hosts.climate import PIECE_DAYS, ClimateWriter
from subgrid.hosts.diagnostics import Dimensions, dimensions, summarise
from subgrid.hosts.driving import Drive
from subgrid.hosts.speedy.acting import beside_own, driven, with_own_surface
from subgrid.hosts.speedy.generate import Generator
from subgrid.hosts.speedy.model import (
    FLUXES,
    TEMPERATURE_BOUNDS,
    WIND_BOUND,
    Carry,
    ColumnPhysics,
    Result,
    Situation,
    SpeedyModel,
)
from subgrid.hosts.speedy.processes import GROUPS, PROCESSES, PROGNOSTIC
from subgrid.hosts.speedy.settings import GenerateConfig, SpeedyConfig

logger = logging.getLogger("subgrid")


class Speedy:
    """jcm with SPEEDY physics on real geography."""

    name = "speedy"

    def __init__(self, **settings: Any) -> None:
        self.config = SpeedyConfig(**settings)
        self._model: SpeedyModel | None = None
        self._driven: dict[tuple[int, Drive], tuple[ColumnPhysics, str, ColumnEmulator]] = {}

    @property
    def model(self) -> SpeedyModel:
        """The embedded model, built on first use."""
        if self._model is None:
            self._model = SpeedyModel(self.config)
        return self._model

    @property
    def grid(self) -> ColumnGrid:
        """Its columns."""
        return self.model.grid

    @property
    def variables(self) -> VariableSet:
        """Everything that it supplies and needs."""
        return variable_set("speedy_expanded")

    @property
    def time_step(self) -> float:
        """Step, s."""
        return float(self.config.time_step_minutes * 60)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Resolution and clock."""
        return asdict(self.config)

    def generate(self, path: Path | str, settings: GenerateConfig) -> ColumnStore:
        """Make (or go on making) a column store with its control climate."""
        return Generator(path, self.config, settings, self.name).run()

    @property
    def processes(self) -> Mapping[str, tuple[str, ...]]:
        """SPEEDY's processes and the targets of each."""
        return PROCESSES

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Names of several processes together."""
        return GROUPS

    def start(self, restart: Path, diagnostics: Dimensions | None = None) -> Carry:
        """The state saved at ``restart``.

        Raises:
            SubgridError: the file is missing or damaged.
        """
        return self._carry(restart, diagnostics, "choose a date that the store has a sound restart of")[0]

    def _carry(self, path: Path, diagnostics: Dimensions | None, advice: str) -> tuple[Carry, int]:
        """A saved state and the number of days that it has behind it."""
        try:
            held = read_arrays(path)
            carry, day = self.model.from_arrays(held, diagnostics), int(held.get("day", 0))
            return carry._replace(begun=carry.step - day * self.config.steps_per_day), day
        except SubgridError as error:
            raise type(error)(f"{error}: {advice}") from error
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise SubgridError(f"{path} holds another state than this host's ({error!r}): {advice}") from error

    def flat_columns(self, carry: Carry, emulator: ColumnEmulator) -> NDArray[np.float32]:
        """Columns of the current state as the emulator reads them, (column, n_in), one step of own physics ahead."""
        stepped = self.model.program()(carry, 1, True)
        parts = [np.atleast_2d(np.asarray(stepped.columns[v.name])) for v in emulator.variables.inputs]
        return np.ascontiguousarray(np.concatenate(parts).T.astype(np.float32))

    def emulator_physics(
        self,
        emulator: ColumnEmulator,
        sample: NDArray[np.float32],
        drive: Drive | None = None,
        replace: str = AS_TRAINED,
    ) -> tuple[ColumnPhysics, str]:
        """The emulator in place of the processes that it was trained for, as ``drive`` lets it act, and its bridge.

        Raises:
            UsageError: the emulator does not fit this host.
        """
        drive = drive or Drive()
        key = (id(emulator), drive)
        if key in self._driven:
            return self._driven[key][:2]
        replaced = check_fits(emulator, self, replace)
        drive.require_known(tuple(v.name for v in self.variables.targets))
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
        self._driven[key] = (physics, used, emulator)  # holding the emulator keeps its id its own
        return physics, used

    def diagnostics(self, emulator: ColumnEmulator | None, drive: Drive) -> dict[str, tuple[str, ...]]:
        """Names and dimensions of what a run writes of its emulator."""
        targets = self.variables.targets if drive.shadow else ()
        return dimensions(emulator, {v.name: v.kind == "profile" for v in targets}) if emulator is not None else {}

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

    @staticmethod
    def null_physics(at: Situation) -> Result:
        """No column physics at all: what a step of the dynamics alone costs."""
        nothing = jnp.zeros_like(at.columns["temperature"])
        return Result(dict.fromkeys(PROGNOSTIC, nothing), dict.fromkeys(FLUXES, nothing[0]), {})

    def run(
        self,
        emulator: ColumnEmulator | None,
        restart: Path,
        days: int,
        folder: Path,
        drive: Drive | None = None,
        on_day: Callable[[int, Mapping[str, NDArray[Any]]], str | None] | None = None,
        title: str = "couple",
    ) -> Integration:
        """Integrate ``days`` from ``restart``, writing daily means to ``folder/daily``; resumes a cut run.

        Args:
            emulator: replaces the column physics that it was trained for; None runs the host's own.
            restart: a state saved by :meth:`generate`.
            days: length.
            folder: receives ``daily`` (Zarr), ``checkpoint.safetensors`` while running, and ``last_good.safetensors``
                if the run becomes unstable.
            drive: how the emulator acts.
            on_day: called with the day number and its means; a returned text stops the run as unstable.
            title: of the progress bar.
        """
        drive = drive or Drive()
        diagnostics = self.diagnostics(emulator, drive)
        carry = self.start(restart, diagnostics)
        begun = self.model.seconds(carry.time)
        physics, used = None, ""
        if emulator is not None:
            physics, used = self.emulator_physics(emulator, self.flat_columns(carry, emulator), drive)
        profiles, scalars = self.model.climate_names()
        folder.mkdir(parents=True, exist_ok=True)
        climate = ClimateWriter(
            folder / "daily",
            self.grid,
            profiles,
            scalars,
            start=begun,
            days=days,
            attributes={"host": self.name, "source": "emulator" if emulator is not None else "own physics"},
            diagnostics=diagnostics,
        )
        checkpoint = folder / "checkpoint.safetensors"
        day = 0
        if checkpoint.exists():
            carry, day = self._carry(checkpoint, diagnostics, f"remove {folder} and run the same command again")
        return self._days(carry, day, days, physics, folder, climate, on_day, used, title)

    def _days(
        self,
        carry: Carry,
        first: int,
        days: int,
        physics: ColumnPhysics | None,
        folder: Path,
        climate: ClimateWriter,
        on_day: Callable[[int, Mapping[str, NDArray[Any]]], str | None] | None,
        used: str,
        title: str,
    ) -> Integration:
        advance = self.model.program(physics)
        steps = self.config.steps_per_day
        walls: list[float] = []
        unstable: dict[str, Any] | None = None
        day = first
        with Progress(title, days, "days", done=first) as bar:
            while day < days and unstable is None:
                started = time.perf_counter()
                after = jax.block_until_ready(advance(carry, steps, True))
                walls.append((time.perf_counter() - started) / steps)
                if not bool(after.stable):
                    unstable = self._departure(after)
                    self._save(folder / "last_good.safetensors", after._replace(state=after.last_good), day)
                    break
                means = {n: np.asarray(v) / steps for n, v in after.sums.items()}
                climate.add(day, means)
                drifted = on_day(day, means) if on_day else None
                if drifted:
                    unstable = {"reason": drifted, "time": self._time(after)}
                    self._save(folder / "last_good.safetensors", carry, day)
                carry = after
                day += 1
                bar.update(1, self._time(carry)[:10])
                if day % PIECE_DAYS == 0 and day < days:
                    climate.flush()
                    self._save(folder / "checkpoint.safetensors", carry, day)
        climate.flush()
        (folder / "checkpoint.safetensors").unlink(missing_ok=True)
        return Integration(
            days=day,
            seconds_per_step=float(np.median(walls[1:] or walls or [0.0])),
            unstable=unstable,
            bridge=used,
        )

    def _save(self, path: Path, carry: Carry, day: int) -> None:
        write_arrays(path, {**self.model.to_arrays(carry), "day": np.asarray(day)})

    def _time(self, carry: Carry) -> str:
        moment = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=self.model.seconds(carry.time))
        return moment.isoformat()

    def _departure(self, carry: Carry) -> dict[str, Any]:
        """The first variable, level and place beyond the bounds, from the state that was refused."""
        for name in PROGNOSTIC:
            values = np.asarray(carry.columns[name])
            if name == "temperature":
                low, high = self.model.coldest[:, None], TEMPERATURE_BOUNDS[1]
                beyond = np.maximum(low - values, values - high)
            elif name in ("u_wind", "v_wind"):
                beyond = np.abs(values) - WIND_BOUND
            else:
                beyond = np.full(values.shape, -1.0)
            beyond = np.where(np.isfinite(values), beyond, np.inf)
            if not (beyond > 0).any():
                continue
            level, column = np.unravel_index(int(np.argmax(beyond)), beyond.shape)
            value = float(values[level, column])
            return {
                "reason": f"{name} out of bounds",
                "variable": name,
                "value": value if np.isfinite(value) else str(value),
                "level": int(level),
                "sigma": round(float(self.grid.vertical.sigma_levels[level]), 4),
                "latitude": round(float(self.grid.latitude[column]), 2),
                "longitude": round(float(self.grid.longitude[column]), 2),
                "time": self._time(carry),
            }
        return {"reason": "state out of bounds", "time": self._time(carry)}

    def time_steps(
        self, physics: ColumnPhysics | None, restart: Path, days: int = 2, diagnostics: Dimensions | None = None
    ) -> float:
        """Seconds per step with ``physics``, the least of ``days`` days after compilation."""
        carry = self.start(restart, diagnostics)
        advance = self.model.program(physics)
        jax.block_until_ready(advance(carry, 1, True))
        walls = []
        for _ in range(days):
            started = time.perf_counter()
            jax.block_until_ready(advance(carry, self.config.steps_per_day, True))
            walls.append((time.perf_counter() - started) / self.config.steps_per_day)
        return min(walls)
