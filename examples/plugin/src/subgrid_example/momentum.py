"""The recipe `momentum`: the loss of the standard recipe, descended by SGD with Nesterov momentum."""

from __future__ import annotations

from typing import Any

import torch

from subgrid.emulator import Emulator
from subgrid.training.recipes import Standard
from subgrid.training.recipes.base import register


@register("momentum")
class Momentum(Standard):
    """As the standard recipe but for the optimiser; the learning rate falls linearly to a hundredth."""

    def optimizer(self, emulator: Emulator, total_steps: int) -> tuple[torch.optim.Optimizer, Any]:
        """SGD with momentum 0.9, and a schedule per step."""
        parameters = [p for p in emulator.network.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(
            parameters,
            lr=self.config.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=self.config.weight_decay,
        )
        return optimizer, torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, max(1, total_steps))
