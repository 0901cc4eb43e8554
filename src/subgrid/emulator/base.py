"""What evaluation, coupling and export ask of an emulator, whether it was trained here or published elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from subgrid.base.errors import SubgridError
from subgrid.columns.variables import VariableSet
from subgrid.emulator.config import EmulatorConfig
from subgrid.physics.vertical import VerticalGrid


@dataclass(frozen=True)
class Counter:
    """Something that an emulator counts in every column.

    Args:
        name: of it.
        units: of it.
        levels: it is counted level by level on so many; 0: once for the column.
    """

    name: str
    units: str = "1"
    levels: int = 0

    @property
    def width(self) -> int:
        """Numbers that it takes among the diagnostics."""
        return max(self.levels, 1)


class ColumnEmulator(nn.Module, ABC):
    """Maps physical columns to physical tendencies, raw SI in and out.

    Args:
        variables: what is read and predicted.
        grid: the vertical grid; None where only the number of levels is known.
        levels: number of levels.
        time_step: the host's step that the tendencies are for, s.
        config: features, bounds and constraints.
    """

    def __init__(
        self,
        variables: VariableSet,
        grid: VerticalGrid | None,
        levels: int,
        time_step: float,
        config: EmulatorConfig,
    ) -> None:
        super().__init__()
        self.variables, self.levels, self.time_step, self.config = variables, levels, time_step, config
        self._grid = grid
        self.metadata: dict[str, Any] = {}

    @property
    def grid(self) -> VerticalGrid:
        """The vertical grid; raises :class:`SubgridError` where it is not known."""
        if self._grid is None:
            raise SubgridError(
                "the network does not say on which vertical grid it lives: give grid= as it is loaded, such as "
                "open_store(...).grid.vertical"
            )
        return self._grid

    @property
    def has_grid(self) -> bool:
        """Whether the vertical grid is known."""
        return self._grid is not None

    @property
    def answer(self) -> str:
        """What ``forward`` gives, in words."""
        return "the network's output"

    @property
    def counters(self) -> list[Counter]:
        """What the diagnostics hold, one after the other."""
        return []

    @property
    def watched(self) -> list[Counter]:
        """Inputs whose distance to the training range :meth:`monitored` tells, one after the other."""
        return []

    def monitored(
        self, profile_values: Tensor, scalar_values: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """As :meth:`forward`, and the distance of each of :attr:`watched` to its training range, (n, numbers).

        Distances are in spreads of the training columns, 0 within their range.
        """
        found = self.forward(profile_values, scalar_values, memory)
        return (*found, profile_values.new_zeros(profile_values.shape[0], 0))

    @property
    def memory_size(self) -> int:
        """Numbers per column that the caller carries from step to step."""
        return 0

    @abstractmethod
    def forward(
        self, profile_values: Tensor, scalar_values: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Raw SI columns -> raw SI tendencies and fluxes, memory, diagnostics (n, numbers)."""
