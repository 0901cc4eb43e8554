"""Learning-rate schedules: what the peak rate is multiplied by at each step."""

from __future__ import annotations

import math
from collections.abc import Callable

from subgrid.training.recipes.base import RecipeConfig


def rate_factor(config: RecipeConfig, total_steps: int) -> Callable[[int], float]:
    """The factor of the peak learning rate by step, counted from 0.

    It rises linearly over the share ``warmup`` of all steps and then follows ``schedule``: ``cosine`` to 0.001,
    ``multistep`` (times ``gamma`` after each epoch of ``milestones``) or ``constant``. From the beginning of epoch
    ``swa_from`` on it is ``swa_learning_rate``, where that is given.

    Args:
        config: settings of the recipe.
        total_steps: of the run, in whole epochs.
    """
    rise = max(1, round(config.warmup * total_steps))
    of_epoch = max(1, total_steps // config.epochs)
    fixed, rate = total_steps, 0.0
    if config.swa_from and config.swa_learning_rate:
        fixed, rate = (config.swa_from - 1) * of_epoch, config.swa_learning_rate
    if config.polish_learning_rate:
        fixed, rate = (config.epochs - config.polish_epochs) * of_epoch, config.polish_learning_rate

    def factor(step: int) -> float:
        if step >= fixed and rate:
            return rate / config.learning_rate
        risen = min(1.0, (step + 1) / rise)
        if config.schedule == "multistep":
            return risen * config.gamma ** sum(step // of_epoch >= epoch for epoch in config.milestones)
        if config.schedule == "constant" or step < rise:
            return risen
        along = (step - rise) / max(1, total_steps - rise)
        return max(1e-3, 0.5 * (1.0 + math.cos(math.pi * min(1.0, along))))

    return factor
