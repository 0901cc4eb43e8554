"""The confidence recipe: a second head learns the loss that each output of the first will have."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from subgrid.training.recipes.base import register
from subgrid.training.recipes.standard import Errors, Standard


@register("confidence")
class Confidence(Standard):
    """Standard, and mean H(c, stopgrad(h)): h is the elementwise loss of the first head, c the second head, H Huber's.

    Hu et al. (2025), "conf_loss"; after the first place of LEAP's competition. ``c`` is unconstrained in sign.
    """

    emulator: ClassVar[dict[str, Any]] = {"confidence": True}

    own_objective: ClassVar[bool] = True

    def objective(self, errors: Errors, training: bool) -> Tensor:
        """The loss, and in training how far the second head is from it."""
        p, s = self.elementwise(errors)
        loss = errors.mean(p, s)
        if not training:
            return loss
        c, d = errors.second()
        return loss + errors.mean(
            functional.huber_loss(c, p.detach(), reduction="none"),
            functional.huber_loss(d, s.detach(), reduction="none"),
        )
