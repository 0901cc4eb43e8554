"""A host that steps a model: runs from restarts day by day, resumed where they were cut, and writes their climate."""

from __future__ import annotations

import datetime as dt
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.base.arrays import read_arrays, write_arrays
from subgrid.base.errors import SubgridError
from subgrid.base.progress import Progress
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.store import ColumnStore
from subgrid.columns.variables import VariableSet
from subgrid.emulator.base import ColumnEmulator
from subgrid.hosts.base import AS_TRAINED, Integration, Noise, check_fits
from subgrid.hosts.climate import PIECE_DAYS, ClimateWriter
from subgrid.hosts.diagnostics import dimensions
from subgrid.hosts.driving import Drive
from subgrid.hosts.generate import Generator
from subgrid.hosts.models import SteppedModel
from subgrid.hosts.sampling import GenerateConfig

OnDay = Callable[[int, Mapping[str, NDArray[Any]]], str | None]


class SteppedHost(ABC):
    """What hosts share that step a :class:`SteppedModel`.

    Attributes:
        name: of the host.
        config: its settings, a dataclass with ``start`` and ``steps_per_day``.
    """

    name = ""

    def __init__(self, config: Any) -> None:
        self.config = config
        self._model: Any = None
        self._driven: dict[tuple[int, Drive], tuple[Any, str, ColumnEmulator]] = {}

    @abstractmethod
    def build(self, record_terms: bool = False) -> SteppedModel:
        """A model as ``config`` says; with ``record_terms`` its columns hold the tendencies of each process."""

    @abstractmethod
    def act(
        self, emulator: ColumnEmulator, sample: NDArray[np.float32], drive: Drive, replaced: frozenset[str]
    ) -> tuple[Any, str]:
        """The emulator as a column physics of this host's model in place of ``replaced``, and its bridge."""

    def emulator_physics(
        self,
        emulator: ColumnEmulator,
        sample: NDArray[np.float32],
        drive: Drive | None = None,
        replace: str = AS_TRAINED,
    ) -> tuple[Any, str]:
        """The emulator in place of the processes that it was trained for, as ``drive`` lets it act, and its bridge.

        Args:
            emulator: what is to act.
            sample: columns as it reads them, (column, n_in).
            drive: how.
            replace: processes that it must stand for.

        Raises:
            UsageError: the emulator does not fit this host.
        """
        drive = drive or Drive()
        key = (id(emulator), drive)
        if key not in self._driven:
            replaced = check_fits(emulator, self, replace)
            drive.require_known(tuple(v.name for v in self.variables.targets))
            # holding the emulator keeps its id its own
            self._driven[key] = (*self.act(emulator, sample, drive, replaced), emulator)
        return self._driven[key][:2]

    @abstractmethod
    def null_physics(self, at: Any) -> Any:
        """No column physics at all: what a step of the dynamics alone costs."""

    def null_callback_physics(self, emulator: ColumnEmulator) -> Any:
        """No column physics, but the crossing that ``emulator`` would need; None: there is none."""
        del emulator

    @property
    @abstractmethod
    def variables(self) -> VariableSet:
        """Everything that it supplies and needs."""

    @property
    @abstractmethod
    def processes(self) -> Mapping[str, tuple[str, ...]]:
        """Its processes and the targets of each."""

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Names of several processes together."""
        return {}

    @property
    def model(self) -> Any:
        """The model, built on first use."""
        if self._model is None:
            self._model = self.build()
        return self._model

    @property
    def grid(self) -> ColumnGrid:
        """Its columns."""
        found: ColumnGrid = self.model.grid
        return found

    @property
    def land(self) -> NDArray[np.float64] | None:
        """Share of land of each column, (column,); None: the host knows no land."""
        return None

    @property
    def time_step(self) -> float:
        """Step, s."""
        return float(86400 / self.config.steps_per_day)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Its settings."""
        return asdict(self.config)

    def generate(self, path: Path | str, settings: GenerateConfig) -> ColumnStore:
        """Make (or go on making) a column store with its control climate."""
        return Generator(path, self.name, self.config, settings, lambda: self.build(settings.terms)).run()

    def diagnostics(self, emulator: ColumnEmulator | None, drive: Drive) -> dict[str, tuple[str, ...]]:
        """Names and dimensions of what a run writes of its emulator."""
        targets = self.variables.targets if drive.shadow else ()
        return dimensions(emulator, {v.name: v.kind == "profile" for v in targets}) if emulator is not None else {}

    def start(self, restart: Path, diagnostics: Mapping[str, tuple[str, ...]] | None = None) -> Any:
        """The state saved at ``restart``.

        Raises:
            SubgridError: the file is missing or damaged.
        """
        return self._carry(restart, diagnostics, "choose a date that the store has a sound restart of")[0]

    def _carry(self, path: Path, diagnostics: Mapping[str, tuple[str, ...]] | None, advice: str) -> tuple[Any, int]:
        """A saved state and the number of days that it has behind it."""
        try:
            held = read_arrays(path)
            carry, day = self.model.from_arrays(held, diagnostics), int(held.get("day", 0))
            return carry._replace(begun=carry.step - day * self.config.steps_per_day), day
        except SubgridError as error:
            raise type(error)(f"{error}: {advice}") from error
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise SubgridError(f"{path} holds another state than this host's ({error!r}): {advice}") from error

    def flat_columns(self, carry: Any, emulator: ColumnEmulator) -> NDArray[np.float32]:
        """Columns of the current state as the emulator reads them, (column, n_in), one step of own physics ahead."""
        stepped = self.model.program()(carry, 1, True)
        parts = [np.atleast_2d(np.asarray(stepped.columns[v.name])) for v in emulator.variables.inputs]
        return np.ascontiguousarray(np.concatenate(parts).T.astype(np.float32))

    def run(
        self,
        emulator: ColumnEmulator | None,
        restart: Path,
        days: int,
        folder: Path,
        drive: Drive | None = None,
        noise: Noise | None = None,
        on_day: OnDay | None = None,
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
            noise: on the first state.
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
        if noise is not None and noise.size:
            carry = self.model.nudged(carry, noise)
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
        carry: Any,
        first: int,
        days: int,
        physics: Any,
        folder: Path,
        climate: ClimateWriter,
        on_day: OnDay | None,
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
                after = advance(carry, steps, True)
                stable = bool(after.stable)  # waits for the last step
                walls.append((time.perf_counter() - started) / steps)
                if not stable:
                    unstable = {**self.model.departure(after), "time": self._time(after)}
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

    def _save(self, path: Path, carry: Any, day: int) -> None:
        write_arrays(path, {**self.model.to_arrays(carry), "day": np.asarray(day)})

    def _time(self, carry: Any) -> str:
        moment = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=self.model.seconds(carry.time))
        return moment.isoformat()

    def time_steps(
        self,
        physics: Any,
        restart: Path,
        days: int = 2,
        diagnostics: Mapping[str, tuple[str, ...]] | None = None,
    ) -> float:
        """Seconds per step with ``physics`` (None: its own), the least of ``days`` days after compilation."""
        carry = self.start(restart, diagnostics)
        advance = self.model.program(physics)
        bool(advance(carry, 1, True).stable)
        walls = []
        for _ in range(days):
            started = time.perf_counter()
            bool(advance(carry, self.config.steps_per_day, True).stable)
            walls.append((time.perf_counter() - started) / self.config.steps_per_day)
        return min(walls)
