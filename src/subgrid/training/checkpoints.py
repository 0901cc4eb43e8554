"""Checkpoints of a training run: written atomically, checked when read, and also in the middle of an epoch."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from subgrid.base.errors import SubgridError
from subgrid.base.files import write_file

#: What Lightning reads from a checkpoint when it resumes.
PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "global_step")
_DAMAGE = (RuntimeError, ValueError, TypeError, KeyError, EOFError, OSError, zipfile.BadZipFile, pickle.UnpicklingError)


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints written beside and renamed.

    Lightning's own are written in the system's temporary folder and moved: between two file systems that is a copy
    over the previous checkpoint, and a kill in it would lose both.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        made = io.BytesIO()  # torch hides a full disk behind an error of its own
        torch.save(checkpoint, made)
        write_file(path, lambda beside: beside.write_bytes(made.getbuffer()))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint; see :func:`read_checkpoint`."""
        del map_location, weights_only
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint on the CPU, every checksum compared.

    Raises:
        SubgridError: the file is missing, truncated, altered or not a checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            altered = archive.testzip()  # torch itself does not compare the checksums that it writes
        if altered is not None:
            raise ValueError(f"'{altered}' was altered")
        found = torch.load(path, map_location="cpu", weights_only=True)
        missing = [part for part in PARTS if part not in found]
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
    except FileNotFoundError as error:
        raise SubgridError(f"{path} is missing: remove {path.parent.parent} and train again") from error
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SubgridError(
            f"{path} is damaged ({reason}): remove {path.parent} and the same command trains from the start"
        ) from error
    return dict(found)


class PeriodicCheckpoint(Checkpoint):
    """Writes ``path`` every ``every`` steps within an epoch; at an epoch's end `ModelCheckpoint` does."""

    def __init__(self, path: Path, every: int, accumulate: int = 1) -> None:
        self.path, self.every, self.accumulate = path, every, accumulate

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Save after a step, unless the epoch ends here: its validation is still to come."""
        if (index + 1) % self.accumulate:  # gradients wait for the next batch, and no checkpoint keeps them
            return
        if self.every and trainer.global_step % self.every == 0 and index + 1 < trainer.num_training_batches:
            trainer.save_checkpoint(self.path)


class _Movable(ModelCheckpoint):
    """A `ModelCheckpoint` by validation loss whose folder may move between the parts of a run."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best scores; Lightning would forget them if the run folder was moved in the meantime."""

        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else ""

        paths = {name: here(state_dict[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        kept = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": kept, "dirpath": self.dirpath})


class BestCheckpoint(_Movable):
    """``best.ckpt`` by validation loss and, at each epoch's end, ``last.ckpt``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            dirpath=folder, filename="best", monitor="val_loss", save_last=True, enable_version_counter=False
        )


class TopCheckpoints(_Movable):
    """``epoch-N.ckpt`` of the ``count`` best epochs by validation loss.

    It must come before `BestCheckpoint` among the callbacks: what it holds of an epoch belongs into ``last.ckpt``.
    """

    def __init__(self, folder: Path, count: int) -> None:
        super().__init__(
            dirpath=folder,
            filename="epoch-{epoch}",
            auto_insert_metric_name=False,
            monitor="val_loss",
            save_top_k=count,
            enable_version_counter=False,
        )

    @property
    def paths(self) -> list[Path]:
        """Those that are kept."""
        return [Path(path) for path in self.best_k_models]
