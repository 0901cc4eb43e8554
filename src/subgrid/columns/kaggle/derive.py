"""Variables of any set made of the competition's columns: as they are, relative humidity, total cloud water."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import UsageError
from subgrid.columns.climsim.derive import GridPart, rule
from subgrid.columns.kaggle.layout import INPUTS, LEVELS, TARGETS
from subgrid.columns.variables import Variable, offsets
from subgrid.physics.vertical import VerticalGrid

Values = NDArray[np.float64]
#: Makes (level, row) or (row,) of the values of a file, (channel, row).
Recipe = Callable[[Values], Values]
#: The tendency of total cloud water, and its parts.
TOTAL, PARTS = "ptend_qn", ("ptend_q0002", "ptend_q0003")


class Derivation:
    """Makes ``variables`` of the competition's columns, in float64.

    Args:
        variables: what is wanted, in the order of the flat layout.
        vertical: the vertical grid; None where it is not known.
        targets: whether the file holds the targets as well.
        fills: values for variables that the competition does not have, by name.

    Raises:
        UsageError: a variable cannot be made of these columns, or needs the vertical grid.
    """

    def __init__(
        self,
        variables: Iterable[Variable],
        vertical: VerticalGrid | None,
        targets: bool,
        fills: Mapping[str, float] | None = None,
    ) -> None:
        self.variables, self.vertical, self.fills = tuple(variables), vertical, dict(fills or {})
        self.place = offsets([*INPUTS.values(), *(TARGETS.values() if targets else ())], LEVELS)
        self.own = offsets(self.variables, LEVELS)
        self.recipes = {name: self._recipe(name) for v in self.variables for name in v.stored}
        missing = [name for name, recipe in self.recipes.items() if recipe is None]
        if missing:
            raise UsageError(
                f"the competition's files do not hold {', '.join(missing)}, nor what makes it up: use one of the "
                "variable sets kaggle, kaggle_rh and kaggle_rh_mc, or give its value with --fill NAME=VALUE"
            )

    def _recipe(self, name: str) -> Recipe | None:
        if name in self.fills:
            value = self.fills[name]
            return lambda values: np.full(values.shape[1], value)
        if name in self.place:
            return partial(self._column, name=name)
        if name == TOTAL and set(PARTS) <= set(self.place):
            return lambda values: self._column(values, PARTS[0]) + self._column(values, PARTS[1])
        known = rule(name)
        of_this_step = all(s.back == 0 and s.kind == "before" and s.name in self.place for s in known.sources)
        if not known.sources or not of_this_step:
            return None
        if any(s.name == "state_ps" for s in known.sources) and self.vertical is None:
            raise UsageError(f"{name} needs the pressure of the levels: give ClimSim's grid file with --grid")
        part = _without_places(self.vertical)
        return lambda values: np.asarray(
            known.combine(part, [self._column(values, s.name) for s in known.sources]), np.float64
        )

    def _column(self, values: Values, name: str) -> Values:
        found = values[self.place[name]]
        return found if len(found) > 1 else found[0]

    def __call__(self, values: Values) -> Values:
        """(channel, row) of the file -> (row, channel) of the variables."""
        # Row after row: what sums over rows later must not depend on how many were read together.
        found = np.empty((values.shape[1], sum(v.width(LEVELS) for v in self.variables)))
        for v in self.variables:
            terms = [(factor, self.recipes[name]) for name, factor in v.stored.items()]
            made = sum(factor * recipe(values) for factor, recipe in terms if recipe is not None)
            found[:, self.own[v.name]] = np.atleast_2d(made).T
        return found


def _without_places(vertical: VerticalGrid | None) -> GridPart:
    """The levels alone: the columns of shuffled rows are not known."""
    nowhere = np.empty(0)
    hyam, hybm = ([], []) if vertical is None else (vertical.hyam, vertical.hybm)
    return GridPart(
        latitude=nowhere,
        number=nowhere.astype(np.int64),
        hyam=np.asarray(hyam, np.float64)[:, None],
        hybm=np.asarray(hybm, np.float64)[:, None],
        p0=1.0 if vertical is None else vertical.p0,
    )
