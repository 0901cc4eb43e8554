"""What a training run tells as it goes, and the random states that its checkpoints keep."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from subgrid.base.errors import SubgridError
from subgrid.base.progress import Progress
from subgrid.training.batches import TorchBatches
from subgrid.training.processes import Processes, gathered, mean_over_processes


class Reporter(Callback):
    """A progress line per batch and a plain record of losses per epoch, which checkpoints keep."""

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self.history: list[dict[str, float]] = []
        self.loss_sum = torch.zeros((), dtype=torch.float64)
        self.loss_steps = 0
        self.bar: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        done = min(self.batches, trainer.global_step * trainer.accumulate_grad_batches)
        self.bar = Progress("train", self.batches, "batches", done=done).__enter__()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, *args: Any) -> None:
        # Lightning's own mean of an epoch forgets, in a resumed run, the steps before the checkpoint.
        loss = outputs["loss"].detach().double() * trainer.accumulate_grad_batches  # by which Lightning divides it
        self.loss_sum = self.loss_sum.to(loss.device) + loss
        self.loss_steps += 1
        if self.bar is not None:
            self.bar.update(1, f"epoch {trainer.current_epoch + 1}")

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        loss = float(trainer.callback_metrics["val_loss"])
        if not np.isfinite(loss):
            raise SubgridError("the validation loss is not finite: lower recipe.learning_rate or use precision=32-true")

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        values = {
            "train_loss_epoch": float(mean_over_processes(self.loss_sum)) / max(1, self.loss_steps),
            "val_loss": float(trainer.callback_metrics["val_loss"]),
        }
        self.history.append({"epoch": trainer.current_epoch + 1, **values})
        self.loss_sum, self.loss_steps = torch.zeros_like(self.loss_sum), 0

    def state_dict(self) -> dict[str, Any]:
        loss_sum = mean_over_processes(self.loss_sum).cpu()
        return {"history": self.history, "loss_sum": loss_sum, "loss_steps": self.loss_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history = list(state["history"])
        self.loss_sum, self.loss_steps = state["loss_sum"], int(state["loss_steps"])

    def on_train_end(self, *args: Any) -> None:
        self.close()

    def on_exception(self, *args: Any) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self.bar is not None:
            self.bar.__exit__(None, None, None)
            self.bar = None


class RandomState(Callback):
    """Keeps torch's random states and the loaders' positions in every checkpoint."""

    def __init__(self, batches: TorchBatches, processes: Processes) -> None:
        self.batches, self.processes = batches, processes

    def state_dict(self) -> dict[str, Any]:
        devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        own, *others = gathered({"torch": torch.get_rng_state(), "cuda": devices})
        return {**own, **({"others": others} if others else {}), **self.batches.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches.load_state_dict(state)
        states = [state, *state.get("others", [])]
        if self.processes.rank >= len(states):
            return  # there were fewer processes: this one's draws begin anew
        state = states[self.processes.rank]
        torch.set_rng_state(state["torch"])
        if len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
