"""Averages of weights over steps, over ends of epochs and over checkpoints, and which weights a run ships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_avg_fn

from subgrid.training.checkpoints import read_checkpoint
from subgrid.training.recipes.base import RecipeConfig


class WeightAverage(WeightAveraging):
    """Keeps an average of the parameters, which takes their place for validation and in checkpoints.

    Up to step ``follow`` the average is the parameters themselves, then every ``every``-th step is averaged in.
    Statistics of batch norms are not averaged: they are those of the latest step that was.

    Args:
        follow: step, counted from 1, whose parameters are the first in the average.
        every: steps between those that are averaged.
        average: of the average, the parameters and how many are in it already; None: all count alike.
    """

    def __init__(self, follow: int, every: int, average: Any = None) -> None:
        super().__init__(use_buffers=False, **({} if average is None else {"avg_fn": average}))
        self.follow, self.every = follow, every

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Copy the task to its device; Lightning would ask for that before it moves the task there."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Average the step in, if it is one of those; batches of which none was a step come here too."""
        step, model = trainer.global_step, self._average_model
        if step == self._latest_update_step or model is None:
            return
        self._latest_update_step = step
        if step <= self.follow:
            model.n_averaged.zero_()  # the next update is a copy
        elif (step - self.follow) % self.every:
            return
        model.update_parameters(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Nothing: an epoch's last step has been averaged before the validation."""


def averaging(config: RecipeConfig, steps_of_epoch: int) -> list[Callback]:
    """The average that ``config`` asks for, if any."""
    if config.ema_decay:
        return [WeightAverage(max(1, config.ema_after), config.ema_every, get_ema_avg_fn(decay=config.ema_decay))]
    if config.swa_from:
        return [WeightAverage(config.swa_from * steps_of_epoch, steps_of_epoch)]
    return []


def shipped_weights(config: RecipeConfig, checkpoints: Path, best: list[Path]) -> tuple[dict[str, Tensor], str]:
    """The weights that the emulator ships, and what they are in words.

    Args:
        config: settings of the recipe.
        checkpoints: folder with ``best.ckpt`` and ``last.ckpt``.
        best: checkpoints of the best epochs, which are averaged; empty: none are.

    Raises:
        SubgridError: a checkpoint is missing or damaged.
    """
    if config.swa_from:
        words = f"mean of the ends of epochs {config.swa_from} to {config.epochs}"
        return _weights(checkpoints / "last.ckpt"), words
    if best:
        words = f"mean of the {len(best)} best epochs by validation loss"
        found = _mean([_weights(path) for path in sorted(best)])
    elif config.keep == "last":
        words, found = "last epoch", _weights(checkpoints / "last.ckpt")
    else:
        words, found = "best epoch by validation loss", _weights(checkpoints / "best.ckpt")
    if config.ema_decay:
        words = f"exponential average of steps (decay {config.ema_decay:g}), {words}"
    return found, words


def _weights(path: Path) -> dict[str, Tensor]:
    return dict(read_checkpoint(path)["state_dict"])


def _mean(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of each number, in float64; counters are the last's. Equal ones stay as they are."""
    found = dict(states[-1])
    for name, value in found.items():
        if value.is_floating_point():
            found[name] = torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
    return found
