"""Shuffled batches from a split; the order depends on seed, epoch and block alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import UsageError
from subgrid.columns.store import JoinedSplits, Split
from subgrid.columns.variables import VariableSet

Batch = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


class ColumnLoader:
    """Iterates over ``(inputs, targets, weight)`` batches, float32, one epoch per ``iter()``.

    Blocks are visited in an order drawn from (seed, epoch); ``buffer_blocks`` of them are held in memory and
    their rows mixed by a permutation drawn from (seed, epoch, first block of the buffer). Rows that do not fill
    a batch move on to the next buffer. ``state_dict`` / ``load_state_dict`` resume in the middle of an epoch with
    the same batches in the same order.

    Args:
        split: where the columns are.
        variables: which of them, in the flat layout (n, channel).
        batch_size: rows per batch.
        seed: of the shuffle; ``None`` reads in stored order.
        buffer_blocks: blocks mixed at a time (memory: that many blocks).
        drop_last: leave out a last batch that is not full.
        max_samples: use only the first so many samples' blocks (rounded up to whole blocks).
    """

    def __init__(
        self,
        split: Split | JoinedSplits,
        variables: VariableSet,
        batch_size: int,
        seed: int | None = 0,
        buffer_blocks: int = 32,
        drop_last: bool = True,
        max_samples: int | None = None,
    ) -> None:
        if batch_size < 1 or buffer_blocks < 1:
            raise UsageError(f"batch_size ({batch_size}) and buffer_blocks ({buffer_blocks}) must be positive")
        self.split, self.variables = split, variables
        self.batch_size, self.seed, self.buffer_blocks = batch_size, seed, buffer_blocks
        self.drop_last = drop_last
        limit = split.samples if max_samples is None else min(max_samples, split.samples)
        self.blocks = -(-limit // split.block)
        self.blocks = min(self.blocks, split.blocks) if max_samples is not None else split.blocks
        self.samples = sum(split.rows(b) for b in range(self.blocks))
        if drop_last and self.samples < batch_size:
            raise UsageError(
                f"{split.folder} has {self.samples} samples, fewer than one batch of {batch_size}: lower the batch size"
            )
        self.epoch = 0
        self.start_batch = 0
        self._held: tuple[tuple[int, ...], Batch] | None = None

    def __len__(self) -> int:
        """Batches per epoch."""
        return self.samples // self.batch_size if self.drop_last else -(-self.samples // self.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """Position: the epoch and the number of batches already given in it."""
        return {"epoch": self.epoch, "batch": self.start_batch, "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`'s position at the next ``iter()``."""
        if state["seed"] != self.seed:
            raise UsageError(f"the loader was saved with seed {state['seed']}, not {self.seed}")
        self.epoch, self.start_batch = int(state["epoch"]), int(state["batch"])

    def _buffers(self) -> list[tuple[int, ...]]:
        order = np.arange(self.blocks)
        if self.seed is not None:
            np.random.default_rng((self.seed, self.epoch)).shuffle(order)
        step = self.buffer_blocks
        return [tuple(int(b) for b in order[i : i + step]) for i in range(0, self.blocks, step)]

    def _load(self, blocks: tuple[int, ...]) -> Batch:
        """The rows of ``blocks`` in stored order; the last buffer read is kept (small stores stay in memory)."""
        key = tuple(sorted(blocks))
        if self._held is None or self._held[0] != key:
            self._held = None
            inputs = np.concatenate([self.split.read_variables(self.variables.inputs, b) for b in key])
            targets = np.concatenate([self.split.read_variables(self.variables.targets, b) for b in key])
            weight = np.concatenate([self.split.read("weight", b) for b in key])
            self._held = key, (inputs, targets, weight)
        return self._held[1]

    def _order(self, epoch: int, blocks: tuple[int, ...], rows: int) -> NDArray[np.int64]:
        if self.seed is None:
            return np.arange(rows)
        return np.random.default_rng((self.seed, epoch, blocks[0])).permutation(rows)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of one epoch from the current position; afterwards the loader stands at the next epoch."""
        epoch = self.epoch
        skip = self.start_batch * self.batch_size
        carried: Batch | None = None
        for blocks in self._buffers():
            rows = sum(self.split.rows(b) for b in blocks)
            if skip >= rows and carried is None:
                skip -= rows
                continue
            data = self._load(blocks)
            order = self._order(epoch, blocks, rows)[skip:]
            skip = 0
            start = 0
            if carried is not None:
                start = min(self.batch_size - len(carried[0]), len(order))
                carried = _join(carried, _take(data, order[:start]))
                if len(carried[0]) == self.batch_size:
                    yield self._given(carried)
                    carried = None
                else:
                    continue
            while start + self.batch_size <= len(order):
                yield self._given(_take(data, order[start : start + self.batch_size]))
                start += self.batch_size
            if start < len(order):
                carried = _take(data, order[start:])
        if carried is not None and not self.drop_last:
            yield self._given(carried)

    def _given(self, batch: Batch) -> Batch:
        """Count a batch. The last one moves to the next epoch, since a trainer may not ask for the end of the first."""
        self.start_batch += 1
        if self.start_batch == len(self):
            self.epoch, self.start_batch = self.epoch + 1, 0
        return batch


def _take(data: Batch, index: NDArray[np.int64]) -> Batch:
    return data[0].take(index, axis=0), data[1].take(index, axis=0), data[2].take(index)


def _join(first: Batch, second: Batch) -> Batch:
    return (
        np.concatenate([first[0], second[0]]),
        np.concatenate([first[1], second[1]]),
        np.concatenate([first[2], second[2]]),
    )
