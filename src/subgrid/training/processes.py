"""Several processes that train one emulator together: which of them this is, and what they share."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from subgrid.base.errors import UsageError

logger = logging.getLogger("subgrid")
ACCELERATORS = ("auto", "cpu", "gpu")


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Args:
        rank: its number, from 0; process 0 alone writes and speaks.
        count: of them.
    """

    rank: int = 0
    count: int = 1

    @property
    def shard(self) -> tuple[int, int]:
        """Its part of every batch, as :class:`ColumnLoader` takes it."""
        return self.rank, self.count

    def seed(self, seed: int) -> int:
        """What noise and dropout of this process are drawn with: process 0's as of one alone."""
        return int(np.random.SeedSequence((seed, self.rank)).generate_state(1, np.uint64)[0]) if self.rank else seed

    @contextlib.contextmanager
    def speaking(self) -> Iterator[None]:
        """Only process 0 says more than warnings."""
        level = logger.level
        if self.rank:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            logger.setLevel(level)


def this_process(accelerator: str, devices: int, num_nodes: int) -> Processes:
    """Which process this is: told by torchrun or SLURM, or by Lightning, which starts the others itself.

    Args:
        accelerator: one of :data:`ACCELERATORS`.
        devices: processes on each node.
        num_nodes: nodes.

    Raises:
        UsageError: there are fewer GPUs or cores, the launcher started another number, or several nodes have none.
    """
    _require_gpus(accelerator, devices)
    count = devices * num_nodes
    if count == 1 and not TorchElasticEnvironment.detect():
        return Processes()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")  # srun is installed, and not used
        try:
            found = _environment()
            found.validate_settings(devices, num_nodes)
        except (ValueError, RuntimeError) as error:
            raise UsageError(f"devices={devices} num_nodes={num_nodes} do not fit the launcher: {error}") from error
    if not isinstance(found, LightningEnvironment):
        return Processes(found.global_rank(), count)
    if num_nodes > 1:
        raise UsageError(
            f"num_nodes={num_nodes}: start the same command on every node with torchrun or srun, see docs/train.md"
        )
    cores = os.cpu_count() or 1
    if devices > cores and not _gpus(accelerator):
        raise UsageError(f"devices={devices}: this machine has {cores} cores; choose at most {cores}")
    return Processes(found.local_rank(), count)


def _gpus(accelerator: str) -> int:
    """GPUs that a run with ``accelerator`` finds here."""
    return torch.cuda.device_count() if accelerator != "cpu" and torch.cuda.is_available() else 0


def _require_gpus(accelerator: str, devices: int) -> None:
    gpus = _gpus(accelerator)
    if accelerator == "gpu" and not gpus:
        raise UsageError("accelerator=gpu: torch finds no GPU on this machine; use accelerator=cpu")
    if devices > gpus > 0:
        raise UsageError(f"devices={devices}: this machine has {gpus} GPUs; choose at most {gpus}, or accelerator=cpu")


def _environment() -> ClusterEnvironment:
    """The launcher, in the order in which Lightning asks."""
    for kind in (TorchElasticEnvironment, SLURMEnvironment):
        if kind.detect():
            return kind()
    return LightningEnvironment()


def mean_over_processes(value: Tensor) -> Tensor:
    """Mean of a number over the processes that train together, without a gradient; itself where one is alone."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    total = value.detach().clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def gathered(value: Any) -> list[Any]:
    """What every process holds, in the order of their ranks."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, value)
    return found


class SameStart(Callback):
    """Gives every process the weights and transforms of process 0, which alone fitted them; the first of callbacks."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Before anything copies the task."""
        if trainer.world_size > 1:
            held = {name: value.cpu() for name, value in pl_module.state_dict().items()}
            pl_module.load_state_dict(trainer.strategy.broadcast(held))


def tell_of_batch_norms(task: torch.nn.Module, processes: Processes, on_gpu: bool) -> None:
    """Say once what batch norms take their statistics of, where several processes train."""
    has = any(isinstance(one, torch.nn.modules.batchnorm._BatchNorm) for one in task.modules())
    if has and processes.count > 1:
        said = "of the whole batch (SyncBatchNorm)" if on_gpu else "of each process's part of a batch, as of small ones"
        logger.info("train: batch norms take their statistics %s", said)
