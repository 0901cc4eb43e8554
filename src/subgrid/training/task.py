"""The Lightning task: a recipe applied to an emulator, batch after batch."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from subgrid.emulator.emulator import Emulator
from subgrid.networks import ProbabilisticNetwork
from subgrid.training.batches import Rows
from subgrid.training.recipes import Recipe


class EmulatorTask(pl.LightningModule):
    """Trains ``emulator`` with ``recipe``; batches are raw (inputs, targets, weight), or a pair of these.

    Args:
        emulator: with fitted transforms.
        recipe: loss and optimiser.
        total_steps: optimiser steps of the whole run, which the schedule spans.
    """

    def __init__(self, emulator: Emulator, recipe: Recipe, total_steps: int) -> None:
        super().__init__()
        self.emulator, self.recipe, self.total_steps = emulator, recipe, total_steps

    def training_step(self, batch: Rows | tuple[Rows, Rows], index: int) -> Tensor:
        """Loss with the recipe's noise, and that of the second store's columns, if there are any."""
        network = self.emulator.network
        if isinstance(network, ProbabilisticNetwork):
            network.progress = self.global_step / max(1, self.total_steps)
        self.recipe.epoch = self.current_epoch  # here, since no hook is called where a run goes on within an epoch
        first, second = batch if len(batch) == 2 else (batch, None)
        loss = self.recipe.loss(self.emulator, *first, training=True)
        if second is not None:
            loss = loss + self.recipe.second_loss(self.emulator, *second)
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch: Rows, index: int) -> None:
        """Plain loss."""
        rows = len(batch[0])
        if not rows:  # the last batch had none for this process
            return
        loss = self.recipe.loss(self.emulator, *batch, training=False)
        # Lightning's mean of whole numbers over processes would be rounded down
        size = rows * self.trainer.world_size
        self.log("val_loss", loss, prog_bar=True, batch_size=size, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser and per-step schedule."""
        optimizer, schedule = self.recipe.optimizer(self.emulator, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
