"""The published aggregation of ClimSim: scores of each column over time, then plain means over columns and levels.

For column c and channel k (a level of a variable) with truth y, prediction p and e = p - y at the times t of that
column::

    MAE  = mean_t |e|            RMSE = sqrt(mean_t e^2)            bias = mean_t e
    R2   = 1 - sum_t e^2 / sum_t (y - mean_t y)^2

and the score of a level is the plain mean over columns, that of a variable the plain mean over its levels. Area is in
the values already (see :func:`subgrid.evaluation.energy.energy_factors`), so it is not a weight here. Where a column
does not vary the published R2 is 0/0 or minus infinity; beside it stand

``r2_guarded``
    the same without the columns that do not vary, which are counted in ``n_constant_level``: by the standard deviation
    of the truth below 1e-5 of its mean in the column, or of its standard deviation within all columns of the level;
``r2_pooled``
    ``1 - sum_c sum_t e^2 / sum_c sum_t (y - mean_ct y)^2``, over columns and times together (and over levels, for a
    variable): no dry column can send it to minus infinity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError
from subgrid.physics.arrays import Array
from subgrid.scores.arrays import CONSTANT_RATIO, FloatArray, RowGroups, constant, float64, jsonable, ratio
from subgrid.scores.members import fair_crps

#: Numbers that are worked on at a time: few enough that what is made of them stays in the processor's cache (twice the
#: speed of whole blocks).
IN_CACHE = 1 << 18


@dataclass(frozen=True)
class ColumnwiseScores:
    """Scores of one variable; ``*_level`` has shape (level,), the unit is that of the values given.

    Args:
        mae, rmse, bias, r2: the published scores; ``r2`` is NaN or minus infinity where a column does not vary.
        r2_guarded: without columns that do not vary; NaN if none varies.
        r2_pooled: over columns and times together; NaN if nothing varies.
        crps: fair CRPS, time mean, then columns and levels; None where the predictor gave no members.
        n_constant_level: columns left out of ``r2_guarded`` at each level.
        columns: columns with at least one row.
        n_nonfinite: predicted values that are NaN or infinite; they are in the scores, which show it.
    """

    mae: float
    rmse: float
    bias: float
    r2: float
    r2_guarded: float
    r2_pooled: float
    crps: float | None
    mae_level: FloatArray
    rmse_level: FloatArray
    bias_level: FloatArray
    r2_level: FloatArray
    r2_guarded_level: FloatArray
    r2_pooled_level: FloatArray
    crps_level: FloatArray | None
    n_constant_level: NDArray[np.int64]
    columns: int
    n_nonfinite: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able numbers and lists; None where a score is not finite."""
        return {name: jsonable(value) for name, value in vars(self).items()}


