"""Whether the truth closes a budget that an emulator is to close or is punished by, measured before training."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from subgrid.base.errors import UsageError
from subgrid.columns.store import Split
from subgrid.emulator.budgets import NAMES, column_budget, find_budget
from subgrid.emulator.emulator import Emulator
from subgrid.scores.budgets import CLOSED, ResidualScores
from subgrid.training.recipes import RecipeConfig

logger = logging.getLogger("subgrid")
#: Blocks that are looked at, spread over the split.
BLOCKS = 8
#: Share of columns that must close for the truth to count as closed: a host's own limiters act in a few.
ENOUGH = 0.9


def truth_residual(emulator: Emulator, name: str, split: Split) -> dict[str, Any]:
    """The truth's own residual of the budget ``name``: its terms, and :class:`ResidualScores` of some blocks.

    Raises:
        UsageError: a term is not among the emulator's variables.
    """
    variables = emulator.variables
    budget = column_budget(find_budget(name, variables), variables, emulator.grid)
    scores = ResidualScores()
    for block in np.unique(np.linspace(0, split.blocks - 1, min(BLOCKS, split.blocks)).astype(int)):
        x, y = (split.read_variables(group, int(block)) for group in (variables.inputs, variables.targets))
        scores.update(*budget.of_rows(x, y), split.read("weight", int(block)).astype(np.float64))
    return {"terms": [term.quantity for term in budget.budget.terms], **scores.result()}


def require_closed(emulator: Emulator, config: RecipeConfig, split: Split) -> None:
    """Measure the truth's residual of every budget that is asked for, keep it in the emulator's metadata.

    Raises:
        UsageError: a budget that the emulator is to close is not closed by the truth: only a penalty, which compares
            residuals with the truth's, then makes sense.
    """
    for name in NAMES:
        how = getattr(emulator.config, name)
        if how == "none" and not getattr(config, f"{name}_penalty"):
            continue
        found = truth_residual(emulator, name, split)
        emulator.metadata.setdefault("truth", {})[name] = found
        logger.info(
            "train: the truth's %s residual: mean %.3g, rms %.3g, relative rms %.2g, closed in %.1f %% of columns",
            name,
            *(found[key] for key in ("mean", "rms", "relative_rms")),
            100.0 * found["closed"],
        )
        if how != "none" and found["closed"] < ENOUGH:
            raise UsageError(
                f"emulator.{name}={how} would close a budget that the truth in {split.folder} leaves open: its "
                f"residual exceeds {CLOSED:g} of its terms in {1.0 - found['closed']:.0%} of columns (rms "
                f"{found['rms']:.3g}): use emulator.{name}=none with recipe.{name}_penalty=0.1, which matches the "
                "truth's own residual"
            )
