"""Hosts that run in torch, seconds a year: many independent columns in one batch, stepped one step at a time."""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from subgrid.base.errors import UsageError
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.variables import Variable, VariableSet, offsets, profiles, scalars
from subgrid.emulator.base import ColumnEmulator
from subgrid.emulator.flat import MonitoredEmulator
from subgrid.hosts.base import Noise
from subgrid.hosts.diagnostics import SHADOW, Dimensions, shadow_name, summarise
from subgrid.hosts.driving import Drive
from subgrid.hosts.models import departure_at
from subgrid.hosts.stepping import SteppedHost
from subgrid.physics.vertical import VerticalGrid

#: Profiles (level, column) and scalars (column,), float64.
Parts: TypeAlias = dict[str, Tensor]


class TorchCarry(NamedTuple):
    """See :class:`subgrid.hosts.models.Carry`; ``time`` is in seconds since 1970-01-01."""

    state: Parts
    time: int
    step: int
    begun: int
    columns: Parts
    sums: dict[str, Any]
    stable: bool
    last_good: Parts


class Answer(NamedTuple):
    """What a column physics gives: tendencies and fluxes by target, and diagnostics of any shape (numpy)."""

    targets: Parts
    diagnostics: dict[str, Any]


class Situation(NamedTuple):
    """What a column physics sees: its columns, the whole state that they come from, and steps since the start."""

    columns: Parts
    state: Parts
    elapsed: int


Physics: TypeAlias = Callable[[Situation], Answer]


def columns_around(columns: int, levels: int) -> ColumnGrid:
    """So many columns of equal area around the equator, with levels of equal mass."""
    vertical = VerticalGrid.sigma(np.linspace(0.0, 1.0, levels + 1).tolist())
    around = np.linspace(0.0, 360.0, columns, endpoint=False)
    return ColumnGrid(np.zeros(columns), around, np.full(columns, 4.0 * np.pi / columns), vertical)


