"""Shuffled batches from a split; the order depends on seed, epoch and block alone."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import UsageError
from subgrid.base.places import RemotePath
from subgrid.columns.store import JoinedSplits, Split
from subgrid.columns.variables import VariableSet

Batch = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
#: Threads that read blocks and gather rows; numpy and the kernel do both without the interpreter's lock.
THREADS = min(4, os.cpu_count() or 1)
#: Threads for a store that is not on this machine: they mostly wait, and a connection alone is slow.
REMOTE_THREADS = 16
#: Rows that one task of a thread gathers: several small batches together, so that handing over costs little.
TASK_ROWS = 8192


class _Buffer:
    """Memory for the rows of one buffer: filled in place again and again, since fresh memory costs page faults."""

    def __init__(self, split: Split | JoinedSplits, variables: VariableSet, blocks: int) -> None:
        self.split, self.variables = split, variables
        levels, rows = split.store.grid.levels, blocks * split.block
        widths = (sum(v.width(levels) for v in group) for group in (variables.inputs, variables.targets))
        inputs, targets = (np.empty((rows, width), np.float32) for width in widths)
        self.data: Batch = inputs, targets, np.empty(rows, np.float32)
        self.key: tuple[int, ...] | None = None

    def fill(self, pool: Executor, blocks: tuple[int, ...]) -> None:
        """Read the rows of ``blocks`` in stored order, unless they are here already (small stores stay in memory)."""
        key = tuple(sorted(blocks))
        if key == self.key:
            return
        self.key = None
        starts = np.cumsum([0, *(self.split.rows(b) for b in key)])
        for done in [pool.submit(self._read, b, int(at)) for b, at in zip(key, starts, strict=False)]:
            done.result()
        self.key = key

    def _read(self, block: int, start: int) -> None:
        inputs, targets, weight = (part[start : start + self.split.rows(block)] for part in self.data)
        self.split.read_variables(self.variables.inputs, block, inputs)
        self.split.read_variables(self.variables.targets, block, targets)
        self.split.read("weight", block, weight)


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
        shard: (k, n): give part k (from 0) of n equal parts of every batch, as one of n processes that together train
            on the same batches as one alone would; of a last batch that is not full, some give fewer rows or none.
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
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        if batch_size < 1 or buffer_blocks < 1:
            raise UsageError(f"batch_size ({batch_size}) and buffer_blocks ({buffer_blocks}) must be positive")
        if batch_size % shard[1]:
            raise UsageError(f"batch_size ({batch_size}) must be a multiple of the {shard[1]} processes that share it")
        self.split, self.variables = split, variables
        self.batch_size, self.seed, self.buffer_blocks = batch_size, seed, buffer_blocks
        self.drop_last, self.shard = drop_last, shard
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
        self._buffer: _Buffer | None = None

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

    def _order(self, epoch: int, blocks: tuple[int, ...], rows: int) -> NDArray[np.int64]:
        if self.seed is None:
            return np.arange(rows)
        return np.random.default_rng((self.seed, epoch, blocks[0])).permutation(rows)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of one epoch from the current position; afterwards the loader stands at the next epoch."""
        # Taken for the epoch and given back at its end, so that two iterations at once never share memory.
        buffer, self._buffer = self._buffer, None
        buffer = buffer or _Buffer(self.split, self.variables, min(self.buffer_blocks, self.blocks))
        threads = REMOTE_THREADS if isinstance(self.split.folder, RemotePath) else THREADS
        pool = ThreadPoolExecutor(threads, thread_name_prefix="loader")
        try:
            yield from self._epoch(buffer, pool)
        finally:
            pool.shutdown(cancel_futures=True)
            self._buffer = buffer

    def _epoch(self, buffer: _Buffer, pool: Executor) -> Iterator[Batch]:
        epoch, size = self.epoch, self.batch_size // self.shard[1]
        skip = self.start_batch * self.batch_size
        seen, end = 0, len(self) * self.batch_size - skip
        carried: Batch | None = None
        for blocks in self._buffers():
            rows = sum(self.split.rows(b) for b in blocks)
            if skip >= rows and not seen:
                skip -= rows
                continue
            ordering = pool.submit(self._order, epoch, blocks, rows)
            buffer.fill(pool, blocks)
            order = self._mine(ordering.result()[skip:], seen, end)
            seen += rows - skip
            skip = 0
            if carried is not None:
                missing = size - len(carried[0])
                carried = _join(carried, _take(buffer.data, order[:missing], _empty_like(buffer.data, order[:missing])))
                order = order[missing:]
                if len(carried[0]) < size:
                    continue
                yield self._given(carried)
                carried = None
            for batch in self._gathered(buffer.data, order, pool, size):
                if len(batch[0]) == size:
                    yield self._given(batch)
                else:
                    carried = batch
        left = seen % self.batch_size
        # every part gives the last batch, if without rows, so that all stand at the same place afterwards
        if not self.drop_last and 0 < left < (self.shard[0] + 1) * size:
            yield self._given(carried or _empty_like(buffer.data, np.empty(0, np.int64)))

    def _mine(self, order: NDArray[np.int64], seen: int, end: int) -> NDArray[np.int64]:
        """Those rows of ``order`` that are in this loader's part of their batches.

        ``seen`` rows came before them in this epoch, in which ``end`` rows are given or, if the last batch is not full,
        fewer.
        """
        own, parts = self.shard
        if parts == 1:
            return order
        place = seen + np.arange(len(order))
        return order[(place % self.batch_size // (self.batch_size // parts) == own) & (place < end)]

    def _gathered(self, data: Batch, order: NDArray[np.int64], pool: Executor, size: int) -> Iterator[Batch]:
        """The rows of ``data`` in ``order``, ``size`` at a time, gathered some tasks ahead of their use."""
        step = max(1, TASK_ROWS // size) * size
        tasks = [order[i : i + step] for i in range(0, len(order), step)]
        ahead: deque[Any] = deque()
        for index in tasks:
            ahead.append(pool.submit(_take, data, index, _empty_like(data, index)))
            if len(ahead) > THREADS:
                yield from _batches(ahead.popleft().result(), size)
        while ahead:
            yield from _batches(ahead.popleft().result(), size)

    def _given(self, batch: Batch) -> Batch:
        """Count a batch. The last one moves to the next epoch, since a trainer may not ask for the end of the first."""
        self.start_batch += 1
        if self.start_batch == len(self):
            self.epoch, self.start_batch = self.epoch + 1, 0
        return batch


def _batches(rows: Batch, size: int) -> Iterator[Batch]:
    for i in range(0, len(rows[0]), size):
        inputs, targets, weight = (part[i : i + size] for part in rows)
        yield inputs, targets, weight


def _empty_like(data: Batch, index: NDArray[np.int64]) -> Batch:
    """Memory for the rows ``index`` of ``data``; made by the iterating thread, which also frees it."""
    inputs, targets, weight = (np.empty((len(index), *part.shape[1:]), part.dtype) for part in data)
    return inputs, targets, weight


def _take(data: Batch, index: NDArray[np.int64], out: Batch) -> Batch:
    for part, into in zip(data, out, strict=True):
        # Indices are in range by construction; any other mode than "clip" goes through a second copy.
        np.take(part, index, axis=0, out=into, mode="clip")
    return out


def _join(first: Batch, second: Batch) -> Batch:
    return (
        np.concatenate([first[0], second[0]]),
        np.concatenate([first[1], second[1]]),
        np.concatenate([first[2], second[2]]),
    )
