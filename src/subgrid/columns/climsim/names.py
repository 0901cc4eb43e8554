"""Names of ClimSim's files, and the number of the step that each holds (noleap calendar, 72 steps a day)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns.layout import TIME_UNITS

#: State before physics, state after physics, and before with the expanded inputs.
KINDS = ("mli", "mlo", "mlexpand")
#: s
STEP = 1200
STEPS_PER_DAY = 86400 // STEP
#: The calendar's CF name.
CALENDAR = "noleap"
#: Days of each month in the noleap calendar.
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
#: (year, month) of the data set's first file: steps are counted from its first one.
FIRST_MONTH = (1, 2)
#: How the name of a grid file ends.
GRID_SUFFIX = "grid-info.nc"
_NAME = re.compile(r"E3SM-MMF\.(\w+)\.(\d{4})-(\d{2})-(\d{2})-(\d{5})\.nc")
_MONTH = re.compile(r"(\d{4})-(\d{2})")


@dataclass(frozen=True, order=True)
class StepTime:
    """The time of one file: year, month and day (from 1), and seconds of the day. Sorts by time."""

    year: int
    month: int
    day: int
    seconds: int

    def __post_init__(self) -> None:
        if not (self.year >= 0 and 1 <= self.month <= 12 and 1 <= self.day <= MONTH_DAYS[self.month - 1]):
            raise SubgridError(f"{self.year:04d}-{self.month:02d}-{self.day:02d} is no day of the noleap calendar")
        if not 0 <= self.seconds < 86400 or self.seconds % STEP:
            raise SubgridError(f"{self.seconds} seconds of a day is not on a step of {STEP} s")


def parse_name(name: str) -> tuple[str, int, int, int, int]:
    """``(kind, year, month, day, seconds)`` of the file ``name`` (the last part of its path).

    Raises:
        SubgridError: it is not named like a file of ClimSim, or its time is not on a step.
    """
    found = _NAME.fullmatch(name)
    if found is None or found[1] not in KINDS:
        raise SubgridError(
            f"'{name}' is not named like a file of ClimSim (E3SM-MMF.KIND.YYYY-MM-DD-SSSSS.nc with KIND one of "
            f"{', '.join(KINDS)})"
        )
    year, month, day, seconds = (int(part) for part in found.groups()[1:])
    try:
        StepTime(year, month, day, seconds)
    except SubgridError as error:
        raise SubgridError(f"'{name}': {error}") from error
    return found[1], year, month, day, seconds


def file_name(kind: str, year: int, month: int, day: int, seconds: int) -> str:
    """The name of a file; the inverse of :func:`parse_name`.

    Raises:
        SubgridError: an unknown kind, or a time that is not on a step of the noleap calendar.
    """
    if kind not in KINDS:
        raise SubgridError(f"'{kind}' is no kind of ClimSim file; kinds are {', '.join(KINDS)}")
    StepTime(year, month, day, seconds)
    return f"E3SM-MMF.{kind}.{year:04d}-{month:02d}-{day:02d}-{seconds:05d}.nc"


def step_number(year: int, month: int, day: int, seconds: int) -> int:
    """Steps since the first step of :data:`FIRST_MONTH`; negative before it.

    Raises:
        SubgridError: a time that is not on a step of the noleap calendar.
    """
    StepTime(year, month, day, seconds)
    return (_days(year, month, day) - _days(*FIRST_MONTH, 1)) * STEPS_PER_DAY + seconds // STEP


def epoch() -> int:
    """The time of step 0, s from 1970-01-01 in the noleap calendar."""
    import cftime

    return int(cftime.date2num(cftime.DatetimeNoLeap(*FIRST_MONTH, 1), TIME_UNITS, CALENDAR))


def step_time(number: int) -> tuple[int, int, int, int]:
    """``(year, month, day, seconds)`` of the step ``number``; the inverse of :func:`step_number`."""
    days, step = divmod(number, STEPS_PER_DAY)
    year, left = divmod(days + _days(*FIRST_MONTH, 1), sum(MONTH_DAYS))
    month = 1
    while left >= MONTH_DAYS[month - 1]:
        left -= MONTH_DAYS[month - 1]
        month += 1
    return year, month, left + 1, step * STEP


def _days(year: int, month: int, day: int) -> int:
    """Days since the first of January of the year 0."""
    return year * sum(MONTH_DAYS) + sum(MONTH_DAYS[: month - 1]) + day - 1


def month_name(year: int, month: int) -> str:
    """``YYYY-MM``: the name of a month's folder."""
    return f"{year:04d}-{month:02d}"


def months(text: str) -> list[str]:
    """The months that ``text`` asks for, in order and each once: ``0001-02``, ranges ``0001-02:0001-04``, with commas.

    Raises:
        UsageError: something else is written there, or a range runs backwards.
    """
    found: set[str] = set()
    for part in text.split(","):
        first, *rest = (_month_index(word.strip()) for word in part.split(":"))
        if len(rest) > 1:
            raise UsageError(f"months '{part}': a range is written FIRST:LAST, as in 0001-02:0001-04")
        last = rest[0] if rest else first
        if last < first:
            raise UsageError(f"months '{part}': the range runs backwards")
        found.update(month_name(*_year_month(i)) for i in range(first, last + 1))
    return sorted(found)


def _month_index(word: str) -> int:
    found = _MONTH.fullmatch(word)
    if found is None or not 1 <= int(found[2]) <= 12:
        raise UsageError(f"'{word}' is no month: write YYYY-MM, as in 0001-02")
    return int(found[1]) * 12 + int(found[2]) - 1


def _year_month(index: int) -> tuple[int, int]:
    year, month = divmod(index, 12)
    return year, month + 1