class TorchModel(ABC):
    """A model of independent columns in torch, float64.

    A step is: columns of the state -> its column physics or another -> :meth:`advance`. Random numbers of a step depend
    on the seed and on its number alone, so that a restart goes on as if nothing had happened.

    Args:
        config: settings, with ``start``, ``steps_per_day`` and ``seed``.
        grid: the columns.
        variables: what is supplied and needed.
        bounds: least and largest value of a stable state, by prognostic variable.
        record_terms: keep the tendencies of each process among the columns.
    """

    def __init__(
        self,
        config: Any,
        grid: ColumnGrid,
        variables: VariableSet,
        bounds: Mapping[str, tuple[float, float]],
        record_terms: bool = False,
    ) -> None:
        self.config, self.grid, self.variables, self.bounds = config, grid, variables, dict(bounds)
        self.record_terms = record_terms
        self.dt = 86400.0 / config.steps_per_day
        self.arrays: dict[str, tuple[Variable, ...]] = {"inputs": variables.inputs, "targets": variables.targets}
        if record_terms:
            self.arrays["terms"] = self.term_variables()

    # -- what each model says --------------------------------------------------------------------------------

    @property
    @abstractmethod
    def processes(self) -> Mapping[str, tuple[str, ...]]:
        """Processes of the column physics in their order, and the targets of each."""

    @abstractmethod
    def first_state(self) -> Parts:
        """The state at the start."""

    @abstractmethod
    def inputs(self, state: Parts, step: int) -> Parts:
        """The columns' inputs, before any column physics."""

    @abstractmethod
    def process(self, name: str, at: Situation, before: Parts) -> Parts:
        """Targets of one process.

        Args:
            name: of the process.
            at: where.
            before: targets of the processes before it, summed.
        """

    @abstractmethod
    def advance(self, state: Parts, at: Situation, targets: Parts, random: np.random.Generator) -> Parts:
        """The state one step later, with the column physics in ``targets`` and all that the model does itself."""

    @abstractmethod
    def pushed(self, state: Parts, random: np.random.Generator) -> Parts:
        """A perturbed state, still physical."""

    # -- the column physics ----------------------------------------------------------------------------------

    def own_physics(self, at: Situation, replaced: Iterable[str] = (), given: Parts | None = None) -> Answer:
        """All processes in their order; those ``replaced`` are ``given``, together, where the first of them stands."""
        replaced = set(replaced)
        total, parts, put = self.nothing(), {}, False
        for name in self.processes:
            if name in replaced:
                found = {} if put else dict(given or {})
                put = True
            else:
                found = self.process(name, at, total)
            parts[name] = found
            total = {key: value + found[key] if key in found else value for key, value in total.items()}
        if self.record_terms:
            nothing = self.nothing()
            for variable in self.term_variables():
                target, _, process = variable.name.rpartition("_tendency_")
                key = f"{target}_tendency"
                total[variable.name] = parts[process].get(key, nothing[key])
        return Answer(total, {})

    def nothing(self) -> Parts:
        """Targets of no column physics."""
        n, levels = self.grid.columns, self.grid.levels
        made = {True: torch.zeros(levels, n, dtype=torch.float64), False: torch.zeros(n, dtype=torch.float64)}
        return {v.name: made[v.kind == "profile"] for v in self.variables.targets}

    def term_variables(self) -> tuple[Variable, ...]:
        """Variables of the array ``terms``: the tendency of each process."""
        targets = {v.name: v for v in self.variables.targets}
        return tuple(
            Variable.from_dict(
                {
                    "name": f"{name}_{process}",
                    "kind": "profile",
                    "units": targets[name].units,
                    "long_name": f"{targets[name].long_name} by {process}",
                }
            )
            for process, names in self.processes.items()
            for name in names
            if targets[name].kind == "profile"
        )

    # -- steps -----------------------------------------------------------------------------------------------

    def program(self, physics: Physics | None = None) -> Callable[[TorchCarry, int, bool], TorchCarry]:
        """``advance(carry, steps, reset_sums)``; stops early, with ``carry.stable`` false, beyond the bounds."""
        chosen = physics or self.own_physics

        def run(carry: TorchCarry, steps: int, reset: bool = False) -> TorchCarry:
            if reset:
                carry = carry._replace(sums={name: np.zeros_like(value) for name, value in carry.sums.items()})
            with torch.inference_mode():
                for _ in range(steps):
                    carry = self._step(chosen, carry)
                    if not carry.stable:
                        break
            return carry

        return run

    def _step(self, physics: Physics, carry: TorchCarry) -> TorchCarry:
        for name, (low, high) in self.bounds.items():
            values = carry.state[name]
            if not bool(((values >= low) & (values <= high)).all()):  # NaN is no value within
                return carry._replace(columns={**carry.columns, **carry.state}, stable=False)
        at = Situation(self.inputs(carry.state, carry.step), carry.state, carry.step - carry.begun)
        answer = physics(at)
        columns = {**at.columns, **answer.targets}
        sums = {
            name: value + np.asarray(columns[name] if name in columns else answer.diagnostics.get(name, 0.0))
            for name, value in carry.sums.items()
        }
        return carry._replace(
            state=self.advance(carry.state, at, answer.targets, self._random(carry.step)),
            time=carry.time + round(self.dt),
            step=carry.step + 1,
            columns={name: columns[name] for name in carry.columns},
            sums=sums,
            last_good=carry.state,
        )

    def _random(self, step: int) -> np.random.Generator:
        return np.random.default_rng((self.config.seed, step))

    # -- states ----------------------------------------------------------------------------------------------

    def climate_names(self) -> tuple[list[str], list[str]]:
        """Names of the daily-mean fields: what is prognostic and the tendencies, then fluxes."""
        return (
            [v.name for v in (*profiles(self.variables.inputs), *profiles(self.variables.targets))],
            [v.name for v in scalars(self.variables.targets)],
        )

    def initial(self, diagnostics: Dimensions | None = None) -> TorchCarry:
        """The first state at the configured start."""
        start = dt.datetime.fromisoformat(self.config.start).replace(tzinfo=dt.UTC)
        return self._carry(self.first_state(), int(start.timestamp()), 0, diagnostics)

    def _carry(self, state: Parts, time: int, step: int, diagnostics: Dimensions | None) -> TorchCarry:
        shapes = {(): (), ("level",): (self.grid.levels,), ("column",): (self.grid.columns,)}
        full = (self.grid.levels, self.grid.columns)
        level_names, flat_names = self.climate_names()
        sums: dict[str, Any] = {name: np.zeros(full) for name in level_names}
        sums |= {name: np.zeros(full[1]) for name in flat_names}
        sums |= {name: np.zeros(shapes[dims]) for name, dims in (diagnostics or {}).items()}
        names = [v.name for array in self.arrays.values() for v in array]
        return TorchCarry(state, time, step, step, dict.fromkeys(names, torch.zeros(0)), sums, True, state)

    def to_arrays(self, carry: TorchCarry) -> dict[str, NDArray[Any]]:
        """What a restart needs."""
        found = {f"state.{name}": value.numpy() for name, value in carry.state.items()}
        return {**found, "time": np.asarray(carry.time), "step": np.asarray(carry.step)}

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]], diagnostics: Dimensions | None = None) -> TorchCarry:
        """Rebuild a carry from :meth:`to_arrays`.

        Raises:
            UsageError: the arrays are of another number of columns or levels.
        """
        wanted, state = self.first_state(), {}
        for name, like in wanted.items():
            values = np.asarray(arrays[f"state.{name}"])
            if values.shape != tuple(like.shape):
                raise UsageError(
                    f"the restart's {name} has shape {values.shape}, this host's {tuple(like.shape)}: it is of other "
                    "columns"
                )
            state[name] = torch.from_numpy(values.copy())
        return self._carry(state, int(arrays["time"]), int(arrays["step"]), diagnostics)

    def nudged(self, carry: TorchCarry, noise: Noise) -> TorchCarry:
        """The state with ``noise`` on its first prognostic variable."""
        name = next(iter(self.bounds))
        random = np.random.default_rng((noise.member, carry.step))
        pushed = noise.size * torch.from_numpy(random.standard_normal(carry.state[name].shape))
        return carry._replace(state={**carry.state, name: carry.state[name] + pushed})

    @staticmethod
    def seconds(time: int) -> int:
        """Seconds since 1970-01-01 of the model clock."""
        return time

    def departure(self, carry: TorchCarry) -> dict[str, Any]:
        """The first variable, level and place beyond the bounds, from the state that was refused."""
        for name, (low, high) in self.bounds.items():
            values = carry.columns[name].numpy()
            found = departure_at(self.grid, name, values, np.maximum(low - values, values - high))
            if found is not None:
                return found
        return {"reason": "state out of bounds"}

    def perturber(self, seed: int) -> Callable[[TorchCarry], Parts]:
        """From the carry after a step to that step's columns, perturbed, with the model's own answer."""

        def perturbed(carry: TorchCarry) -> Parts:
            step = carry.step - 1
            with torch.inference_mode():
                state = self.pushed(carry.last_good, np.random.default_rng((seed, self.config.seed, step)))
                at = Situation(self.inputs(state, step), state, 0)
                return {**at.columns, **self.own_physics(at).targets}

        return perturbed