class ColumnScores:
    """Streaming scores by column; blocks of rows come in any order of time, each row with its column.

    Each block is reduced in two passes (the mean of each column first) and merged by Chan's formula, in float64.
    Memory is columns x channels x 6 numbers, however many rows there are.

    Args:
        variables: name to number of levels (1 for a scalar), in channel order.
        columns: number of columns of the grid.

    Source: Yu et al. (2023, ClimSim), section 4; Chan, Golub and LeVeque (1983), Am. Stat. 37, 242 (merging).
    """

    def __init__(self, variables: Mapping[str, int], columns: int) -> None:
        if not variables or min(variables.values()) < 1 or columns < 1:
            raise SubgridError(f"scores: no channels or columns in {dict(variables)} on {columns} columns")
        self.variables, self.columns = dict(variables), columns
        channels = sum(self.variables.values())
        self.count: NDArray[np.int64] = np.zeros(columns, np.int64)
        self.mean, self.deviation, self.error, self.absolute, self.squared = (
            np.zeros((columns, channels)) for _ in range(5)
        )
        self.crps: FloatArray | None = None
        self.nonfinite: NDArray[np.int64] = np.zeros(channels, np.int64)

    def update(self, prediction: Array, truth: Array, column: NDArray[np.integer[Any]]) -> None:
        """Add a block of rows.

        Args:
            prediction: shape (n, channel), or (members, n, channel): then the mean of the members is scored, and the
                members by CRPS.
            truth: shape (n, channel), finite.
            column: number of each row's column, (n,), 0 to ``columns`` - 1.

        Raises:
            SubgridError: shapes do not fit, truth is not finite, a column is not of the grid, or members come in some
                blocks only.
        """
        truth, prediction = float64(truth), float64(prediction)
        self._check(prediction, truth, column)
        rows = min(max(1, IN_CACHE // truth.shape[1]), len(truth))
        # Two buffers for all slices: fresh memory for each costs more than the sums.
        buffers = np.empty((2, rows, truth.shape[1]))
        for start in range(0, len(truth), rows or 1):
            part = slice(start, start + rows)
            self._add(prediction[..., part, :], truth[part], column[part], buffers)

    def _add(
        self, prediction: FloatArray, truth: FloatArray, column: NDArray[np.integer[Any]], buffers: FloatArray
    ) -> None:
        groups = RowGroups(column)
        error, size = buffers[:, : len(truth)]
        with np.errstate(invalid="ignore", over="ignore"):  # a diverged prediction is counted and shown
            if prediction.ndim == 3:
                if self.crps is None:
                    self.crps = np.zeros_like(self.mean)
                self.crps[groups.present] += groups.sum(fair_crps(prediction, truth))
                prediction = prediction.mean(axis=0)
            self._absorb(groups, truth, size)
            np.subtract(prediction, truth, out=error)
            self.error[groups.present] += groups.sum(error)
            self.absolute[groups.present] += groups.sum(np.abs(error, out=size))
            self.squared[groups.present] += groups.sum(np.square(error, out=error))
        self.nonfinite += (~np.isfinite(prediction)).sum(axis=0)

    def _check(self, prediction: FloatArray, truth: FloatArray, column: NDArray[np.integer[Any]]) -> None:
        channels = self.mean.shape[1]
        fits = truth.ndim == 2 and truth.shape[1] == channels and prediction.shape[-2:] == truth.shape
        if not fits or prediction.ndim not in (2, 3) or column.shape != truth.shape[:1]:
            raise SubgridError(
                f"scores: prediction {prediction.shape} and truth {truth.shape} must be ([members,] n, {channels}), "
                f"and column {column.shape} must be (n,)"
            )
        if not np.isfinite(truth).all():
            raise SubgridError("scores: truth is not finite")
        if len(column) and not (column.min() >= 0 and column.max() < self.columns):
            raise SubgridError(f"scores: a column number lies outside 0 to {self.columns - 1}")
        if self.count.any() and (prediction.ndim == 3) != (self.crps is not None):
            raise SubgridError("scores: members must come in every block or in none")

    def _absorb(self, groups: RowGroups, truth: FloatArray, departure: FloatArray) -> None:
        """Mean and squared departures (a buffer) of the truth, merged into those of the blocks before."""
        at, count = groups.present, groups.count[:, None]
        mean = groups.sum(truth) / count
        np.subtract(truth, np.take(mean, groups.index, axis=0, out=departure, mode="clip"), out=departure)
        before = self.count[at][:, None]
        step = mean - self.mean[at]
        share = count / (before + count)
        self.deviation[at] += groups.sum(np.square(departure, out=departure)) + step**2 * before * share
        self.mean[at] += step * share
        self.count[at] += groups.count

    def result(self) -> dict[str, ColumnwiseScores]:
        """Scores of all rows so far by variable; NaN everywhere while there are none."""
        found, start = {}, 0
        for name, width in self.variables.items():
            found[name] = self._variable(slice(start, start + width))
            start += width
        return found

    def r2_columns(self) -> FloatArray:
        """R2 of each column and channel, (column, channel), as published: NaN for 0/0, minus infinity for x/0."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return 1.0 - self.squared / self.deviation

    def _variable(self, part: slice) -> ColumnwiseScores:
        seen = self.count > 0
        count = self.count[seen][:, None].astype(np.float64)
        mean, deviation, squared = (a[seen, part] for a in (self.mean, self.deviation, self.squared))
        with np.errstate(invalid="ignore"):
            mae, rmse, bias = (
                _over_columns(a)
                for a in (self.absolute[seen, part] / count, np.sqrt(squared / count), self.error[seen, part] / count)
            )
            r2 = _over_columns(self.r2_columns()[seen, part])
        same = constant(deviation, np.broadcast_to(count, mean.shape), mean) | _still(count, deviation)
        varying = (~same).sum(axis=0).astype(np.float64)
        guarded = ratio(np.where(same, 0.0, 1.0 - ratio(squared, np.where(same, 0.0, deviation), 0.0)).sum(0), varying)
        crps = None if self.crps is None else _over_columns(self.crps[seen, part] / count)
        pooled_level, pooled = _pooled(count, mean, deviation, squared)
        return ColumnwiseScores(
            mae=_over_levels(mae),
            rmse=_over_levels(rmse),
            bias=_over_levels(bias),
            r2=_over_levels(r2),
            r2_guarded=_over_levels(guarded[varying > 0]),
            r2_pooled=pooled,
            crps=None if crps is None else _over_levels(crps),
            mae_level=mae,
            rmse_level=rmse,
            bias_level=bias,
            r2_level=r2,
            r2_guarded_level=guarded,
            r2_pooled_level=pooled_level,
            crps_level=crps,
            n_constant_level=same.sum(axis=0),
            columns=int(seen.sum()),
            n_nonfinite=int(self.nonfinite[part].sum()),
        )


def _still(count: FloatArray, deviation: FloatArray) -> NDArray[np.bool_]:
    """Columns whose standard deviation is below :data:`CONSTANT_RATIO` of that within all columns of the level."""
    within = deviation.sum(axis=0) / count.sum() if len(count) else deviation.sum(axis=0)
    return deviation < CONSTANT_RATIO**2 * count * within


def _over_columns(values: FloatArray) -> FloatArray:
    return values.mean(axis=0) if len(values) else np.full(values.shape[1], np.nan)


def _over_levels(values: FloatArray) -> float:
    with np.errstate(invalid="ignore"):
        return float(values.mean()) if values.size else float("nan")


def _pooled(
    count: FloatArray, mean: FloatArray, deviation: FloatArray, squared: FloatArray
) -> tuple[FloatArray, float]:
    """R2 over columns and times together, by level and over all levels that vary."""
    total = np.full(mean.shape[1], count.sum())
    centre = ratio((count * mean).sum(axis=0), total, empty=0.0)
    spread = deviation.sum(axis=0) + (count * (mean - centre) ** 2).sum(axis=0)
    varies = ~constant(spread, total, centre)
    unexplained = squared.sum(axis=0)
    by_level = 1.0 - ratio(unexplained, np.where(varies, spread, 0.0))
    together = ratio(unexplained[varies].sum(keepdims=True), spread[varies].sum(keepdims=True))
    return by_level, float(1.0 - together[0])
