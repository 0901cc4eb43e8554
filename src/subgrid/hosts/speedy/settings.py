"""Settings of the host; no jax here, so that the command line can check them."""

from __future__ import annotations

from dataclasses import dataclass

from subgrid.base.errors import UsageError
from subgrid.hosts.seas import AQUAPLANET, OBSERVED, UNIFORM, Seas, parse_seas

SEAS = (OBSERVED, AQUAPLANET, UNIFORM)
MOST_CO2 = 10_000.0
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
        sst: sea-surface temperatures: ``observed``, or these warmer or colder by so much everywhere, such as ``+4K``
            (sea ice and the temperatures of land, which the host prescribes, stay); ``aquaplanet``: no land and no ice,
            27 cos^2(3 latitude / 2) C between 60 S and 60 N and 0 C beyond (the control of Neale and Hoskins 2000);
            ``uniform``: no land and no ice, 27 C everywhere; both also with a difference, such as ``aquaplanet+4K``.
        co2: ppm; SPEEDY's longwave absorption by it grows with it in proportion.
    """

    truncation: int = 21
    levels: int = 8
    time_step_minutes: int = 30
    start: str = "2000-10-03"
    sst: str = OBSERVED
    co2: float = 360.0

    def __post_init__(self) -> None:
        if self.truncation not in (21, 31):
            raise UsageError(f"host truncation {self.truncation} is not supported; choose 21 or 31")
        if self.levels > MOST_LEVELS:
            raise UsageError(f"host.levels={self.levels} is more than {MOST_LEVELS}")
        if not 1 <= self.time_step_minutes <= 1440:
            raise UsageError(f"host.time_step_minutes={self.time_step_minutes} must lie in [1, 1440]")
        if self.levels < 5:
            raise UsageError(f"SPEEDY physics needs at least 5 levels, not {self.levels}")
        parse_seas(self.sst, SEAS)
        if not 0.0 <= self.co2 <= MOST_CO2:
            raise UsageError(f"host.co2={self.co2} ppm must lie in [0, {MOST_CO2:g}]")
        if 1440 % self.time_step_minutes:
            raise UsageError(f"time_step_minutes={self.time_step_minutes} does not divide a day")

    @property
    def seas(self) -> Seas:
        """What ``sst`` says."""
        return parse_seas(self.sst, SEAS)

    @property
    def steps_per_day(self) -> int:
        """Model steps in a day."""
        return 1440 // self.time_step_minutes
