"""What a confidence is worth: rank correlation of told and true error, and skill on what is told to be surest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError
from subgrid.physics.arrays import Array
from subgrid.scores.arrays import FloatArray, float64, ratio

#: Shares of rows that are kept, the surest first.
KEPT = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


def spearman(told: Array, true: Array) -> float:
    """Spearman's rank correlation, ties with their mean rank; NaN where one of them does not vary.

    Args:
        told: shape (n,), any unit: only its order counts.
        true: shape (n,), of the same rows. An absolute error, its square or Huber's loss of it give the same number.

    Raises:
        SubgridError: shapes that differ, or a value that is not finite.
    """
    from scipy.stats import rankdata

    one, other = float64(told), float64(true)
    if one.ndim != 1 or one.shape != other.shape:
        raise SubgridError(f"rank correlation: two arrays (n,) expected, not {one.shape} and {other.shape}")
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise SubgridError("rank correlation: a confidence or an error is not finite")
    if not one.size or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


@dataclass(frozen=True)
class KeptScores:
    """Scores of the rows that are kept, for each share of :data:`KEPT`, shape (share,).

    Args:
        r2: ``1 - sum e^2 / sum (y - mean y)^2`` over the rows kept of each channel, with their own mean; NaN where
            nothing of them varies.
        mse: mean squared error of what is kept as a share of that of all rows.
        mse_best: the same if the rows of least true error were kept: no confidence can do better.
    """

    r2: FloatArray
    mse: FloatArray
    mse_best: FloatArray


def kept_scores(told: Array, error: Array, truth: Array) -> KeptScores:
    """Skill on the rows that are told to be surest, each channel with rows of its own.

    Args:
        told: error that is told, shape (n, channel), any unit.
        error: true one, shape (n, channel), in units in which the channels may be added.
        truth: shape (n, channel), in the same units.

    Raises:
        SubgridError: shapes that differ, or no rows.

    Source: Nadeem et al. (2009), JMLR W&CP 8, 65 (accuracy and rejection); Ilg et al. (2018), ECCV (beside the best
    possible order).
    """
    t, e, y = float64(told), float64(error), float64(truth)
    if t.ndim != 2 or not len(t) or e.shape != t.shape or y.shape != t.shape:
        raise SubgridError(f"kept rows: three arrays (n, channel) expected, not {t.shape}, {e.shape} and {y.shape}")
    square, y = e**2, y - y.mean(axis=0)
    counts = np.maximum(1, np.round(np.array(KEPT) * len(t)).astype(int)) - 1
    order = np.argsort(t, axis=0, kind="stable")
    lost, first, second = (_sums(values, order)[counts] for values in (square, y, y**2))
    rows = (counts + 1.0)[:, None]
    spread = np.maximum(second - first**2 / rows, 0.0)
    best = np.cumsum(np.sort(square, axis=0), axis=0)[counts]
    every = np.full(len(counts), square.mean(axis=0).sum())
    return KeptScores(
        1.0 - ratio(lost.sum(1), spread.sum(1)),
        ratio((lost / rows).sum(1), every),
        ratio((best / rows).sum(1), every),
    )


def _sums(values: FloatArray, order: NDArray[np.intp]) -> FloatArray:
    """Running sums of each column in its order."""
    return np.cumsum(np.take_along_axis(values, order, axis=0), axis=0)
