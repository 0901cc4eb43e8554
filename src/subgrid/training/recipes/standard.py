"""The standard recipe: one deterministic head, regression on standardised targets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from subgrid.emulator.emulator import Emulator
from subgrid.emulator.flat import unflatten
from subgrid.training.recipes.base import RecipeConfig, register

#: Where the loss of perturbed columns turns from squared to linear, in spreads of the climate.
TAIL = 2.0
_LOSSES: dict[str, Callable[..., Tensor]] = {
    "mse": functional.mse_loss,
    "huber": functional.huber_loss,
    "mae": functional.l1_loss,
}


def channel_weights(emulator: Emulator, energy_weight: float) -> tuple[Tensor, Tensor]:
    """Weights of the loss, profiles (level, P) and scalars (S,), each variable's mean 1 over its live channels.

    A constant channel weighs nothing.
    """
    spread = cast(Tensor, emulator.outputs.profile_std).double()
    live = (spread > 0).double()
    thickness = torch.as_tensor(np.diff(np.add(emulator.grid.hyai, emulator.grid.hybi)))[:, None]
    energy = spread.square() * thickness
    energy = energy / (energy.sum(0) / live.sum(0).clamp(min=1)).clamp(min=1e-300)
    profiles = live * ((1.0 - energy_weight) + energy_weight * energy)
    scalars = (cast(Tensor, emulator.outputs.scalar_std) > 0).double()
    return profiles.float(), scalars.float()


@register("standard")
class Standard:
    """MSE (or Huber, MAE) on normalised outputs; AdamW; linear warm-up, cosine decay."""

    def __init__(self, config: RecipeConfig) -> None:
        self.config = config
        self._weights: tuple[Tensor, Tensor] | None = None

    def loss(self, emulator: Emulator, inputs: Tensor, targets: Tensor, weight: Tensor, training: bool) -> Tensor:
        """Weighted mean over columns and channels of the elementwise loss.

        Perturbed columns (weight zero in the store) count ``perturbed_weight`` and, because their targets have heavy
        tails, with a Huber loss of delta 2 in place of the squared error.
        """
        levels = emulator.grid.n_levels
        if self._weights is None:
            self._weights = channel_weights(emulator, self.config.energy_weight)
        with torch.autocast(inputs.device.type, enabled=False), torch.no_grad():
            p, s = emulator.encode(*unflatten(inputs, len(emulator.features.profile_names), levels))
            shape = emulator.network.shape
            tp, ts = emulator.normalise_targets(*unflatten(targets, shape.profiles_out, levels))
            if training and self.config.input_noise > 0:
                p = p + self.config.input_noise * torch.randn_like(p)
                s = s + self.config.input_noise * torch.randn_like(s)
        p, s = emulator.network(p, s)
        weight_p, weight_s = (w.to(inputs.device) for w in self._weights)
        perturbed = weight == 0
        row = torch.where(perturbed, self.config.perturbed_weight, 1.0)
        per_row = (self._elementwise(p.float(), tp, perturbed) * weight_p).sum((1, 2))
        per_row = per_row + (self._elementwise(s.float(), ts, perturbed) * weight_s).sum(1)
        rows = row.sum().clamp(min=1e-12)  # a batch of perturbed columns alone, weighted zero
        return (per_row * row).sum() / (rows * (weight_p.sum() + weight_s.sum()))

    def _elementwise(self, found: Tensor, truth: Tensor, perturbed: Tensor) -> Tensor:
        plain = _LOSSES[self.config.loss](found, truth, reduction="none")
        if self.config.loss != "mse" or not perturbed.any():
            return plain
        # Huber's loss is half the squared error near zero.
        robust = 2.0 * functional.huber_loss(found, truth, reduction="none", delta=TAIL)
        return torch.where(perturbed.reshape(-1, *([1] * (found.ndim - 1))), robust, plain)

    def optimizer(self, emulator: Emulator, total_steps: int) -> tuple[torch.optim.Optimizer, Any]:
        """AdamW with decay on matrices, and a schedule per step."""
        config = self.config
        parameters = [p for p in emulator.network.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, foreach=True)
        rise = max(1, round(config.warmup * total_steps))

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            along = (step - rise) / max(1, total_steps - rise)
            return max(1e-3, 0.5 * (1.0 + math.cos(math.pi * min(1.0, along))))

        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
