"""Scores of an ensemble's members: the fair continuous ranked probability score."""

from __future__ import annotations

import numpy as np

from subgrid.base.errors import SubgridError
from subgrid.physics.arrays import Array
from subgrid.scores.arrays import FloatArray, float64


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
