"""What the scores share: float64 arrays, ratios that may be empty, numbers for JSON, sums over groups of rows."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import array_api_compat
import numpy as np
from numpy.typing import NDArray

from subgrid.physics.arrays import Array

FloatArray: TypeAlias = NDArray[np.float64]

CONSTANT_RATIO = 1e-5
"""A target whose standard deviation is below this share of its absolute mean counts as constant."""


def float64(x: Array) -> FloatArray:
    """``x``, numpy or torch, as a numpy array of float64."""
    if array_api_compat.is_torch_array(x):
        x = x.detach().cpu().double()
    return np.asarray(x, dtype=np.float64)


def ratio(numerator: FloatArray, denominator: FloatArray, empty: float = math.nan) -> FloatArray:
    """``numerator / denominator``, ``empty`` where the denominator is zero."""
    filled: FloatArray = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), empty)
    np.divide(numerator, denominator, out=filled, where=denominator != 0)
    return filled


def constant(deviation: FloatArray, weight: FloatArray, mean: FloatArray) -> NDArray[np.bool_]:
    """Where a truth does not vary: ``deviation`` is its weighted sum of squared departures from ``mean``."""
    spread = np.sqrt(ratio(deviation, weight, empty=0.0))
    return (deviation <= 0) | (spread < CONSTANT_RATIO * np.abs(mean))


def jsonable(value: Any) -> Any:
    """Arrays as (nested) lists, and numbers that are not finite as None."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class RowGroups:
    """Rows that belong together, to be summed: ``groups.sum(values (n, channel)) -> (present, channel)``.

    Args:
        group: the group of each row, (n,) integers.

    The groups present, sorted, are ``present``; ``index`` (n,) says which of them a row belongs to.
    """

    def __init__(self, group: NDArray[np.integer[Any]]) -> None:
        from scipy.sparse import csr_array

        self.present, self.index, self.count = np.unique(group, return_inverse=True, return_counts=True)
        rows = np.argsort(self.index, kind="stable")
        ends = np.concatenate([[0], np.cumsum(self.count)])
        # A sparse product streams through the rows as they lie; numpy's reduceat would need them sorted, at 5 times
        # the time.
        self._rows = csr_array((np.ones(len(rows)), rows, ends), shape=(len(self.present), len(rows)))

    def sum(self, values: FloatArray) -> FloatArray:
        """Sums of the rows of each group that is present, (present, channel)."""
        return np.asarray(self._rows @ values)
