"""The expanded recipe: inputs of previous steps, of the dynamics, and latitude."""

from __future__ import annotations

from subgrid.base.errors import UsageError
from subgrid.columns.variables import VariableSet, variable_set
from subgrid.training.recipes.base import register
from subgrid.training.recipes.standard import Standard


@register("expanded")
class Expanded(Standard):
    """Standard, on the variable set that the given one names as its expansion (``speedy_expanded``, ``v6``)."""

    def variables(self, found: VariableSet) -> VariableSet:
        """The expansion of ``found``, or ``found`` if it is one."""
        if not found.expanded:
            raise UsageError(
                f"recipe expanded: no variable set adds previous steps and dynamics tendencies to '{found.name}'"
            )
        return variable_set(found.expanded)
