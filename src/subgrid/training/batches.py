"""Batches as Lightning wants them: torch tensors, a length; of one store, or of two side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from subgrid.columns.loader import Batch, ColumnLoader

Rows = tuple[Tensor, Tensor, Tensor]


class TorchBatches:
    """``(inputs, targets, weight)`` of a loader, or a pair of these with a batch of the second store.

    An epoch is one of the first store. The second goes on where the epoch before left it, and begins anew at its end,
    however large it is.

    Args:
        loader: of the first store; its length counts.
        second: of the second store, if there is one.
    """

    def __init__(self, loader: ColumnLoader, second: ColumnLoader | None = None) -> None:
        self.loader, self.second = loader, second

    @property
    def columns(self) -> int:
        """Columns of an epoch, those of both stores and of all processes."""
        own = len(self) * self.loader.batch_size
        return own + (0 if self.second is None else len(self) * self.second.batch_size)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Rows | tuple[Rows, Rows]]:
        if self.second is None:
            yield from map(_tensors, self.loader)
            return
        beside = _endless(self.second)
        try:
            # the first is asked first: at its end the second keeps its place
            for own, other in zip(self.loader, beside, strict=False):
                yield _tensors(own), _tensors(other)
        finally:
            beside.close()

    def state_dict(self) -> dict[str, Any]:
        """Where the loaders stand."""
        second = {} if self.second is None else {"second": self.second.state_dict()}
        return {"loader": self.loader.state_dict(), **second}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.loader.load_state_dict(state["loader"])
        if self.second is not None:
            self.second.load_state_dict(state["second"])


def _endless(loader: ColumnLoader) -> Any:
    while True:
        yield from loader


def _tensors(batch: Batch) -> Rows:
    inputs, targets, weight = batch
    return torch.from_numpy(inputs), torch.from_numpy(targets), torch.from_numpy(weight)
