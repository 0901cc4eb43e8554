"""Weighted R2, MAE, RMSE and bias, accumulated block by block in float64 and mergeable.

For channel c with weights w (layer mass times area over sampling probability), truth y and prediction p::

    ybar_c = sum_i w y / sum_i w
    R2     = 1 - sum_c sum_i w (y - p)^2 / sum_c sum_i w (y - ybar_c)^2
    MAE    = sum_c sum_i w |p - y| / sum_c sum_i w
    RMSE   = sqrt(sum_c sum_i w (p - y)^2 / sum_c sum_i w)
    bias   = sum_c sum_i w (p - y) / sum_c sum_i w

with sums over one channel for the score of a level and over all levels for the score of a variable. Pooled
so, R2 is 0 for the climatology of the scored set itself and no dry level can send it to minus infinity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError
from subgrid.physics.arrays import Array
from subgrid.scores.arrays import FloatArray, constant, float64, jsonable, ratio


@dataclass(frozen=True)
class VariableScores:
    """Scores of one variable, pooled over its levels and at each level.

    Args:
        r2: coefficient of determination over all levels that vary; NaN where none does; 1.
        mae: mean absolute error over all levels, unit of the variable.
        rmse: root mean square error over all levels, unit of the variable.
        bias: mean of prediction minus truth over all levels, unit of the variable.
        r2_level: R2 at each level, shape (level,), NaN at constant ones.
        mae_level: MAE at each level, shape (level,).
        rmse_level: RMSE at each level, shape (level,).
        bias_level: bias at each level, shape (level,).
        constant: True at levels masked from R2: constant or without weight; shape (level,).
        n_samples: samples scored.
        n_nonfinite: predicted values that are NaN or infinite; they are in the scores, which show it.
    """

    r2: float
    mae: float
    rmse: float
    bias: float
    r2_level: FloatArray
    mae_level: FloatArray
    rmse_level: FloatArray
    bias_level: FloatArray
    constant: NDArray[np.bool_]
    n_samples: int
    n_nonfinite: int

    @property
    def n_constant(self) -> int:
        """Levels masked from R2."""
        return int(self.constant.sum())

    def to_dict(self) -> dict[str, Any]:
        """The scores as JSON-able numbers and lists; None where a score is not finite.

        Returns:
            Mapping with one key per field, and ``n_constant``.
        """
        scores: dict[str, Any] = {name: jsonable(value) for name, value in vars(self).items()}
        return scores | {"n_constant": self.n_constant}


@dataclass
class _Sums:
    """Weighted sums over samples, one number per channel."""

    weight: FloatArray
    mean: FloatArray
    deviation: FloatArray  # sum w (y - mean)^2
    error: FloatArray  # sum w (p - y)
    absolute: FloatArray  # sum w |p - y|
    squared: FloatArray  # sum w (p - y)^2
    nonfinite: NDArray[np.int64]
    n_samples: int

    @classmethod
    def empty(cls, n: int) -> _Sums:
        weight, mean, deviation, error, absolute, squared = np.zeros((6, n))
        return cls(weight, mean, deviation, error, absolute, squared, np.zeros(n, np.int64), n_samples=0)

    @classmethod
    def of_block(cls, prediction: FloatArray, truth: FloatArray, weight: FloatArray) -> _Sums:
        """Two-pass sums of one block: the mean first, so that large means cost no digits."""
        total = weight.sum(axis=0)
        mean = ratio((weight * truth).sum(axis=0), total, empty=0.0)
        with np.errstate(invalid="ignore", over="ignore"):  # a diverged prediction is counted and shown
            error = prediction - truth
            return cls(
                weight=total,
                mean=mean,
                deviation=(weight * (truth - mean) ** 2).sum(axis=0),
                error=(weight * error).sum(axis=0),
                absolute=(weight * np.abs(error)).sum(axis=0),
                squared=(weight * error**2).sum(axis=0),
                nonfinite=(~np.isfinite(prediction)).sum(axis=0),
                n_samples=len(truth),
            )

    def absorb(self, other: _Sums) -> None:
        """Chan, Golub and LeVeque (1983), the pairwise update, with weights in place of counts."""
        total = self.weight + other.weight
        share = ratio(other.weight, total, empty=0.0)
        step = other.mean - self.mean
        self.deviation = self.deviation + other.deviation + step**2 * self.weight * share
        self.mean = self.mean + step * share
        self.weight = total
        with np.errstate(invalid="ignore", over="ignore"):
            self.error = self.error + other.error
            self.absolute = self.absolute + other.absolute
            self.squared = self.squared + other.squared
        self.nonfinite = self.nonfinite + other.nonfinite
        self.n_samples += other.n_samples


class PointwiseScores:
    """Streaming scores of several variables at once.

    Each block is reduced to float64 sums in two passes, and sums are merged by Chan's formula. Blocks reduced
    by many workers and merged in index order give bit for bit what one worker gives with ``update``.

    Args:
        variables: name to number of levels (1 for a scalar), in channel order.

    Raises:
        SubgridError: no variables, or a number of levels below 1.

    Source: Chan, Golub and LeVeque (1983), Am. Stat. 37, 242 (merging); the module's first lines (scores).
    """

    def __init__(self, variables: Mapping[str, int]) -> None:
        if not variables or min(variables.values()) < 1:
            raise SubgridError(f"scores: every variable needs at least one level, not {dict(variables)}")
        self.variables = dict(variables)
        self._sums = _Sums.empty(self.n_channels)

    @property
    def n_channels(self) -> int:
        """Number of channels, the sum of all levels."""
        return sum(self.variables.values())

    def update(self, prediction: Array, truth: Array, weight: Array) -> None:
        """Add one block of samples.

        Args:
            prediction: shape (n, channel), physical units; numpy or torch, any float dtype.
            truth: shape (n, channel), physical units.
            weight: not negative; shape (n,) for every channel alike, or (n, channel), see
                :func:`channel_weights`. Only ratios of weights matter.

        Raises:
            SubgridError: shapes do not fit, truth is not finite, or a weight is negative or not finite.
        """
        truth, prediction = float64(truth), float64(prediction)
        if truth.ndim != 2 or truth.shape[1] != self.n_channels or prediction.shape != truth.shape:
            raise SubgridError(
                f"scores: prediction {prediction.shape} and truth {truth.shape} must both be (n, {self.n_channels})"
            )
        weights = _checked_weight(float64(weight), truth.shape)
        if not np.isfinite(truth).all():
            raise SubgridError(f"scores: truth of {self._names_where(~np.isfinite(truth))} is not finite")
        if len(truth):
            self._sums.absorb(_Sums.of_block(prediction, truth, weights))

    def merge(self, other: PointwiseScores) -> None:
        """Add the samples that ``other`` has seen; ``other`` is left as it is.

        Args:
            other: scores of the same variables.

        Raises:
            SubgridError: the variables, their order or their levels differ.
        """
        if list(self.variables.items()) != list(other.variables.items()):
            raise SubgridError(f"scores: cannot merge {other.variables} into {self.variables}")
        self._sums.absorb(other._sums)

    def result(self) -> dict[str, VariableScores]:
        """Scores of all samples so far.

        Returns:
            Name to scores, in channel order; NaN everywhere while there is no weight.
        """
        scores, start = {}, 0
        for name, n_levels in self.variables.items():
            scores[name] = _variable_scores(self._sums, slice(start, start + n_levels))
            start += n_levels
        return scores

    def _names_where(self, bad: NDArray[np.bool_]) -> str:
        owners = np.repeat(list(self.variables), list(self.variables.values()))
        return ", ".join(dict.fromkeys(owners[bad.any(axis=0)].tolist()))


def channel_weights(variables: Mapping[str, int], column_weight: Array, layer_mass: Array) -> FloatArray:
    """Weights of every channel: ``column_weight * layer_mass`` for profiles, ``column_weight`` for scalars.

    Args:
        variables: name to number of levels, in channel order; 1 marks a scalar.
        column_weight: area over sampling probability, shape (n,), any unit.
        layer_mass: dp / g, shape (n, level), kg m-2.

    Returns:
        Weights, shape (n, channel), float64. On a grid of one level, mass weighs scalars and profiles alike.

    Raises:
        SubgridError: lengths differ, or a variable has neither one level nor those of ``layer_mass``.

    Source: Horvitz and Thompson (1952) for the division by sampling probability.
    """
    column, mass = float64(column_weight), float64(layer_mass)
    if column.ndim != 1 or mass.ndim != 2 or len(mass) != len(column):
        raise SubgridError(
            f"scores: column weight (n,) and layer mass (n, level) expected, not {column.shape}, {mass.shape}"
        )
    profile, n_levels = column[:, None] * mass, mass.shape[1]
    unfit = {name: n for name, n in variables.items() if n not in (1, n_levels)}
    if unfit:
        raise SubgridError(f"scores: layer mass has {n_levels} levels, but the variables have {unfit}")
    return np.concatenate([profile if n == n_levels else column[:, None] for n in variables.values()], axis=1)


def _variable_scores(sums: _Sums, channels: slice) -> VariableScores:
    weight, mean, deviation = sums.weight[channels], sums.mean[channels], sums.deviation[channels]
    error, absolute, squared = sums.error[channels], sums.absolute[channels], sums.squared[channels]
    same = constant(deviation, weight, mean)
    varies = ~same

    def pooled(sums_of: FloatArray) -> float:
        return float(ratio(sums_of.sum(keepdims=True), weight.sum(keepdims=True))[0])

    unexplained = ratio(squared[varies].sum(keepdims=True), deviation[varies].sum(keepdims=True))
    return VariableScores(
        r2=float(1.0 - unexplained[0]),
        mae=pooled(absolute),
        rmse=math.sqrt(pooled(squared)),
        bias=pooled(error),
        r2_level=1.0 - ratio(squared, np.where(varies, deviation, 0.0)),
        mae_level=ratio(absolute, weight),
        rmse_level=np.sqrt(ratio(squared, weight)),
        bias_level=ratio(error, weight),
        constant=same,
        n_samples=sums.n_samples,
        n_nonfinite=int(sums.nonfinite[channels].sum()),
    )


def _checked_weight(weight: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    if weight.shape not in (shape[:1], shape):
        raise SubgridError(f"scores: weight must have shape {shape[:1]} or {shape}, not {weight.shape}")
    if not (np.isfinite(weight) & (weight >= 0)).all():
        raise SubgridError("scores: weights must be finite and not negative")
    return np.broadcast_to(weight[:, None] if weight.ndim == 1 else weight, shape)
