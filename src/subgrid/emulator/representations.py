"""Several normalisations of each input profile beside one another, as the winners of LEAP's competition gave them."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from subgrid.emulator.config import EmulatorConfig
from subgrid.emulator.transforms import ChannelRange, inverse_spread, over_levels

Floats = NDArray[np.float64]
#: Shares between 0 and 1, which one representation says everything of.
PLAIN = ("liquid_partition",)


def repeated_features(names: list[str]) -> list[int]:
    """Places of the features that are represented more than once."""
    return [k for k, name in enumerate(names) if name not in PLAIN]


def represented(config: EmulatorConfig, names: list[str]) -> int:
    """How many input profiles the network reads when the features are ``names``."""
    return len(names) + (2 * len(repeated_features(names)) if config.representation == "multi" else 0)


class SingleRepresentation(nn.Module):
    """Profiles as they are normalised."""

    def forward(self, profiles: Tensor) -> Tensor:
        """(n, level, P) unchanged."""
        return profiles


class MultiRepresentation(nn.Module):
    """Three representations of each profile: (n, level, P) -> (n, level, P + 2 P'), P' without shares.

    With x1 = (x - mean_k) / std_k per level k, as it comes in: x2 = (x - mean) / std with one mean and spread for all
    levels, and x3 = sign(x1 - m_k) log(1 + |x1 - m_k|), where m_k is the least x1 of the training columns. The order
    is all x1, all x2, all x3 (Hu et al. 2025, "multirepresentation"; after the first place of LEAP's competition).
    ``m_k`` of the published files is min((x - mean_k) / mean_k); :meth:`fill` makes it so on request.

    Args:
        levels: number of levels.
        names: the features; those of :data:`PLAIN` keep one representation.
    """

    def __init__(self, levels: int, names: list[str]) -> None:
        super().__init__()
        chosen = repeated_features(names)
        self.register_buffer("place", torch.tensor(chosen, dtype=torch.long), persistent=False)
        for name in ("scale", "shift", "offset"):
            self.register_buffer(name, torch.zeros(levels, len(chosen)))

    def fill(self, statistics: ChannelRange, paper_compatible: bool = False) -> None:
        """Set the buffers from the statistics of the features, (level, P)."""
        place = cast(Tensor, self.place).tolist()
        mean, std, low, high = (
            part[0][:, place] for part in (statistics.mean, statistics.std, statistics.low, statistics.high)
        )
        pooled_mean, pooled_std = over_levels(mean, std)
        inverse = inverse_spread(pooled_mean, pooled_std)
        offset = (low - mean) * inverse_spread(mean, std)
        if paper_compatible:
            divisor = np.where(mean == 0, np.inf, mean)
            offset = np.minimum((low - mean) / divisor, (high - mean) / divisor)
        self._set(std * inverse, (mean - pooled_mean) * inverse, offset)

    def fill_published(self, found: ChannelRange, pooled: tuple[Floats, Floats], offset: Floats | None) -> None:
        """Set the buffers from published statistics.

        Args:
            found: mean and std of all features as :class:`Standardise` has them (constant ones with std 0), and the
                range of the training columns in its units.
            pooled: mean and divisor of the features with more than one representation, (level, P').
            offset: m_k as published, (level, P'); None: the least x1 of the training columns.
        """
        place = cast(Tensor, self.place).tolist()
        mean, std, low = (part[0][:, place] for part in (found.mean, found.std, found.low))
        inverse = inverse_spread(*pooled)
        self._set(std * inverse, (mean - pooled[0]) * inverse, low if offset is None else offset)

    def _set(self, scale: Floats, shift: Floats, offset: Floats) -> None:
        for name, array in {"scale": scale, "shift": shift, "offset": offset}.items():
            self.get_buffer(name).copy_(torch.from_numpy(np.where(np.isfinite(array), array, 0.0)))

    def forward(self, profiles: Tensor) -> Tensor:
        """(n, level, P) normalised per level -> (n, level, P + 2 P')."""
        x1 = torch.index_select(profiles, 2, cast(Tensor, self.place))
        x2 = x1 * self.scale + self.shift  # type: ignore[operator]
        above = x1 - self.offset  # type: ignore[operator]
        x3 = torch.sign(above) * torch.log1p(torch.abs(above))
        return torch.cat([profiles, x2, x3], dim=2)


def build_representations(config: EmulatorConfig, levels: int, names: list[str]) -> nn.Module:
    """The unfitted representations that ``config.representation`` asks for."""
    return MultiRepresentation(levels, names) if config.representation == "multi" else SingleRepresentation()
