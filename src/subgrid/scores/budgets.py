"""How well columns close a budget: residuals, and residuals relative to the terms that cancel; merged in blocks."""

from __future__ import annotations

import math

import numpy as np

from subgrid.scores.arrays import FloatArray

#: A column closes its budget where |residual| is at most this share of the sum of its terms' sizes.
CLOSED = 1e-4


class ResidualScores:
    """Weighted mean and spread of residuals, and of ``|residual| / sum |terms|``."""

    def __init__(self) -> None:
        self._weight = self._sum = self._square = self._relative_square = self._closed = self._largest = 0.0

    def update(self, residual: FloatArray, size: FloatArray, weight: FloatArray) -> None:
        """Add columns.

        Args:
            residual: sum of the terms, (n,), float64.
            size: sum of their absolute values, (n,).
            weight: (n,).
        """
        relative = np.abs(residual) / np.where(size > 0.0, size, 1.0)
        self._weight += float(weight.sum())
        self._sum += float((weight * residual).sum())
        self._square += float((weight * residual**2).sum())
        self._relative_square += float((weight * relative**2).sum())
        self._closed += float(weight[relative <= CLOSED].sum())
        counted = relative[weight > 0.0]
        self._largest = max(self._largest, float(counted.max(initial=0.0)))

    def result(self) -> dict[str, float]:
        """``mean`` and ``rms`` (unit of the residual), ``relative_rms``, ``relative_max`` and ``closed``, the share of
        columns within :data:`CLOSED`; NaN without columns."""
        total = self._weight or math.nan
        return {
            "mean": self._sum / total,
            "rms": math.sqrt(self._square / total),
            "relative_rms": math.sqrt(self._relative_square / total),
            "relative_max": self._largest,
            "closed": self._closed / total,
        }
