"""What evaluation, coupling and export ask of an emulator, whether it was trained here or published elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from subgrid.base.errors import SubgridError
from subgrid.columns.variables import VariableSet
from subgrid.emulator.config import EmulatorConfig
from subgrid.physics.vertical import VerticalGrid


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
    def counters(self) -> list[str]:
        """Names of the columns of the diagnostics."""
        return []

    @property
    def memory_size(self) -> int:
        """Numbers per column that the caller carries from step to step."""
        return 0

    @abstractmethod
    def forward(
        self, profile_values: Tensor, scalar_values: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Raw SI columns -> raw SI tendencies and fluxes, memory, diagnostics (n, counter)."""
