"""The literature's scores: columns a second from blocks, beside a copy of memory and plain numpy on whole arrays."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
from common import emit, interleaved, measure, median_ratio, options, scratch

COLUMNS, LEVELS, BLOCK = 384, 60, 16384
#: Of plain numpy's rate on whole arrays, which holds everything in memory and sums once; of a copy's; of the whole
#: evaluation's against the aggregation's alone.
PLAIN_GOAL, COPY_GOAL, WHOLE_GOAL = 0.7, 0.05, 0.1


def plain(prediction: Any, truth: Any) -> list[Any]:
    """The published formulas on (time, column, channel) arrays."""
    error = prediction - truth
    squared = error**2
    spread = ((truth - truth.mean(0)) ** 2).sum(0)
    parts = [np.abs(error).mean(0), np.sqrt(squared.mean(0)), error.mean(0), 1.0 - squared.sum(0) / spread]
    return [part.mean(0) for part in parts]


def aggregation(found: list[dict[str, Any]], times: int, rounds: int) -> float:
    """The accumulator alone on rows in memory; returns its columns per second."""
    from subgrid.columns import variable_set
    from subgrid.scores.climsim import ColumnScores

    variables = {v.name: v.width(LEVELS) for v in variable_set("v1").targets}
    width, rows = sum(variables.values()), times * COLUMNS
    random = np.random.default_rng(0)
    truth = random.standard_normal((times, COLUMNS, width))
    prediction = truth + 0.3 * random.standard_normal(truth.shape)
    y, p, column = truth.reshape(rows, width), prediction.reshape(rows, width), np.tile(np.arange(COLUMNS), times)
    kept: list[Any] = []

    def ours() -> None:
        scores = ColumnScores(variables, COLUMNS)
        for start in range(0, rows, BLOCK):
            part = slice(start, start + BLOCK)
            scores.update(p[part], y[part], column[part])
        kept[:] = [scores, scores.result()]

    target = np.empty_like(p)

    def copy() -> None:
        np.copyto(target, p)
        np.copyto(target, y)

    for warm in (ours, copy):
        warm()
    walls, plains, copies = interleaved(rounds, ours, lambda: plain(prediction, truth), copy)
    rate = rows / statistics.median(walls)
    found.append(
        measure(
            "aggregation of v1 (128 outputs)",
            rate,
            "columns/s",
            rows / statistics.median(plains),
            "plain numpy on whole arrays",
            ratio=median_ratio(plains, walls),
            at_least=PLAIN_GOAL,
        )
    )
    nbytes = p.nbytes + y.nbytes
    found.append(
        measure(
            "prediction and truth read by the aggregation",
            nbytes / statistics.median(walls) / 1e9,
            "GB/s",
            nbytes / statistics.median(copies) / 1e9,
            "np.copyto, one thread",
            ratio=median_ratio(copies, walls),
            at_least=COPY_GOAL,
        )
    )
    held = sum(a.nbytes for a in vars(kept[0]).values() if isinstance(a, np.ndarray))
    found.append(measure("memory of the sums, however many rows", held / 2**20, "MiB", at_most=16.0, judge="value"))
    return rate


def store_of(folder: Path, rows: int) -> Any:
    """A store of the set v1 with a split `scoring` of standard normal rows at plausible surface pressure."""
    from subgrid.columns import ColumnGrid, StoreWriter, variable_set
    from subgrid.columns.layout import StoreSpec
    from subgrid.columns.variables import offsets
    from subgrid.physics.vertical import VerticalGrid

    chosen = variable_set("v1")
    latitude = np.degrees(np.arcsin(np.linspace(-0.99, 0.99, COLUMNS)))
    sigma = VerticalGrid.sigma(np.linspace(0.0, 1.0, LEVELS + 1).tolist())
    grid = ColumnGrid(latitude, np.zeros(COLUMNS), np.full(COLUMNS, 4 * np.pi / COLUMNS), sigma)
    arrays = {"inputs": chosen.inputs, "targets": chosen.targets}
    writer = StoreWriter(folder / "store.zarr", StoreSpec(grid, arrays, 1200.0, "climsim", {}, block=BLOCK))
    random = np.random.default_rng(0)
    for start in range(0, rows, BLOCK):
        number = np.arange(start, min(start + BLOCK, rows))
        held = {
            name: random.standard_normal((number.size, sum(v.width(LEVELS) for v in part)), np.float32)
            for name, part in arrays.items()
        }
        held["inputs"][:, offsets(chosen.inputs, LEVELS)["state_ps"]] = 1e5
        marks = {"time": 7200 * (number // COLUMNS), "column": (number % COLUMNS).astype(np.int32)}
        writer.append("scoring", {**held, **marks, "weight": np.ones(number.size, np.float32)})
    return writer.finish()


def everything(found: list[dict[str, Any]], folder: Path, times: int, rounds: int, alone: float) -> None:
    """All scores of a store with a prediction that costs nothing, against the aggregation alone."""
    from subgrid.evaluation.climsim import score

    store, rows = store_of(folder, times * COLUMNS), times * COLUMNS
    variables, split = store.variable_set("v1"), store["scoring"]
    width = sum(v.width(LEVELS) for v in variables.targets)
    zeros = np.zeros((BLOCK, width))

    def work() -> None:
        score(variables, lambda x: zeros[: len(x)], split, folder / "out")

    work()
    (walls,) = interleaved(rounds, work)
    rate = rows / statistics.median(walls)
    what = "all literature scores of a store, daily, zonal and by rain"
    floor_is = "the aggregation alone"
    found.append(measure(what, rate, "columns/s", alone, floor_is, rate / alone, at_least=WHOLE_GOAL))


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__)
    times, rounds = (4, 1) if chosen.smoke else (341, 5)
    with emit("scores", chosen.smoke) as found, scratch() as folder:
        alone = aggregation(found, times, rounds)
        everything(found, folder, times, rounds, alone)


if __name__ == "__main__":
    main()
