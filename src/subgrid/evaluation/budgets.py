"""How well an emulator closes the budgets of its host, beside the truth on the same columns."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from subgrid.emulator.base import ColumnEmulator
from subgrid.emulator.budgets import column_budget, known_budgets
from subgrid.scores.arrays import FloatArray
from subgrid.scores.budgets import ResidualScores

TRUTH = "truth"


class BudgetScores:
    """Residuals of every budget of which the emulator's variables have all terms.

    Args:
        emulator: on a known vertical grid.
        models: whose predictions are to come, beside the truth.
    """

    def __init__(self, emulator: ColumnEmulator, models: tuple[str, ...]) -> None:
        variables = emulator.variables
        budgets = known_budgets(variables) if emulator.has_grid else []
        self._budgets = {one.name: column_budget(one, variables, emulator.grid) for one in budgets}
        self._scores = {name: {who: ResidualScores() for who in (TRUTH, *models)} for name in self._budgets}

    def update(self, who: str, x: NDArray[Any], y: NDArray[Any], weight: FloatArray) -> None:
        """Add columns: raw inputs (n, n_in), raw outputs (n, n_out) of ``who``, and weights (n,)."""
        for name, budget in self._budgets.items():
            self._scores[name][who].update(*budget.of_rows(x, y), weight)

    def result(self) -> dict[str, Any]:
        """By budget: its ``units``, its ``terms`` and the residuals of the truth and of each model."""
        return {
            name: {
                "units": budget.budget.units,
                "terms": [term.quantity for term in budget.budget.terms],
                **{who: scores.result() for who, scores in self._scores[name].items()},
            }
            for name, budget in self._budgets.items()
        }


def budget_lines(budgets: dict[str, Any]) -> list[str]:
    """The residuals of :meth:`BudgetScores.result` for a reader, a line each."""
    lines = []
    for name, budget in budgets.items():
        for who, scores in budget.items():
            if who not in ("units", "terms"):
                lines.append(
                    f"{name} residual of {who}: mean {scores['mean']:.3g}, rms {scores['rms']:.3g} {budget['units']}, "
                    f"relative rms {scores['relative_rms']:.2g}, at most {scores['relative_max']:.2g}"
                )
    return lines
