"""Settings of the rings; no torch here, so that the command line can check them."""

from __future__ import annotations

from dataclasses import dataclass

from subgrid.base.errors import UsageError, require_seed
from subgrid.hosts.sampling import require_copies

#: Days that a unit of the system's time stands for (Lorenz 1996: an error doubles in 2.1 days at F = 8).
DAYS_PER_UNIT = 5.0


@dataclass(frozen=True)
class Lorenz96Config:
    """Independent rings of slow variables, each with fast ones or none.

    Args:
        columns: rings.
        slow: variables K of a ring; they stand as levels.
        fast: fast variables J of each slow one.
        scales: 2: the column physics is what the fast variables do to the slow ones; 1: there are none, and it is
            damping and forcing, F - x.
        forcing: F.
        coupling, timescale, amplitude: h, c and b.
        steps_per_day: model steps of a day; 40 are steps of 0.005.
        start: first instant, ISO date.
        seed: of the first state.
        copies: how often the rings are there, all alike: one for each of several emulators that run together.
    """

    columns: int = 64
    slow: int = 8
    fast: int = 32
    scales: int = 2
    forcing: float = 15.0
    coupling: float = 1.0
    timescale: float = 10.0
    amplitude: float = 10.0
    steps_per_day: int = 40
    start: str = "2000-01-01"
    seed: int = 0
    copies: int = 1

    def __post_init__(self) -> None:
        require_seed(self.seed)
        require_copies(self.copies)
        for name, least, most in (("columns", 1, 100_000), ("slow", 4, 1024), ("fast", 1, 1024), ("scales", 1, 2)):
            if not least <= getattr(self, name) <= most:
                raise UsageError(f"host.{name}={getattr(self, name)} must lie in [{least}, {most}]")
        if not 20 <= self.steps_per_day <= 1440 or 86400 % self.steps_per_day:
            raise UsageError(
                f"host.steps_per_day={self.steps_per_day} must lie in [20, 1440] and divide a day into whole seconds"
            )
        for name in ("timescale", "amplitude"):
            if not getattr(self, name) > 0.0:
                raise UsageError(f"host.{name}={getattr(self, name)} must be positive")

    @property
    def step(self) -> float:
        """A step in the system's units of time."""
        return 1.0 / DAYS_PER_UNIT / self.steps_per_day
