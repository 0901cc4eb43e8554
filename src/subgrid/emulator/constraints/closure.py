"""Closing a declared budget of energy or water by the smallest change, on one level, or by the fluxes."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor

from subgrid.columns.variables import VariableSet
from subgrid.emulator.budgets import Budget, ColumnBudget
from subgrid.emulator.constraints.base import Constraint
from subgrid.emulator.features import InputFeatures
from subgrid.emulator.transforms import Standardise

#: What a kind of closure changes.
_BY = {
    "projection": "the smallest change of its outputs, in units of their spreads",
    "level": "one tendency on one level",
    "tendencies": "the smallest change of its tendencies, in units of their spreads",
    "fluxes": "the smallest change of its fluxes, in units of their spreads",
}


class Closure(Constraint):
    """Closes a budget by changing outputs, each in proportion to ``factor x room``.

    With residual ``r = sum_i a_i y_i + given`` every output that may move is changed by
    ``-a_i w_i r / sum_j a_j^2 w_j``. Kind ``projection``: w are the outputs' variances, which makes the change the
    smallest in units of their spreads (orthogonal projection; Beucler et al. 2021, "Enforcing analytic constraints in
    neural networks"). Kind ``level``: w is 1 for one tendency on one level, that whose spread is worth most in the
    budget, and 0 for all others (the residual layer of the same paper). Kinds ``tendencies`` and ``fluxes``: as
    projection, of these alone. Done twice, since the first pass leaves the rounding of a residual that may be larger
    than what remains.
    Counter: |r| before.

    Args:
        budget: what is closed.
        kind: one of :data:`CLOSURES` or ``fluxes``.
        outputs: holds the spreads.
    """

    def __init__(
        self, budget: Budget, kind: str, features: InputFeatures, variables: VariableSet, outputs: Standardise
    ) -> None:
        super().__init__(features, variables)
        self.counter, self.units = f"{budget.name}_by_{kind}", budget.units
        self.does = f"closes the column's {budget.name} by {_BY[kind]}"
        self.kind, self.budget = kind, ColumnBudget(budget, features, variables)
        # Kept in a tuple so that the transform is not registered (and saved) twice.
        self._outputs = (outputs,)

    def forward(self, p_in: Tensor, s_in: Tensor, p_out: Tensor, s_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raw inputs and outputs to raw outputs and the counter (n,)."""
        room_p, room_s = self._room()
        p_out, s_out, residual = self._close(room_p, room_s, p_in, s_in, p_out, s_out)
        p_out, s_out, _ = self._close(room_p, room_s, p_in, s_in, p_out, s_out)
        return p_out, s_out, residual.abs()

    def _room(self) -> tuple[Tensor, Tensor]:
        """The weights w, (level, P) and (S,)."""
        spread_p = cast(Tensor, self._outputs[0].profile_std)
        spread_s = cast(Tensor, self._outputs[0].scalar_std)
        moves_p = cast(Tensor, self.budget.profile_moves).to(spread_p.dtype)
        moves_s = cast(Tensor, self.budget.scalar_moves).to(spread_s.dtype)
        if self.kind == "level":
            grid = self.features.grid
            thickness = torch.as_tensor(np.diff(np.add(grid.hyai, grid.hybi))).to(spread_p)
            worth = thickness[:, None] * spread_p * moves_p * cast(Tensor, self.budget.profile_factor).to(spread_p)
            return (worth == worth.max()).to(spread_p.dtype), torch.zeros_like(spread_s)
        room_p, room_s = spread_p.square() * moves_p, spread_s.square() * moves_s
        if self.kind == "fluxes":
            room_p = torch.zeros_like(room_p)
        if self.kind == "tendencies":
            room_s = torch.zeros_like(room_s)
        return room_p, room_s

    def _close(
        self, room_p: Tensor, room_s: Tensor, p_in: Tensor, s_in: Tensor, p_out: Tensor, s_out: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Closed outputs and the residual before, (n,)."""
        residual, _ = self.budget(p_in, s_in, p_out, s_out)
        factor_p, factor_s = self.budget.factors(s_in)
        size = (factor_p.square() * room_p).sum((1, 2)) + (factor_s.square() * room_s).sum()
        step = (residual / torch.clamp(size, min=1e-30)).unsqueeze(1)
        return p_out - factor_p * room_p * step.unsqueeze(2), s_out - factor_s * room_s * step, residual
