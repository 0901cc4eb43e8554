"""Which columns of which days of a host go into a store; no model here, so that the command line can check it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from math import gcd
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import UsageError, require_seed


def require_copies(copies: int) -> None:
    """Refuse a number of copies of a host's columns that makes no sense."""
    if not 1 <= copies <= 10_000:
        raise UsageError(f"host.copies={copies} must lie in [1, 10000]")


class Clock(Protocol):
    """What sampling needs to know of a host's settings: its first day (ISO date) and the steps of a day."""

    @property
    def start(self) -> str: ...

    @property
    def steps_per_day(self) -> int: ...


@dataclass(frozen=True)
class GenerateConfig:
    """How columns are sampled from the host.

    Args:
        spin_up_days: days from rest that are thrown away.
        train_days: length of the training stretch that follows.
        evaluation_days: length of the stretch for validation and test months after it.
        gap_days: days left out at the start of every validation or test month.
        stride: steps between samples; coprime with the steps of a day, so that every time of day is met.
        fraction: share of the columns drawn at a training sample (probability proportional to area).
        evaluation_fraction: the same at validation and test samples.
        perturbed_fraction: share of the columns drawn (alike everywhere) at each training sample, perturbed and stored
            with the host's answer in the split ``perturbed``; 0 for none.
        terms: also store the tendencies of each process group.
        seed: of the draw of columns.
    """

    spin_up_days: int = 90
    train_days: int = 365
    evaluation_days: int = 365
    gap_days: int = 3
    stride: int = 11
    fraction: float = 0.4
    evaluation_fraction: float = 0.1
    perturbed_fraction: float = 0.15
    terms: bool = False
    seed: int = 0

    def check(self, host: Clock) -> None:
        """Raise :class:`UsageError` for settings that cannot work together."""
        require_seed(self.seed)
        if self.stride < 1 or gcd(self.stride, host.steps_per_day) != 1:
            raise UsageError(
                f"stride={self.stride} shares a factor with the {host.steps_per_day} steps of a day and would "
                "always meet the same hours; choose e.g. 11 or 7"
            )
        for name in ("fraction", "evaluation_fraction"):
            if not 0.0 < getattr(self, name) <= 0.6:
                raise UsageError(f"{name}={getattr(self, name)} must lie in (0, 0.6]")
        if not 0.0 <= self.perturbed_fraction <= 1.0:
            raise UsageError(f"perturbed_fraction={self.perturbed_fraction} must lie in [0, 1]")
        for name in ("spin_up_days", "gap_days"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name}={getattr(self, name)} must not be negative")
        for name in ("train_days", "evaluation_days"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)} must be at least 1")


class Calendar:
    """Which day belongs to which split; days are counted from the host's start."""

    def __init__(self, host: Clock, config: GenerateConfig) -> None:
        try:
            self.start = dt.date.fromisoformat(host.start)
        except ValueError as error:
            raise UsageError(f"start={host.start} is not an ISO date such as 2000-10-03") from error
        self.config = config
        self.first_train = config.spin_up_days
        self.first_evaluation = config.spin_up_days + config.train_days
        self.days = self.first_evaluation + config.evaluation_days

    def date(self, day: int) -> dt.date:
        """Calendar date of a day."""
        return self.start + dt.timedelta(days=day)

    def split(self, day: int) -> str | None:
        """``train``, ``validation``, ``test`` or None (spin-up and gaps).

        The evaluation stretch is cut at month starts (or, if it is shorter than two months, into halves);
        its parts alternate between validation and test, each beginning with a gap.
        """
        if day < self.first_train:
            return None
        if day < self.first_evaluation:
            return "train"
        into = day - self.first_evaluation
        if self.config.evaluation_days < 59:
            length = -(-self.config.evaluation_days // 2)
            part, since = divmod(into, length)
        else:
            first, date = self.date(self.first_evaluation), self.date(day)
            part = (date.year - first.year) * 12 + date.month - first.month
            since = date.day - 1 if part else into
        if since < self.config.gap_days:
            return None
        return ("validation", "test")[part % 2]

    def restart_here(self, day: int) -> bool:
        """Whether the state at the start of ``day`` is kept: the evaluation stretch's start and its month starts."""
        if day < self.first_evaluation:
            return False
        return day == self.first_evaluation or self.date(day).day == 1 or self._half_start(day)

    def _half_start(self, day: int) -> bool:
        half = -(-self.config.evaluation_days // 2)
        return self.config.evaluation_days < 59 and day == self.first_evaluation + half


def column_probability(area: NDArray[np.float64], fraction: float) -> NDArray[np.float64]:
    """Probability of drawing each column: proportional to area, on average ``fraction``."""
    return np.minimum(1.0, fraction * area / area.mean())
