"""What each variable of a set is made of: differences of files, sums of waters, humidity relative to saturation.

With ``in`` the state before physics (``mli``), ``out`` the one after (``mlo``), n this step and dt its length::

    ptend_x          (out_n - in_n) / dt                 x_prvphy      (out_{n-1} - in_{n-1}) / dt
    x_dyn            (in_n - out_{n-1}) / dt             tm_...        the same one step earlier
    qn               q0002 + q0003                       q0            q0001 + q0002 + q0003
    state_rh         461 q0001 p / (287 e_s(T))          liq_partition clip((T - 253.16) / 20, 0, 1)

All in float64. The pressure p is that of the grid's hybrid levels, ``hyam P0 + hybm ps``, which the files repeat as
``state_pmid``. Source: Yu et al. (2023), Hu et al. (2025).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.columns.climsim.names import STEP
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.variables import Variable, VariableSet, catalogue, profiles
from subgrid.physics.moisture import liquid_partition, relative_humidity

#: A value from here on is a fill; E3SM writes 1e30.
FILL = 1e29
#: The one variable in which fills are part of the data: where there is no ice.
FILLED = "cam_in_SNOWHICE"
MASK = "snowhice_mask"
WATERS = {"qn": ("q0002", "q0003"), "q0": ("q0001", "q0002", "q0003")}

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Source:
    """A variable of a file: ``back`` steps ago, ``before`` or ``after`` physics."""

    back: int
    kind: str
    name: str


@dataclass(frozen=True)
class Rule:
    """How a variable comes about.

    Args:
        sources: what it needs of files.
        combine: makes (level, part) or (part,) of the sources' values and of the part of the grid.
    """

    sources: tuple[Source, ...]
    combine: Callable[[GridPart, list[Values]], Any]


@dataclass(frozen=True)
class GridPart:
    """Some columns of a grid: a slice of them, with what rules need.

    Args:
        latitude: rad, (part,).
        number: of each column from 0, (part,).
        hyam, hybm: hybrid coefficients at the middles, (level, 1).
        p0: reference pressure, Pa.
    """

    latitude: Values
    number: NDArray[np.int64]
    hyam: Values
    hybm: Values
    p0: float

    @classmethod
    def of(cls, grid: ColumnGrid, part: slice) -> GridPart:
        """The columns ``part`` of ``grid``."""
        vertical = grid.vertical
        return cls(
            latitude=np.deg2rad(grid.latitude[part]),
            number=np.arange(grid.columns)[part],
            hyam=np.asarray(vertical.hyam)[:, None],
            hybm=np.asarray(vertical.hybm)[:, None],
            p0=vertical.p0,
        )

    def pressure(self, ps: Values) -> Values:
        """Pressure at the middles of the layers, (level, part), Pa, from that of the surface, (part,)."""
        return self.hyam * self.p0 + self.hybm * ps


def _plain(part: GridPart, values: list[Values]) -> Values:
    return values[0]


def _sum(values: list[Values]) -> Values:
    return values[0] if len(values) == 1 else sum(values[1:], values[0])


def _rate(part: GridPart, values: list[Values], cut: int) -> Values:
    """(later - earlier) / dt; the first ``cut`` values are parts of the later state."""
    found = _sum(values[:cut]) - _sum(values[cut:])
    found /= STEP
    return found


def _humidity(part: GridPart, values: list[Values]) -> Any:
    q, t, ps = values
    return relative_humidity(q, t, part.pressure(ps), "sam")


_GRID_RULES: dict[str, Callable[[GridPart, list[Values]], Any]] = {
    "clat": lambda part, values: np.cos(part.latitude),
    "slat": lambda part, values: np.sin(part.latitude),
    "icol": lambda part, values: part.number + 1.0,
}


def _states(back: int, kind: str, name: str) -> list[Source]:
    """The state variables that sum to ``name`` (``t``, ``qn``, ...)."""
    return [Source(back, kind, f"state_{part}") for part in WATERS.get(name, (name,))]


def _difference(later: list[Source], earlier: list[Source]) -> Rule:
    return Rule((*later, *earlier), partial(_rate, cut=len(later)))


def rule(name: str) -> Rule:
    """How the variable ``name`` of ClimSim's catalogue comes about."""
    if name in _GRID_RULES:
        return Rule((), _GRID_RULES[name])
    back = 1 if name.startswith("tm_") else 0
    plain = name.removeprefix("tm_")
    part = plain.removeprefix("ptend_").removeprefix("state_").removesuffix("_prvphy").removesuffix("_dyn")
    if plain.startswith("ptend_"):
        return _difference(_states(back, "after", part), _states(back, "before", part))
    if plain.endswith("_prvphy"):
        return _difference(_states(back + 1, "after", part), _states(back + 1, "before", part))
    if plain.endswith("_dyn"):
        return _difference(_states(back, "before", part), _states(back + 1, "after", part))
    if plain == "state_rh":
        humid = tuple(Source(back, "before", f"state_{x}") for x in ("q0001", "t", "ps"))
        return Rule(humid, _humidity)
    if plain == "liq_partition":
        return Rule((Source(back, "before", "state_t"),), lambda part, values: liquid_partition(values[0]))
    if plain == MASK:
        # read() leaves the mask beside the filled variable
        return Rule((Source(back, "before", FILLED), Source(back, "before", MASK)), lambda part, values: values[1])
    if plain == "state_qn":
        return Rule(tuple(_states(back, "before", part)), lambda part, values: _sum(values))
    return Rule((Source(back, "after" if plain.startswith("cam_out_") else "before", plain),), _plain)


