"""How long runs last, what tells it beforehand, and how many runs tell two designs apart; with intervals."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from subgrid.base.errors import SubgridError

LEVEL = 0.95
#: Draws behind an interval, and behind a power.
DRAWS, TRIALS = 2000, 400


@dataclass(frozen=True)
class Survival:
    """Share of runs that last longer than each time.

    Args:
        time: at which runs ended, increasing, (k,).
        share: Kaplan-Meier estimate after each, (k,), 1.
        low, high: bounds of its interval, (k,), 1.
    """

    time: NDArray[np.float64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def _censored(lasted: ArrayLike, ended: ArrayLike) -> stats.CensoredData:
    time, over = np.asarray(lasted, np.float64), np.asarray(ended, bool)
    if time.ndim != 1 or time.shape != over.shape or not time.size:
        raise SubgridError(f"survival: times {time.shape} and ends {over.shape} must be equally many, and some")
    if not (np.isfinite(time) & (time >= 0)).all():
        raise SubgridError("survival: times must be finite and not negative")
    return stats.CensoredData.right_censored(time, ~over)


def survival_curve(lasted: ArrayLike, ended: ArrayLike, level: float = LEVEL) -> Survival:
    """The Kaplan-Meier estimate, with Greenwood's interval of log(-log S).

    Args:
        lasted: how long each run was, shape (run,), any unit.
        ended: whether it ended there by itself; otherwise it was still going, shape (run,).
        level: of the interval.

    Returns:
        The curve at the times at which runs ended.

    Raises:
        SubgridError: shapes differ, no runs, or times are not finite.

    Source: Kaplan and Meier (1958); scipy.stats.ecdf.
    """
    found = stats.ecdf(_censored(lasted, ended)).sf
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # undefined where all or none are left; there the interval is the estimate
        interval = found.confidence_interval(level, method="log-log")
    keep = np.isin(found.quantiles, np.asarray(lasted, np.float64)[np.asarray(ended, bool)])
    share = found.probabilities[keep]
    low, high = (np.asarray(side.probabilities, np.float64)[keep] for side in (interval.low, interval.high))
    return Survival(
        found.quantiles[keep], share, np.where(np.isfinite(low), low, share), np.where(np.isfinite(high), high, share)
    )


def rank_correlation(
    one: ArrayLike, other: ArrayLike, seed: int = 0, level: float = LEVEL
) -> tuple[float, float, float]:
    """Spearman's rank correlation and its bootstrap interval.

    Args:
        one: shape (run,), any unit.
        other: shape (run,), any unit.
        seed: of the draws.
        level: of the interval.

    Returns:
        The correlation, and the two bounds (percentiles over draws of runs with replacement).

    Raises:
        SubgridError: fewer than 3 runs, shapes differ, or values are not finite.

    Source: Spearman (1904); Efron and Tibshirani (1993), percentile bootstrap of pairs.
    """
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 3 or not np.isfinite([a, b]).all():
        raise SubgridError("rank correlation: two finite values of each of at least 3 runs are needed")
    rng = np.random.default_rng(seed)
    drawn = [_spearman(a[rows], b[rows]) for rows in rng.integers(0, len(a), (DRAWS, len(a)))]
    low, high = np.nanquantile(drawn, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return _spearman(a, b), float(low), float(high)


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    ranks = stats.rankdata(a), stats.rankdata(b)
    spread = ranks[0].std() * ranks[1].std()
    centred = (ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean())
    return float(centred.mean() / spread) if spread > 0 else float("nan")


def power(
    one: tuple[ArrayLike, ArrayLike],
    other: tuple[ArrayLike, ArrayLike],
    members: int,
    seed: int = 0,
    alpha: float = 0.05,
) -> float:
    """How often so many members of each of two designs tell them apart by a log-rank test.

    Args:
        one: times and ends of many runs of a design, as for :func:`survival_curve`.
        other: of the other design.
        members: drawn of each, with replacement.
        seed: of the draws.
        alpha: a test below this tells them apart.

    Returns:
        Share of trials, 1.

    Raises:
        SubgridError: as :func:`survival_curve`, or no members.

    Source: Mantel (1966); power by resampling.
    """
    if members < 1:
        raise SubgridError("power: at least one member is needed")
    designs = [(np.asarray(t, np.float64), np.asarray(e, bool)) for t, e in (one, other)]
    for time, over in designs:
        _censored(time, over)

    def apart(rows: list[NDArray[np.intp]]) -> bool:
        drawn = [_censored(time[r], over[r]) for (time, over), r in zip(designs, rows, strict=True)]
        if all(part.num_censored() == members for part in drawn):
            return False  # nothing ended, and nothing is told
        with np.errstate(all="ignore"):
            return bool(stats.logrank(*drawn).pvalue < alpha)

    return _share_of_trials(apart, [len(time) for time, _ in designs], members, seed)


def _share_of_trials(
    apart: Callable[[list[NDArray[np.intp]]], bool], sizes: Sequence[int], members: int, seed: int
) -> float:
    """How often ``apart`` holds for so many rows of each design, drawn with replacement."""
    rng = np.random.default_rng(seed)
    return sum(apart([rng.integers(0, size, members) for size in sizes]) for _ in range(TRIALS)) / TRIALS


def power_of_errors(one: ArrayLike, other: ArrayLike, members: int, seed: int = 0, alpha: float = 0.05) -> float:
    """How often so many members of each of two designs tell them apart by a rank-sum test of their errors.

    Args:
        one: errors of many runs of a design; NaN for a run that ended, which ranks behind every other.
        other: of the other design.
        members: drawn of each, with replacement.
        seed: of the draws.
        alpha: a test below this tells them apart.

    Returns:
        Share of trials, 1.

    Raises:
        SubgridError: no members, or a design without runs.

    Source: Mann and Whitney (1947); power by resampling.
    """
    designs = [np.nan_to_num(np.asarray(errors, np.float64).ravel(), nan=np.inf) for errors in (one, other)]
    if members < 1 or not all(errors.size for errors in designs):
        raise SubgridError("power: at least one member of each design is needed")

    def apart(rows: list[NDArray[np.intp]]) -> bool:
        drawn = [errors[r] for errors, r in zip(designs, rows, strict=True)]
        return bool(stats.mannwhitneyu(*drawn).pvalue < alpha)

    return _share_of_trials(apart, [errors.size for errors in designs], members, seed)


def members_needed(chance: Callable[[int], float], wanted: float = 0.8, most: int = 200) -> int | None:
    """The fewest members of each design that tell them apart with power ``wanted``; None: ``most`` are too few.

    Args:
        chance: power by number of members: :func:`power` or :func:`power_of_errors` of two designs.
        wanted: power.
        most: members.
    """
    if chance(most) < wanted:
        return None
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= wanted else (middle + 1, high)
    return low
