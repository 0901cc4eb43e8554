"""Settings of the moist columns; no torch here, so that the command line can check them."""

from __future__ import annotations

from dataclasses import dataclass

from subgrid.base.errors import UsageError, require_seed
from subgrid.hosts.sampling import require_copies
from subgrid.hosts.seas import OBSERVED, parse_seas


@dataclass(frozen=True)
class ColumnConfig:
    """Independent columns above prescribed seas.

    Args:
        columns: how many, between the coldest and the warmest sea.
        levels: equal layers of sigma.
        time_step_minutes: model step.
        coldest_sea, warmest_sea: sea-surface temperatures of the first and the last column, K.
        sst: ``observed``, those themselves, or these warmer or colder by so much everywhere, such as ``+4K``.
        radiative_cooling: of the troposphere, K/day.
        forcing: standard deviation of the large-scale cooling by ascent at mid-levels, K/day.
        forcing_hours: its decorrelation time, h.
        relative_humidity: of the convective scheme's reference, 1.
        convective_hours: its time scale, h.
        start: first instant, ISO date.
        seed: of the large-scale forcing and the winds.
        copies: how often the columns are there, all alike: one for each of several emulators that run together.
    """

    columns: int = 128
    levels: int = 20
    time_step_minutes: int = 20
    coldest_sea: float = 296.0
    warmest_sea: float = 302.0
    sst: str = OBSERVED
    radiative_cooling: float = 1.5
    forcing: float = 4.0
    forcing_hours: float = 36.0
    relative_humidity: float = 0.7
    convective_hours: float = 2.0
    start: str = "2000-01-01"
    seed: int = 0
    copies: int = 1

    def __post_init__(self) -> None:
        require_seed(self.seed)
        require_copies(self.copies)
        if self.columns < 2 or not 8 <= self.levels <= 128:
            raise UsageError(
                f"host.columns={self.columns} must be at least 2, host.levels={self.levels} within 8 and 128"
            )
        if not 1 <= self.time_step_minutes <= 120 or 1440 % self.time_step_minutes:
            raise UsageError(f"host.time_step_minutes={self.time_step_minutes} must divide a day and be at most 120")
        if not 270.0 <= self.coldest_sea <= self.warmest_sea <= 320.0:
            raise UsageError(
                f"host.coldest_sea={self.coldest_sea} and host.warmest_sea={self.warmest_sea} must rise within 270 and "
                "320 K"
            )
        parse_seas(self.sst)
        if not 0.0 < self.relative_humidity <= 1.0 or not 0.25 <= self.convective_hours <= 48.0:
            raise UsageError(
                f"host.relative_humidity={self.relative_humidity} must lie in (0, 1], "
                f"host.convective_hours={self.convective_hours} within 0.25 and 48"
            )
        for name, most in (("radiative_cooling", 10.0), ("forcing", 50.0)):
            if not 0.0 <= getattr(self, name) <= most:
                raise UsageError(f"host.{name}={getattr(self, name)} must lie in [0, {most:g}]")
        if not self.forcing_hours > 0.0:
            raise UsageError(f"host.forcing_hours={self.forcing_hours} must be positive")

    @property
    def sst_change(self) -> float:
        """What is added to the sea-surface temperatures, K."""
        return parse_seas(self.sst).change

    @property
    def steps_per_day(self) -> int:
        """Model steps in a day."""
        return 1440 // self.time_step_minutes
