"""The host `speedy` as the other rooms see it: generate columns, integrate with own physics or an emulator."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from subgrid.base.arrays import read_arrays, write_arrays
from subgrid.base.errors import SubgridError, unknown_name
from subgrid.base.progress import Progress
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.store import ColumnStore
from subgrid.columns.variables import VariableSet, offsets, variable_set
from subgrid.emulator.base import ColumnEmulator
from subgrid.hosts.base import KEEPS, check_fits
from subgrid.hosts.bridge import flat_function, null_callback_function
from subgrid.hosts.climate import PIECE_DAYS, ClimateWriter
from subgrid.hosts.speedy.generate import Generator
from subgrid.hosts.speedy.model import (
    PROGNOSTIC,
    TEMPERATURE_BOUNDS,
    WIND_BOUND,
    Carry,
    ColumnPhysics,
    Fields,
    Result,
    SpeedyModel,
)
from subgrid.hosts.speedy.settings import GenerateConfig, SpeedyConfig

logger = logging.getLogger("subgrid")


@dataclass
class Integration:
    """What an integration left behind.

    ``unstable`` is None, or names the first variable, level, place and time out of bounds. ``seconds_per_step`` is
    the wall time of a step after compilation.
    """

    days: int
    seconds_per_step: float
    unstable: dict[str, Any] | None = None
    bridge: str = ""
    counters: list[str] = field(default_factory=list)


class Speedy:
    """jcm with SPEEDY physics on real geography."""

    name = "speedy"

    def __init__(self, **settings: Any) -> None:
        self.config = SpeedyConfig(**settings)
        self._model: SpeedyModel | None = None
        self._driven: dict[tuple[int, str, str], tuple[ColumnPhysics, str, ColumnEmulator]] = {}

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

    def start(self, restart: Path, counters: tuple[str, ...] = ()) -> Carry:
        """The state saved at ``restart``.

        Raises:
            SubgridError: the file is missing or damaged.
        """
        return self._carry(restart, counters, "choose a date that the store has a sound restart of")[0]

    def _carry(self, path: Path, counters: tuple[str, ...], advice: str) -> tuple[Carry, int]:
        """A saved state and the number of days that it has behind it."""
        try:
            held = read_arrays(path)
            return self.model.from_arrays(held, counters), int(held.get("day", 0))
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
        self, emulator: ColumnEmulator, sample: NDArray[np.float32], bridge: str = "auto", keep: str = "none"
    ) -> tuple[ColumnPhysics, str]:
        """The emulator as the whole column physics, but for what the host is to ``keep``, and its bridge.

        Raises:
            UsageError: the emulator does not fit this host, or an unknown ``keep`` or ``bridge``.
        """
        if keep not in KEEPS:
            raise unknown_name("couple.keep", keep, KEEPS)
        key = (id(emulator), bridge, keep)
        if key in self._driven:
            return self._driven[key][:2]
        check_fits(emulator, self, keep)
        function, used = flat_function(emulator, sample, bridge)
        physics = self._as_physics(emulator, function)
        if keep == "surface":
            physics = self.model.with_own_surface(physics)
        elif keep == "diffusion":
            physics = self.model.with_own_diffusion(physics)
        self._driven[key] = (physics, used, emulator)  # holding the emulator keeps its id its own
        return physics, used

    def null_callback_physics(self, emulator: ColumnEmulator) -> ColumnPhysics:
        """No column physics, but the crossing to torch and back that ``emulator`` would need."""
        return self._as_physics(emulator, null_callback_function(emulator, self.grid.columns))

    def _as_physics(self, emulator: ColumnEmulator, function: Callable[[jax.Array], Any]) -> ColumnPhysics:
        levels = self.grid.levels
        place = offsets(emulator.variables.targets, levels)
        area = jnp.asarray(self.grid.area / self.grid.area.sum(), jnp.float32)

        def physics(columns: Fields, state: Any, forcing: Any) -> Result:
            del state, forcing
            parts = [jnp.atleast_2d(columns[v.name]) for v in emulator.variables.inputs]
            y, counted = function(jnp.concatenate(parts).T)
            y = y.T
            tendencies = {name: y[place[f"{name}_tendency"]] for name in PROGNOSTIC}
            fluxes = {v.name: y[place[v.name].start] for v in emulator.variables.targets if v.kind == "scalar"}
            means = counted.T @ area
            return Result(tendencies, fluxes, {n: means[i] for i, n in enumerate(emulator.counters)})

        return physics

    def null_physics(self, columns: Fields, state: Any, forcing: Any) -> Result:
        """No column physics at all: what a step of the dynamics alone costs."""
        del state, forcing
        zero = {v.name: jnp.zeros_like(columns["surface_pressure"]) for v in variable_set("speedy").targets}
        nothing = jnp.zeros_like(columns["temperature"])
        fluxes = {v.name: zero[v.name] for v in variable_set("speedy").targets if v.kind == "scalar"}
        return Result(dict.fromkeys(PROGNOSTIC, nothing), fluxes, {})

    def run(
        self,
        emulator: ColumnEmulator | None,
        restart: Path,
        days: int,
        folder: Path,
        bridge: str = "auto",
        keep: str = "none",
        on_day: Callable[[int, Mapping[str, NDArray[Any]]], str | None] | None = None,
        title: str = "couple",
    ) -> Integration:
        """Integrate ``days`` from ``restart``, writing daily means to ``folder/daily``; resumes a cut run.

        Args:
            emulator: replaces all column physics; None runs the host's own.
            restart: a state saved by :meth:`generate`.
            days: length.
            folder: receives ``daily`` (Zarr), ``checkpoint.safetensors`` while running, and ``last_good.safetensors``
                if the run becomes unstable.
            bridge: see :func:`subgrid.hosts.bridge.flat_function`.
            keep: ``none``; ``surface``: the host's own surface fluxes, driven by the emulator's radiation;
                ``diffusion``: the host's own vertical diffusion beside an emulator trained without it.
            on_day: called with the day number and its means; a returned text stops the run as unstable.
            title: of the progress bar.
        """
        counters = tuple(emulator.counters) if emulator is not None else ()
        carry = self.start(restart, counters)
        begun = self.model.seconds(carry.time)
        physics, used = None, ""
        if emulator is not None:
            physics, used = self.emulator_physics(emulator, self.flat_columns(carry, emulator), bridge, keep)
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
            counters=counters,
        )
        checkpoint = folder / "checkpoint.safetensors"
        day = 0
        if checkpoint.exists():
            carry, day = self._carry(checkpoint, counters, f"remove {folder} and run the same command again")
        return self._days(carry, day, days, physics, folder, climate, on_day, used, list(counters), title)

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
        counters: list[str],
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
            counters=counters,
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
        self, physics: ColumnPhysics | None, restart: Path, days: int = 2, counters: tuple[str, ...] = ()
    ) -> float:
        """Seconds per step with ``physics``, the least of ``days`` days after compilation."""
        carry = self.start(restart, counters)
        advance = self.model.program(physics)
        jax.block_until_ready(advance(carry, 1, True))
        walls = []
        for _ in range(days):
            started = time.perf_counter()
            jax.block_until_ready(advance(carry, self.config.steps_per_day, True))
            walls.append((time.perf_counter() - started) / self.config.steps_per_day)
        return min(walls)
