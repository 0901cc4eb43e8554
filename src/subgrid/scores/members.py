"""Scores of an ensemble's members: the fair continuous ranked probability score, and spread beside error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from subgrid.base.errors import SubgridError
from subgrid.physics.arrays import Array
from subgrid.scores.arrays import FloatArray, float64, jsonable, ratio


def fair_crps(members: Array, truth: Array) -> FloatArray:
    """The continuous ranked probability score that an ensemble of infinite size would have.

    ``mean_i |x_i - y| - sum_{i<j} |x_i - x_j| / (n (n - 1))``, by sorting in n log n. It is unbiased in n and may be
    below zero for one sample.

    Args:
        members: shape (n, ...), n at least 2, any unit.
        truth: shape (...).

    Returns:
        Score, shape of ``truth``, unit of the members, float64; NaN where a member is not finite.

    Raises:
        SubgridError: fewer than two members, or shapes that do not fit.

    Source: Ferro (2014), Q. J. R. Meteorol. Soc. 140, 1917; Yu et al. (2023, ClimSim), section 4.
    """
    x, y = float64(members), float64(truth)
    n = len(x) if x.ndim else 0
    if n < 2 or x.shape[1:] != y.shape:
        raise SubgridError(f"CRPS: members must be (2 or more, *{y.shape}), not {x.shape}")
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.abs(x - y).mean(axis=0)
        # In sorted order the k-th of n members is the larger one of k pairs and the smaller one of n - 1 - k.
        times = 2.0 * np.arange(n) - (n - 1)
        apart = np.tensordot(times, np.sort(x, axis=0), axes=1)
        return np.asarray(near - apart / (n * (n - 1)))


@dataclass(frozen=True)
class EnsembleScores:
    """Scores of the members of one variable, over its levels and at each (``*_level``, shape (level,)).

    Args:
        crps: fair CRPS, unit of the variable.
        spread: square root of the mean variance of the members, unit of the variable.
        rmse: of the members' mean, unit of the variable.
        spread_error: ``sqrt((n + 1) / n) spread / rmse``, which is 1 where the truth could be one more member; NaN
            where the mean errs nowhere.
    """

    crps: float
    spread: float
    rmse: float
    spread_error: float
    crps_level: FloatArray
    spread_level: FloatArray
    rmse_level: FloatArray
    spread_error_level: FloatArray

    def to_dict(self) -> dict[str, Any]:
        """JSON-able numbers and lists; None where a score is not finite."""
        return {name: jsonable(value) for name, value in vars(self).items()}


class MemberScores:
    """Streaming scores of ensembles of one size: weighted sums over rows, one number per channel, in float64.

    Args:
        variables: name to number of levels (1 for a scalar), in channel order.

    Source: Fortin et al. (2014), J. Hydrometeorol. 15, 1708 (spread and error); :func:`fair_crps`.
    """

    def __init__(self, variables: Mapping[str, int]) -> None:
        self.variables, self.members = dict(variables), 0
        channels = sum(self.variables.values())
        self.weight, self.crps, self.variance, self.squared = (np.zeros(channels) for _ in range(4))

    def update(self, members: Array, truth: Array, weight: Array) -> None:
        """Add rows.

        Args:
            members: shape (n, row, channel), n at least 2 and always the same.
            truth: shape (row, channel).
            weight: shape (row, channel), not negative.

        Raises:
            SubgridError: shapes that do not fit, or another number of members than before.
        """
        x, y, w = float64(members), float64(truth), float64(weight)
        if y.shape != (len(y), len(self.weight)) or w.shape != y.shape:
            raise SubgridError(f"scores: truth {y.shape} and weight {w.shape} must both be (n, {len(self.weight)})")
        crps = fair_crps(x, y)
        if self.members not in (0, len(x)):
            raise SubgridError(f"scores: {len(x)} members after rows with {self.members}")
        self.members = len(x)
        with np.errstate(invalid="ignore", over="ignore"):  # a diverged member is in the scores, which show it
            self.weight += w.sum(0)
            self.crps += (w * crps).sum(0)
            self.variance += (w * x.var(axis=0, ddof=1)).sum(0)
            self.squared += (w * (x.mean(axis=0) - y) ** 2).sum(0)

    def result(self) -> dict[str, EnsembleScores]:
        """Scores of all rows so far by variable; NaN where there is no weight."""
        found, start = {}, 0
        for name, width in self.variables.items():
            part = slice(start, start + width)
            levels = self._scores(*(a[part] for a in (self.weight, self.crps, self.variance, self.squared)))
            sums = (a[part].sum(keepdims=True) for a in (self.weight, self.crps, self.variance, self.squared))
            crps, spread, rmse, fit = (float(value[0]) for value in self._scores(*sums))
            found[name] = EnsembleScores(crps, spread, rmse, fit, *levels)
            start += width
        return found

    def _scores(self, weight: FloatArray, *sums: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        crps, variance, squared = (ratio(one, weight) for one in sums)
        finite = math.sqrt((self.members + 1) / self.members) if self.members else math.nan
        return crps, np.sqrt(variance), np.sqrt(squared), finite * np.sqrt(ratio(variance, squared))
