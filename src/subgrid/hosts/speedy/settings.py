"""Settings of the host and of the sampling of its columns; no jax here, so that the command line can check them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import gcd

from subgrid.base.errors import UsageError, require_seed

OBSERVED = "observed"
MOST_SST_CHANGE = 20.0
_WARMER = re.compile(r"[+-]\d+(\.\d+)?K")
#: Beyond any climate model's; jcm would fail later, and less clearly.
MOST_LEVELS = 128


@dataclass(frozen=True)
class SpeedyConfig:
    """Resolution and clock of the host.

    Args:
        truncation: spectral truncation, 21 (64 x 32 columns) or 31 (96 x 48).
        levels: sigma levels (8 is SPEEDY's own table).
        time_step_minutes: model step.
        start: first instant, ISO date.
        sst: sea-surface temperatures: ``observed``, or these warmer or colder by so much everywhere, such as ``+4K``;
            sea ice and the temperatures of land, which the host prescribes, stay.
    """

    truncation: int = 21
    levels: int = 8
    time_step_minutes: int = 30
    start: str = "2000-10-03"
    sst: str = OBSERVED

    def __post_init__(self) -> None:
        if self.truncation not in (21, 31):
            raise UsageError(f"host truncation {self.truncation} is not supported; choose 21 or 31")
        if self.levels > MOST_LEVELS:
            raise UsageError(f"host.levels={self.levels} is more than {MOST_LEVELS}")
        if not 1 <= self.time_step_minutes <= 1440:
            raise UsageError(f"host.time_step_minutes={self.time_step_minutes} must lie in [1, 1440]")
        if self.levels < 5:
            raise UsageError(f"SPEEDY physics needs at least 5 levels, not {self.levels}")
        if self.sst != OBSERVED and _WARMER.fullmatch(self.sst) is None:
            raise UsageError(f"host.sst={self.sst} must be {OBSERVED}, or a difference to it such as +4K or -2.5K")
        if abs(self.sst_change) > MOST_SST_CHANGE:
            raise UsageError(f"host.sst={self.sst} is more than {MOST_SST_CHANGE:g} K from the observed")
        if 1440 % self.time_step_minutes:
            raise UsageError(f"time_step_minutes={self.time_step_minutes} does not divide a day")

    @property
    def sst_change(self) -> float:
        """What is added to the observed sea-surface temperatures, K."""
        return 0.0 if self.sst == OBSERVED else float(self.sst.removesuffix("K"))

    @property
    def steps_per_day(self) -> int:
        """Model steps in a day."""
        return 1440 // self.time_step_minutes


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

    def check(self, host: SpeedyConfig) -> None:
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
