"""Normalisation: standardise per level and variable, within the range that training has seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from subgrid.base.errors import SubgridError

#: A channel whose std / |mean| is below this counts as constant.
CONSTANT = 1e-5
#: A normalised value counts as outside the training range if it is further out than this.
OUTSIDE = 1e-4


@dataclass(frozen=True)
class ChannelRange:
    """Statistics of (profile, scalar) channels: (level, P) and (S,) arrays, float64."""

    mean: tuple[NDArray[np.float64], NDArray[np.float64]]
    std: tuple[NDArray[np.float64], NDArray[np.float64]]
    low: tuple[NDArray[np.float64], NDArray[np.float64]]
    high: tuple[NDArray[np.float64], NDArray[np.float64]]


def inverse_spread(mean: NDArray[np.float64], std: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / std, and 0 where the channel is constant (std / |mean| below 1e-5, or std too small to invert)."""
    constant = std <= np.maximum(CONSTANT * np.abs(mean), np.finfo(np.float32).tiny)
    return np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, std))


def over_levels(mean: NDArray[np.float64], std: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and spread (P,) of profiles whose levels have ``mean`` and ``std``, (level, P)."""
    pooled = mean.mean(0)
    return pooled, np.sqrt((std**2 + (mean - pooled) ** 2).mean(0))


class Standardise(nn.Module):
    """``(x - mean) / std`` for profiles (n, level, P) and scalars (n, S), and back; constant channels give 0.

    Buffers start empty (zeros) and are filled by :meth:`fill`; ``low`` and ``high`` are the training range in
    normalised units.
    """

    names = ("mean", "inverse", "std", "low", "high")

    def __init__(self, levels: int, profiles: int, scalars: int) -> None:
        super().__init__()
        for name in self.names:
            self.register_buffer(f"profile_{name}", torch.zeros(levels, profiles))
            self.register_buffer(f"scalar_{name}", torch.zeros(scalars))

    def fill(
        self,
        statistics: ChannelRange,
        inverses: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    ) -> None:
        """Set the buffers from float64 statistics; ``inverses``, where given, are used in place of 1 / std.

        Raises:
            SubgridError: shapes do not fit or values are not finite.
        """
        for part, kind in enumerate(("profile", "scalar")):
            mean, std = statistics.mean[part], statistics.std[part]
            inverse = inverse_spread(mean, std) if inverses is None else inverses[part]
            values = {
                "mean": mean,
                "inverse": inverse,
                "std": np.where(inverse > 0, std, 0.0),
                "low": (statistics.low[part] - mean) * inverse,
                "high": (statistics.high[part] - mean) * inverse,
            }
            for name, array in values.items():
                buffer = self.get_buffer(f"{kind}_{name}")
                if array.shape != tuple(buffer.shape):
                    raise SubgridError(f"{kind} statistics have shape {array.shape}, expected {tuple(buffer.shape)}")
                if not np.all(np.isfinite(array)):
                    raise SubgridError(f"{kind} statistics hold NaN or infinity")
                buffer.copy_(torch.from_numpy(array))

    def prepare(self, profiles: Tensor) -> Tensor:
        """The profiles whose statistics :meth:`fill` takes, (n, level, P)."""
        return profiles

    def forward(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise."""
        return (
            (profiles - self.profile_mean) * self.profile_inverse,  # type: ignore[operator]
            (scalars - self.scalar_mean) * self.scalar_inverse,  # type: ignore[operator]
        )

    def clip(self, profiles: Tensor, scalars: Tensor, margin: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised values kept within the training range, and the share of live channels that were outside (n,).

        ``margin`` widens the range on both sides, as a share of its width.
        """
        p = _within(profiles, self.profile_low, self.profile_high, margin)  # type: ignore[arg-type]
        s = _within(scalars, self.scalar_low, self.scalar_high, margin)  # type: ignore[arg-type]
        live_p, live_s = cast(Tensor, self.profile_std) > 0, cast(Tensor, self.scalar_std) > 0
        outside = (((p - profiles).abs() > OUTSIDE) & live_p).sum((1, 2))
        outside = outside + (((s - scalars).abs() > OUTSIDE) & live_s).sum(1)
        live = (live_p.sum() + live_s.sum()).clamp(min=1)
        return p, s, outside.to(profiles.dtype) / live

    def inverse(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Back to physical units; constant channels give their mean."""
        return (
            profiles * self.profile_std + self.profile_mean,  # type: ignore[operator]
            scalars * self.scalar_std + self.scalar_mean,  # type: ignore[operator]
        )


def _within(values: Tensor, low: Tensor, high: Tensor, margin: float) -> Tensor:
    room = margin * (high - low)
    return torch.minimum(torch.maximum(values, low - room), high + room)
