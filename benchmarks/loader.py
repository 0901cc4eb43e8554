"""Shuffled batches from a store larger than the shuffle buffer, beside a plain copy of memory and a training step."""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import emit, interleaved, measure, median_ratio, options, scratch, synthetic_store

BANDWIDTH_GOAL, FEED_GOAL, FIRST_GOAL = 0.35, 5.0, 2.0
#: Calls of Python functions that a column may cost: far below one, so that none is made for each sample.
CALLS_GOAL = 0.05


def copier(size: int) -> tuple[Callable[[], None], int]:
    """A copy between two arrays of ``size`` bytes that are both in memory already, and its bytes."""
    source = np.ones(size // 4, np.float32)
    target = np.zeros_like(source)
    return (lambda: np.copyto(target, source)), source.nbytes


def gatherer(rows: int, widths: tuple[int, ...], batch: int) -> tuple[Callable[[], None], int]:
    """Shuffled batches of ``rows`` rows in memory by one thread, without a store or a loader; and its bytes."""
    tables = [np.ones((rows, width), np.float32) for width in widths]
    order = np.random.default_rng(0).permutation(rows)

    def gather() -> None:
        for i in range(0, rows, batch):
            for table in tables:
                table.take(order[i : i + batch], axis=0, mode="clip")

    return gather, sum(t.nbytes for t in tables)


def rates(found: list[dict[str, Any]], store: Any, buffer: int, rounds: int, batches: tuple[int, ...]) -> float:
    """Bytes per second of whole epochs against a copy; returns the columns per second of the largest batch."""
    from subgrid.columns import ColumnLoader

    variables, train = store.variable_set("speedy"), store["train"]
    widths = train.width("inputs"), train.width("targets")
    copy, copied = copier(4 * sum(widths) * buffer * train.block)
    columns = 0.0
    for size in batches:
        loader = ColumnLoader(train, variables, size, buffer_blocks=buffer)
        gather, gathered = gatherer(buffer * train.block, widths, size)
        given = [0]

        def epoch(loader: Any = loader, given: list[int] = given) -> None:
            given[0] = sum(part.nbytes for batch in loader for part in batch)

        for warm in (epoch, gather):
            warm()
        epochs, copies, gathers = interleaved(rounds, epoch, copy, gather)
        columns = len(loader) * size / statistics.median(epochs)
        found.append(
            measure(
                f"batches of {size:,}, store {train.samples / (buffer * train.block):g} x the buffer",
                given[0] / statistics.median(epochs) / 1e9,
                "GB/s",
                copied / statistics.median(copies) / 1e9,
                "np.copyto, one thread",
                ratio=median_ratio(copies, epochs) * given[0] / copied,
                at_least=BANDWIDTH_GOAL,
                columns_per_second=columns,
                gather_from_memory_gb_s=gathered / statistics.median(gathers) / 1e9,
            )
        )
    return columns


def training_appetite(store: Any, batch: int, rounds: int) -> float:
    """Columns per second of a training step of the small MLP, in the faster precision."""
    import torch

    from subgrid.columns import ColumnLoader
    from subgrid.emulator import build_emulator
    from subgrid.training.recipes import recipe
    from subgrid.training.statistics import fit_transforms

    variables = store.variable_set("speedy")
    emulator = build_emulator("mlp", variables, store.grid.vertical, store.spec.time_step)
    fit_transforms(emulator, store["validation"])
    standard = recipe("standard")
    optimiser, _ = standard.optimizer(emulator, 1000)
    rows = next(iter(ColumnLoader(store["validation"], variables, batch)))
    parts = [torch.from_numpy(part) for part in rows]

    def step(bf16: bool) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = standard.loss(emulator, *parts, training=True)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    for bf16 in (False, True):
        step(bf16)
    walls = interleaved(rounds, lambda: step(False), lambda: step(True))
    return batch / min(statistics.median(wall) for wall in walls)


def first_batch(path: Path) -> float:
    """Seconds from opening the store to the first batch, with the buffer of a training run."""
    from subgrid.columns import ColumnLoader, open_store
    from subgrid.training import TrainConfig

    blocks = TrainConfig(data="").buffer_blocks
    started = time.perf_counter()
    store = open_store(path)
    next(iter(ColumnLoader(store["train"], store.variable_set("speedy"), 1024, buffer_blocks=blocks)))
    return time.perf_counter() - started


def python_calls(store: Any, buffer: int, batch: int) -> float:
    """Calls of Python functions per column in one epoch, all threads together."""
    from subgrid.columns import ColumnLoader

    loader = ColumnLoader(store["train"], store.variable_set("speedy"), batch, buffer_blocks=buffer)
    calls = [0]

    def count(frame: Any, event: str, argument: Any) -> None:
        calls[0] += event == "call"

    threading.setprofile(count)
    sys.setprofile(count)
    try:
        columns = sum(len(inputs) for inputs, _, _ in loader)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return calls[0] / columns


def main() -> None:
    """Make a store, then measure."""
    chosen = options(__doc__)
    buffer, times, block, rounds = (3, 2, 1024, 2) if chosen.smoke else (24, 3, 16384, 7)
    batches = (256, 512) if chosen.smoke else (1024, 4096)
    with emit("loader", chosen.smoke) as found, scratch() as folder:
        path = folder / "store.zarr"
        store = synthetic_store(path, times * buffer * block, validation=2 * batches[-1], block=block)
        columns = rates(found, store, buffer, rounds, batches)
        appetite = training_appetite(store, batches[-1], rounds)
        found.append(
            measure(
                f"feeds training of the small MLP ({batches[-1]:,} a batch)",
                columns,
                "columns/s",
                appetite,
                "what a training step takes",
                at_least=FEED_GOAL,
            )
        )
        found.append(measure("first batch, buffer of a training run", first_batch(path), "s", at_most=FIRST_GOAL))
        calls = python_calls(store, buffer, batches[0])
        found.append(measure(f"Python calls a column, {batches[0]:,} a batch", calls, "calls", at_most=CALLS_GOAL))


if __name__ == "__main__":
    main()
