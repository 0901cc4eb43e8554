"""Zonal cross-sections of offline skill: sums per latitude row and channel, merged block by block."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from subgrid.columns.grid import ColumnGrid
from subgrid.scores.groups import band_centres, latitude_band


def zonal_rows(grid: ColumnGrid) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Latitudes of the rows of a section, degrees, (row,), and the row of each column, (column,).

    The rows of a regular grid are its own; on any other, where hardly two columns share a latitude, they are those
    bands of 10 degrees that have columns.
    """
    if grid.shape is not None:
        latitudes, row = np.unique(grid.latitude.round(6), return_inverse=True)
        return latitudes, row
    present, row = np.unique(latitude_band(grid.latitude), return_inverse=True)
    return band_centres()[present], row


class SectionSums:
    """Weighted sums per latitude row of truth, its square, the error and its square; (row, channel) float64."""

    def __init__(self, rows: int, channels: int) -> None:
        self.weight, self.truth, self.square, self.error, self.error_square = (
            np.zeros((rows, channels)) for _ in range(5)
        )

    def update(
        self,
        prediction: NDArray[np.float64],
        truth: NDArray[np.float64],
        weight: NDArray[np.float64],
        row: NDArray[np.intp],
    ) -> None:
        """Add a block: (n, channel) values and weights, row index (n,)."""
        error = prediction - truth
        parts = (
            (self.weight, weight),
            (self.truth, weight * truth),
            (self.square, weight * truth**2),
            (self.error, weight * error),
            (self.error_square, weight * error**2),
        )
        order = np.argsort(row, kind="stable")
        present, first = np.unique(row[order], return_index=True)
        for total, values in parts:
            total[present] += np.add.reduceat(values[order], first, axis=0)

    def result(self) -> dict[str, NDArray[np.float64]]:
        """``truth`` and ``bias`` (means) and ``r2`` per (row, channel); NaN where nothing varies."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self.truth / self.weight
            spread = self.square / self.weight - mean**2
            varies = spread > 1e-10 * self.square / self.weight
            unexplained = self.error_square / self.weight / spread
            return {
                "truth": mean,
                "bias": self.error / self.weight,
                "r2": np.where(varies, 1.0 - unexplained, np.nan),
            }
