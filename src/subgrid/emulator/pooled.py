"""Inputs with one mean and spread for all levels of a profile, waters and gases as logarithms."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from subgrid.emulator.transforms import ChannelRange, Standardise, inverse_spread, over_levels

#: Features of which the logarithm is normalised.
LOGARITHMIC = ("specific_humidity", "cloud_liquid", "cloud_ice", "cloud_water", "pbuf_ozone", "pbuf_CH4", "pbuf_N2O")
#: Added before the logarithm, kg/kg or mol/mol.
OFFSET = 1e-7


class PooledInputs(Standardise):
    """``(x - mean) / std`` with the mean and spread of a profile's levels together; scalars as ever.

    Waters and gases are first ``log(max(x, 0) + 1e-7)`` (family B of the fifth place of ClimSim's Kaggle competition).

    Args:
        levels: number of levels.
        names: the profile features, of which those of :data:`LOGARITHMIC` become logarithms.
        scalars: number of scalars.
    """

    def __init__(self, levels: int, names: list[str], scalars: int) -> None:
        super().__init__(levels, len(names), scalars)
        chosen = torch.tensor([name in LOGARITHMIC for name in names], dtype=torch.bool)
        self.register_buffer("logarithmic", chosen, persistent=False)

    def prepare(self, profiles: Tensor) -> Tensor:
        """Waters and gases as logarithms, (n, level, P)."""
        return torch.where(cast(Tensor, self.logarithmic), torch.log(torch.relu(profiles) + OFFSET), profiles)

    def fill(
        self,
        statistics: ChannelRange,
        inverses: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    ) -> None:
        """Set the buffers from the statistics of each level of prepared profiles, (level, P), and of scalars."""
        levels = len(statistics.mean[0])
        mean, std = over_levels(statistics.mean[0], statistics.std[0])
        if inverses is None:
            inverses = (
                np.tile(inverse_spread(mean, std), (levels, 1)),
                inverse_spread(statistics.mean[1], statistics.std[1]),
            )
        pooled = (np.tile(mean, (levels, 1)), statistics.mean[1]), (np.tile(std, (levels, 1)), statistics.std[1])
        super().fill(ChannelRange(*pooled, statistics.low, statistics.high), inverses)

    def forward(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise."""
        return super().forward(self.prepare(profiles), scalars)
