"""Means over groups of rows, block by block: zonal means, means by rain amount, and R2 of daily zonal means."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError
from subgrid.physics.arrays import Array
from subgrid.scores.arrays import FloatArray, RowGroups, constant, float64, ratio

BAND_WIDTH = 10.0
SECONDS_PER_DAY = 86400


def band_centres(width: float = BAND_WIDTH) -> FloatArray:
    """Middles of latitude bands from south to north, degrees; raises :class:`SubgridError` if they do not fill 180."""
    bands = round(180.0 / width) if width > 0 else 0
    if bands < 1 or abs(bands * width - 180.0) > 1e-9:
        raise SubgridError(f"latitude bands of {width} degrees do not fill 180 degrees; choose 10, for example")
    return np.asarray(-90.0 + width * (np.arange(bands) + 0.5), np.float64)


def latitude_band(latitude: FloatArray, width: float = BAND_WIDTH) -> NDArray[np.intp]:
    """The band of each latitude, 0 from 90 S; a latitude on an edge is of the band north of it, 90 N of the last.

    Args:
        latitude: degrees north, any shape, -90 to 90.
        width: of a band, degrees.

    Returns:
        Band numbers, shape of ``latitude``.

    Raises:
        SubgridError: the width does not fill 180 degrees, or a latitude lies outside.
    """
    bands = band_centres(width).size
    if latitude.size and not (np.abs(latitude) <= 90.0).all():
        raise SubgridError("latitude bands: a latitude lies outside -90 to 90 degrees")
    return np.minimum((latitude + 90.0) // width, bands - 1).astype(np.intp)


class GroupMeans:
    """Weighted means of rows by group, of anything: truth, error, a network's own confidence; in float64.

    Args:
        groups: how many groups there are.
        channels: width of the rows.
    """

    def __init__(self, groups: int, channels: int) -> None:
        self.weight: FloatArray = np.zeros(groups)
        self.total: FloatArray = np.zeros((groups, channels))

    def update(self, values: Array, weight: FloatArray, group: NDArray[np.integer[Any]]) -> None:
        """Add a block: values (n, channel), weights and group numbers (n,)."""
        if not len(group):
            return
        groups = RowGroups(group)
        weight = float64(weight)[:, None]
        with np.errstate(invalid="ignore", over="ignore"):
            self.total[groups.present] += groups.sum(weight * float64(values))
        self.weight[groups.present] += groups.sum(weight)[:, 0]

    def mean(self) -> FloatArray:
        """Means, (group, channel); NaN for a group without weight."""
        return ratio(self.total, self.weight[:, None])


class DailyScores:
    """R2 over days of daily means by group (a latitude band).

    ``R2 = 1 - sum_d (pbar_d - ybar_d)^2 / sum_d (ybar_d - mean_d ybar_d)^2`` with pbar and ybar the weighted means of a
    day over the group's columns and all steps of that day. Memory is days x groups x channels x 2 numbers.

    Args:
        groups: how many groups there are.
        channels: width of the rows.

    Source: Yu et al. (2023, ClimSim), figures of the daily-mean, zonal-mean R2.
    """

    def __init__(self, groups: int, channels: int) -> None:
        self.groups, self.channels = groups, channels
        self.days: dict[int, tuple[GroupMeans, GroupMeans]] = {}

    def update(
        self,
        prediction: FloatArray,
        truth: FloatArray,
        weight: FloatArray,
        group: NDArray[np.integer[Any]],
        time: NDArray[np.int64],
    ) -> None:
        """Add a block: values (n, channel); weights, group numbers and times (n,), s since midnight of some day."""
        if not len(group):
            return
        day = time // SECONDS_PER_DAY
        # One group for each day and group: a block of shuffled rows holds a few rows of every day of a year.
        rows = RowGroups(day * self.groups + group)
        weight = float64(weight)[:, None]
        weights = rows.sum(weight)[:, 0]
        with np.errstate(invalid="ignore", over="ignore"):
            totals = [rows.sum(weight * values) for values in (prediction, truth)]
        days, within = np.divmod(rows.present, self.groups)
        for number in np.unique(days):
            part = days == number
            for means, total in zip(self._means(int(number)), totals, strict=True):
                means.weight[within[part]] += weights[part]
                means.total[within[part]] += total[part]

    def _means(self, day: int) -> tuple[GroupMeans, GroupMeans]:
        """Those of a day, of prediction and of truth."""
        if day not in self.days:
            self.days[day] = (GroupMeans(self.groups, self.channels), GroupMeans(self.groups, self.channels))
        return self.days[day]

    def r2(self) -> FloatArray:
        """R2 over the days in which a group has rows, (group, channel); NaN where its truth does not vary."""
        shape = (self.groups, self.channels)
        count, total, spread, missed = np.zeros((self.groups, 1)), np.zeros(shape), np.zeros(shape), np.zeros(shape)
        for _, truth in self.days.values():
            count += (truth.weight > 0)[:, None]
            total += np.nan_to_num(truth.mean())
        mean = ratio(total, count, empty=0.0)
        with np.errstate(invalid="ignore", over="ignore"):
            for prediction, truth in self.days.values():
                there = (truth.weight > 0)[:, None]
                spread += np.where(there, (truth.mean() - mean) ** 2, 0.0)
                missed += np.where(there, (prediction.mean() - truth.mean()) ** 2, 0.0)
        same = constant(spread, np.broadcast_to(count, shape), mean)
        return 1.0 - ratio(missed, np.where(same, 0.0, spread))


def rain_edges(rate: FloatArray, bins: int = 10) -> FloatArray:
    """Inner edges of bins that hold equal shares of the rows with rain, (bins - 1,); empty if it never rains.

    Args:
        rate: true precipitation of every row, (n,), any unit; rain is what is above zero.
        bins: how many.
    """
    rain = float64(rate)
    rain = rain[rain > 0]
    return np.quantile(rain, np.arange(1, bins) / bins) if rain.size else np.empty(0)


def rain_bin(rate: FloatArray, edges: FloatArray) -> NDArray[np.intp]:
    """0 where there is no rain, else 1 to ``edges.size + 1`` by amount; a rate on an edge is of the bin above."""
    rate = float64(rate)
    return np.where(rate > 0, 1 + np.searchsorted(edges, rate, side="right"), 0)
