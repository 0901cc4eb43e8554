"""The emulator on flat columns: (n, n_in) raw SI to (n, n_out) raw SI, variable after variable."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from subgrid.columns.variables import profiles, scalars
from subgrid.emulator.base import ColumnEmulator


def unflatten(x: Tensor, n_profiles: int, levels: int) -> tuple[Tensor, Tensor]:
    """(n, P level + S) -> (n, level, P) and (n, S)."""
    cut = n_profiles * levels
    return x[:, :cut].reshape(-1, n_profiles, levels).transpose(1, 2), x[:, cut:]


def flatten(profile_values: Tensor, scalar_values: Tensor) -> Tensor:
    """(n, level, P) and (n, S) -> (n, P level + S)."""
    return torch.cat([profile_values.transpose(1, 2).flatten(1), scalar_values], dim=1)


#: Columns are handed to the network in multiples of this. Matrix kernels sum the rows of an incomplete tile in another
#: order, and where convection sets in a network magnifies that last bit to 1e-4 of an output's spread: whole tiles make
#: a column's result independent of how many columns are called with it. (8 rows are enough with AVX2, 16 with AVX-512.)
TILE = 16


def whole_tiles(x: Tensor) -> Tensor:
    """``x`` (n, channel) with rows of zeros added up to a multiple of :data:`TILE`."""
    short = -x.shape[0] % TILE
    return x if short == 0 else torch.cat([x, x.new_zeros(short, x.shape[1])])


class FlatEmulator(nn.Module):
    """Wraps a :class:`ColumnEmulator` without memory: what hosts, exports and offline scores call.

    ``forward(x (n, n_in)) -> (y (n, n_out), diagnostics (n, numbers))``.
    """

    def __init__(self, emulator: ColumnEmulator) -> None:
        super().__init__()
        self.emulator = emulator
        self.levels = emulator.levels
        self.n_profiles = len(profiles(emulator.variables.inputs))
        self.n_in = self.n_profiles * self.levels + len(scalars(emulator.variables.inputs))
        self.n_out = len(profiles(emulator.variables.targets)) * self.levels + len(scalars(emulator.variables.targets))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Raw SI in and out, any number of columns."""
        y, diagnostics = self.tiles(whole_tiles(x))
        return y[: x.shape[0]], diagnostics[: x.shape[0]]

    def tiles(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same without a branch on the number of columns, which must be a multiple of :data:`TILE`."""
        p, s = unflatten(x, self.n_profiles, self.levels)
        p, s, _, diagnostics = self.emulator(p, s, x[:, :0])
        return flatten(p, s), diagnostics


class MonitoredEmulator(FlatEmulator):
    """The same, which also tells how far each of ``emulator.watched`` lies beyond its training range.

    ``forward(x (n, n_in)) -> (y (n, n_out), diagnostics (n, numbers), distances (n, numbers))``.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Raw SI in and out, any number of columns."""
        p, s = unflatten(whole_tiles(x), self.n_profiles, self.levels)
        p, s, _, diagnostics, distances = self.emulator.monitored(p, s, x[:, :0])
        n = x.shape[0]
        return flatten(p, s)[:n], diagnostics[:n], distances[:n]