def scoring_variables(variables: VariableSet) -> tuple[Variable, ...]:
    """What scores and official normalisation need of ClimSim beyond the set's own inputs and targets.

    Liquid and ice, their tendencies and the humidity where a set has them only as sums, shares or relative; the wind
    where its tendency is predicted; the mask of the fills of snow depth over ice.
    """
    held = {v.name for v in (*variables.inputs, *variables.targets)}
    wanted = ["state_q0001"]
    if "ptend_qn" in held or "ptend_q0002" in held:
        wanted += ["state_q0002", "state_q0003", "ptend_q0002", "ptend_q0003"]
    wanted += [f"state_{x}" for x in "uv" if f"ptend_{x}" in held]
    if FILLED in held:
        wanted.append(MASK)
    known = catalogue("climsim").variables
    found = [known[name] for name in wanted if name not in held]
    return (*profiles(found), *(v for v in found if v.kind == "scalar"))


def needed_files(sources: Iterable[Source]) -> dict[tuple[int, str], list[str]]:
    """Names of the variables to read of each file, by (steps back, ``before`` or ``after``); in a fixed order."""
    found: dict[tuple[int, str], list[str]] = {}
    for source in sorted(set(sources), key=lambda s: (s.back, s.kind, s.name)):
        if source.name != MASK:
            found.setdefault((source.back, source.kind), []).append(source.name)
    return found


def take_fills(values: dict[str, Values]) -> int:
    """Replace the fills of :data:`FILLED` by 0 and put their mask (1 where filled) beside it; returns their number."""
    if FILLED not in values:
        return 0
    filled = values[FILLED] >= FILL
    values[FILLED] = np.where(filled, 0.0, values[FILLED])
    values[MASK] = filled.astype(np.float64)
    return int(filled.sum())


def wrong_value(values: Mapping[str, Values]) -> tuple[str, str] | None:
    """The first variable with NaN, an infinity or a fill, and what is wrong with it; None if all are sound."""
    for name, field in values.items():
        low, high = field.min(), field.max()
        if low > -FILL and high < FILL:
            continue
        broken = int((~np.isfinite(field)).sum())
        if broken:
            return name, f"has NaN or infinity ({broken} of {field.size} values)"
        filled = int((np.abs(field) >= FILL).sum())
        return name, f"has the fill value ({filled} of {field.size} values are at least {FILL:g})"
    return None