class TorchHost(SteppedHost):
    """A host whose model is a :class:`TorchModel`."""

    @property
    def processes(self) -> Mapping[str, tuple[str, ...]]:
        """Processes of the column physics and the targets of each."""
        found: Mapping[str, tuple[str, ...]] = self.model.processes
        return found

    def null_physics(self, at: Situation) -> Answer:
        """No column physics at all."""
        del at
        return Answer(self.model.nothing(), {})

    def act(
        self, emulator: ColumnEmulator, sample: NDArray[np.float32], drive: Drive, replaced: frozenset[str]
    ) -> tuple[Physics, str]:
        """The emulator called as it is, beside the own processes that it does not replace."""
        if drive.keep != "none":
            raise UsageError(f"couple.keep={drive.keep}: host '{self.name}' has no surface of its own to keep")
        if drive.bridge == "jax":
            raise UsageError(f"couple.bridge=jax: host '{self.name}' runs in torch and needs no bridge")
        flat, model = MonitoredEmulator(emulator).eval(), self.model
        place = offsets(emulator.variables.targets, self.grid.levels)
        kinds = {v.name: v.kind for v in emulator.variables.targets}
        area = self.grid.area / self.grid.area.sum()

        def emulated(at: Situation) -> Answer:
            parts = [torch.atleast_2d(at.columns[v.name]) for v in emulator.variables.inputs]
            y, counted, distances = flat(torch.cat(parts).T.float())
            y = y.T.double()
            given = {n: y[place[n]] if kind == "profile" else y[place[n].start] for n, kind in kinds.items()}
            told = summarise(emulator, counted.numpy(), distances.numpy(), area, np)
            return Answer(model.own_physics(at, replaced, given).targets, told)

        if not drive.needs_own:
            return emulated, "torch"
        return (_shadowed if drive.shadow else _mixed)(model, emulated, drive, area), "torch"


def _mixed(model: TorchModel, emulated: Physics, drive: Drive, area: NDArray[np.float64]) -> Physics:
    """``emulated`` as far as ``drive`` lets it act, the model's own physics for the rest."""
    names = set(drive.act_on) or {v.name for v in model.variables.targets}

    def combined(at: Situation) -> Answer:
        share = float(drive.weight(at.elapsed, np))
        own = model.own_physics(at)
        if share <= 0.0:
            return own
        found = emulated(at)
        mixed = {n: share * found.targets[n] + (1.0 - share) * v if n in names else v for n, v in own.targets.items()}
        return Answer(mixed, found.diagnostics)

    return combined


def _shadowed(model: TorchModel, emulated: Physics, drive: Drive, area: NDArray[np.float64]) -> Physics:
    """The model's own physics, with the emulator's error beside it among the diagnostics."""

    def combined(at: Situation) -> Answer:
        found, own = emulated(at), model.own_physics(at)
        scores = dict(found.diagnostics)
        for variable in model.variables.targets:
            ours = own.targets[variable.name].numpy()
            error = found.targets[variable.name].numpy() - ours
            for key, values in zip(SHADOW, (error, error**2, ours, ours**2), strict=True):
                scores[shadow_name(key, variable.name)] = values @ area
        return Answer(own.targets, scores)

    return combined
