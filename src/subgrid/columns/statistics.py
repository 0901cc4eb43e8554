"""Float64 statistics per channel, from blocks merged in index order (Chan, Golub and LeVeque 1983)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The least normal number of float32: what is smaller loses digits, or becomes zero.
LEAST_FLOAT32 = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class ChannelStatistics:
    """Count, mean, sum of squared deviations and range of each channel; all (channel,) float64."""

    count: int
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def empty(cls, channels: int) -> ChannelStatistics:
        """Statistics of no rows."""
        zeros = np.zeros(channels)
        return cls(0, zeros, zeros.copy(), np.full(channels, np.inf), np.full(channels, -np.inf))

    @classmethod
    def of(cls, block: NDArray[Any]) -> ChannelStatistics:
        """Two-pass statistics of one block, (rows, channel)."""
        if not len(block):
            return cls.empty(block.shape[1])
        values = block.astype(np.float64)
        mean = values.mean(axis=0)
        low, high = (np.asarray(extreme(axis=0), np.float64) for extreme in (block.min, block.max))
        # In place: a block has tens of megabytes, and fresh memory for each step costs more than the arithmetic.
        values -= mean
        m2 = np.square(values, out=values).sum(axis=0)
        return cls(len(block), mean, m2, low, high)

    def merge(self, other: ChannelStatistics) -> ChannelStatistics:
        """Statistics of this block's rows followed by the other's."""
        count = self.count + other.count
        if count == 0:
            return self
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        m2 = self.m2 + other.m2 + np.square(delta) * (self.count * other.count / count)
        return ChannelStatistics(count, mean, m2, np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    @property
    def std(self) -> NDArray[np.float64]:
        """Population standard deviation."""
        return np.sqrt(self.m2 / max(self.count, 1))

    def summary(self) -> dict[str, NDArray[np.float64]]:
        """What a store publishes: ``mean``, ``std``, ``min``, ``max``."""
        return {"mean": self.mean, "std": self.std, "min": self.low, "max": self.high}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays that hold everything, read back by :meth:`from_arrays`."""
        return {
            "count": np.asarray(self.count),
            "mean": self.mean,
            "m2": self.m2,
            "low": self.low,
            "high": self.high,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> ChannelStatistics:
        """Rebuild from :meth:`to_arrays`."""
        return cls(int(arrays["count"]), arrays["mean"], arrays["m2"], arrays["low"], arrays["high"])
