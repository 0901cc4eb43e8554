"""The difference recipe: the vertical differences of the outputs are to fit too."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from subgrid.training.recipes.base import register
from subgrid.training.recipes.standard import Errors, Standard


@register("difference")
class Difference(Standard):
    """Standard, and the same loss of the differences between neighbouring levels of each normalised profile.

    L = H(p, y) + H(D p, D y) with D the forward difference along the levels (Hu et al. 2025, "diff_loss"; after the
    second place of LEAP's competition). A difference weighs as much as its two levels on the mean, and nothing where
    one of them is constant.
    """

    own_objective: ClassVar[bool] = True

    def objective(self, errors: Errors, training: bool) -> Tensor:
        """The loss, and in training that of the differences."""
        loss = super().objective(errors, training)
        if not training:
            return loss
        found = errors.first()[0]
        upper, lower = errors.weight_p[:-1], errors.weight_p[1:]
        weight = 0.5 * (upper + lower) * (upper > 0) * (lower > 0)
        each = self._elementwise(found.diff(dim=1), errors.true_profiles.diff(dim=1), errors)
        per_row = (each * weight).sum((1, 2))
        rows = errors.row.sum().clamp(min=1e-12)
        return loss + (per_row * errors.row).sum() / (rows * weight.sum().clamp(min=1e-12))
