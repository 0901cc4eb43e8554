"""The score of the LEAP/ClimSim competition on Kaggle: R2 of each output over all rows, then their plain mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class PooledR2:
    """R2 of each channel over all rows seen, block by block, float64; memory is a few numbers per channel.

    ``R2 = 1 - sum (y - yhat)^2 / sum (y - ybar)^2``, unweighted and unclipped. Where the truth is constant it is 1 for
    a prediction that is equal to it throughout, else 0: the rule of scikit-learn's ``r2_score``.

    Sums are of differences from the first row, so that a constant is exactly one and a large mean costs no digits;
    blocks merge by Chan, Golub and LeVeque (1983).
    """

    def __init__(self, channels: int) -> None:
        self.rows = 0
        self.first = np.zeros(channels)
        self.mean, self.spread, self.error = (np.zeros(channels) for _ in range(3))

    def update(self, prediction: NDArray[np.float64], truth: NDArray[np.float64]) -> None:
        """Add a block: (n, channel) each."""
        rows = len(truth)
        if rows == 0:
            return
        if self.rows == 0:
            self.first = truth[0].astype(np.float64)
        shifted = truth.astype(np.float64) - self.first
        mean = shifted.mean(axis=0)
        away = mean - self.mean
        total = self.rows + rows
        self.spread += ((shifted - mean) ** 2).sum(axis=0) + away**2 * (self.rows * rows / total)
        self.mean += away * (rows / total)
        self.error += ((prediction - truth) ** 2).sum(axis=0)
        self.rows = total

    def result(self) -> NDArray[np.float64]:
        """R2 per channel; NaN before two rows were seen."""
        if self.rows < 2:
            return np.full(self.spread.shape, np.nan)
        constant = self.spread == 0.0
        with np.errstate(invalid="ignore", divide="ignore"):
            varying = 1.0 - self.error / self.spread
        return np.where(constant, np.where(self.error == 0.0, 1.0, 0.0), varying)


def competition_scores(r2: NDArray[np.float64], weight: NDArray[np.float64]) -> dict[str, float]:
    """The two means of the competition.

    Args:
        r2: of each output, (channel,).
        weight: by which the competition multiplies each output, (channel,); only whether it is zero matters, as R2 does
            not change with a scale.

    Returns:
        ``r2_308``: mean over the outputs of nonzero weight; ``r2_368``: mean over all outputs, those of zero weight
        counting 1, as submission and solution are both zero there. The names are those of the 60-level file.

    Raises:
        ValueError: the lengths differ, or no weight is nonzero.

    Source: LEAP - Atmospheric Physics using AI (ClimSim), Kaggle 2024; Lin et al. (2025), arXiv 2511.20963.
    """
    if r2.shape != weight.shape or not (weight != 0.0).any():
        raise ValueError(f"R2 of {r2.shape} and weights of {weight.shape}, at least one of them nonzero")
    live = weight != 0.0
    return {"r2_308": float(r2[live].mean()), "r2_368": float(np.where(live, r2, 1.0).mean())}
