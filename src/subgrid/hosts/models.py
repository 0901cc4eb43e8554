"""What a host's model offers to the code that all hosts share: states, steps, and what each step leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from subgrid.columns.grid import ColumnGrid
from subgrid.columns.variables import Variable
from subgrid.hosts.base import Noise
from subgrid.hosts.diagnostics import Dimensions


class Carry(Protocol):
    """Everything that one step hands to the next; a named tuple, whose arrays numpy can read.

    Attributes:
        time: of the model's clock.
        step: since the model's start.
        begun: step at which the run began.
        columns: inputs and targets of the last step, (level, column) and (column,).
        sums: what daily means need, summed since the last reset.
        stable: whether the state is within bounds; if not, ``columns`` holds what was refused.
        last_good: the state one step back.
    """

    @property
    def time(self) -> Any: ...

    @property
    def step(self) -> Any: ...

    @property
    def begun(self) -> Any: ...

    @property
    def columns(self) -> Mapping[str, Any]: ...

    @property
    def sums(self) -> Mapping[str, Any]: ...

    @property
    def stable(self) -> Any: ...

    @property
    def last_good(self) -> Any: ...

    def _replace(self, **changes: Any) -> Any: ...


#: ``advance(carry, steps, reset_sums)``: stops early where the state is not stable.
Advance: TypeAlias = Callable[[Any, int, bool], Any]


class SteppedModel(Protocol):
    """A model that is stepped with its own column physics or another in its place.

    Attributes:
        grid: its columns.
        dt: step, s.
        arrays: what a store of it holds: ``inputs``, ``targets``, and by choice ``history`` and ``terms``.
    """

    @property
    def grid(self) -> ColumnGrid: ...

    @property
    def dt(self) -> float: ...

    @property
    def arrays(self) -> Mapping[str, tuple[Variable, ...]]: ...

    def program(self, physics: Any = None) -> Advance:
        """The steps with ``physics`` (None: the model's own)."""
        ...

    def initial(self, diagnostics: Dimensions | None = None) -> Any:
        """The first state; ``diagnostics`` are sums that a column physics adds to."""
        ...

    def to_arrays(self, carry: Any) -> dict[str, NDArray[Any]]:
        """What a restart needs."""
        ...

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]], diagnostics: Dimensions | None = None) -> Any:
        """A state from :meth:`to_arrays`; raises :class:`UsageError` if it is of another resolution."""
        ...

    def seconds(self, time: Any) -> int:
        """Seconds since 1970-01-01 of a clock's time."""
        ...

    def climate_names(self) -> tuple[list[str], list[str]]:
        """Names of the daily-mean fields: profiles, then scalars."""
        ...

    def departure(self, carry: Any) -> dict[str, Any]:
        """The first variable, level and place beyond the bounds, from a state that was refused."""
        ...

    def nudged(self, carry: Any, noise: Noise) -> Any:
        """The state with ``noise`` on its first prognostic variable."""
        ...

    def perturber(self, seed: int) -> Callable[[Any], Mapping[str, Any]]:
        """A function from the carry after a step to that step's columns, perturbed, with the model's own answer."""
        ...


def departure_at(grid: ColumnGrid, name: str, values: NDArray[Any], beyond: NDArray[Any]) -> dict[str, Any] | None:
    """Where ``values`` (level, column) of variable ``name`` are furthest ``beyond`` their bounds; None: nowhere.

    What is not finite is beyond all bounds.
    """
    beyond = np.where(np.isfinite(values), beyond, np.inf)
    if not (beyond > 0).any():
        return None
    level, column = np.unravel_index(int(np.argmax(beyond)), beyond.shape)
    value = float(values[level, column])
    return {
        "reason": f"{name} out of bounds",
        "variable": name,
        "value": value if np.isfinite(value) else str(value),
        "level": int(level),
        "sigma": round(float(grid.vertical.sigma_levels[level]), 4),
        "latitude": round(float(grid.latitude[column]), 2),
        "longitude": round(float(grid.longitude[column]), 2),
    }
