"""What the benchmarks share: options, interleaved timing, goals, the JSON line, and a synthetic column store."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

BOUNDARIES = (0.0, 0.05, 0.14, 0.26, 0.42, 0.6, 0.77, 0.9, 1.0)
TIME_STEP = 1800.0


def options(purpose: str | None, **extra: dict[str, Any]) -> argparse.Namespace:
    """Command-line options: ``--smoke`` for tiny sizes, and ``extra`` ones (name to `add_argument` settings)."""
    parser = argparse.ArgumentParser(description=(purpose or "").splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run, not how fast")
    for name, settings in extra.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)
    chosen = parser.parse_args()
    if chosen.smoke:  # compiling the host takes most of a smoke run
        os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    return chosen


def host_config(smoke: bool) -> Any:
    """The host at its default resolution; with longer, so fewer, steps in a smoke run."""
    from subgrid.hosts.speedy.settings import SpeedyConfig

    return SpeedyConfig(time_step_minutes=60) if smoke else SpeedyConfig()


def measure(
    what: str,
    value: float,
    unit: str,
    floor: float | None = None,
    floor_is: str = "",
    ratio: float | None = None,
    at_most: float | None = None,
    at_least: float | None = None,
    judge: str = "ratio",
    **more: Any,
) -> dict[str, Any]:
    """One measured figure: ``value`` beside its ``floor``, both in ``unit``; the goal is on what ``judge`` names."""
    if ratio is None and floor:
        ratio = value / floor
    judged = value if judge == "value" or ratio is None else ratio
    met = None
    if at_most is not None:
        met = judged <= at_most
    if at_least is not None:
        met = judged >= at_least
    found: dict[str, Any] = {"what": what, "value": rounded(value), "unit": unit}
    if floor is not None:
        found |= {"floor": rounded(floor), "floor_is": floor_is}
    found |= {
        "ratio": None if ratio is None else rounded(ratio),
        "judged": "ratio" if judged is ratio else "value",
        "at_most": at_most,
        "at_least": at_least,
        "met": met,
    }
    return found | {name: rounded(v) if isinstance(v, float) else v for name, v in more.items()}


def rounded(value: float) -> float:
    """Four significant digits: more would be noise."""
    return float(f"{value:.4g}")


def interleaved(rounds: int, *works: Callable[[], Any]) -> list[list[float]]:
    """Seconds of each of ``works`` in ``rounds`` turns, one after the other, so that a busy machine slows all alike."""
    found: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for walls, work in zip(found, works, strict=True):
            started = time.perf_counter()
            work()
            walls.append(time.perf_counter() - started)
    return found


def median_ratio(over: list[float], under: list[float]) -> float:
    """Median over the turns of one time against the other."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


@contextmanager
def emit(name: str, smoke: bool) -> Iterator[list[dict[str, Any]]]:
    """Collect the figures of a benchmark and print them as one line of JSON."""
    started = time.perf_counter()
    measures: list[dict[str, Any]] = []
    yield measures
    line = {"benchmark": name, "smoke": smoke, "measures": measures, "seconds": round(time.perf_counter() - started, 1)}
    print(json.dumps(line), flush=True)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is removed again."""
    with TemporaryDirectory(prefix="subgrid-bench-") as folder:
        yield Path(folder)


def synthetic_store(path: Path, samples: int, validation: int = 0, block: int | None = None, columns: int = 1) -> Any:
    """A store with the shapes of the set `speedy` and of its `history` left out: standard normal rows of a grid.

    What the numbers are makes no difference to the time that it takes to move them.
    """
    from subgrid.columns import ColumnGrid, StoreWriter, variable_set
    from subgrid.columns.layout import BLOCK, StoreSpec
    from subgrid.physics.vertical import VerticalGrid

    chosen = variable_set("speedy")
    zero = np.zeros(columns)
    grid = ColumnGrid(zero, zero, zero + 4.0 * np.pi / columns, VerticalGrid.sigma(BOUNDARIES))
    spec = StoreSpec(
        grid=grid,
        arrays={"inputs": chosen.inputs, "targets": chosen.targets},
        time_step=TIME_STEP,
        host="speedy",
        provenance={"made": "by a benchmark"},
        block=block or BLOCK,
    )
    widths = {n: sum(v.width(grid.levels) for v in variables) for n, variables in spec.arrays.items()}
    writer = StoreWriter(path, spec)
    random = np.random.default_rng(0)
    for split, count in (("train", samples), ("validation", validation)):
        for start in range(0, count, spec.block):
            rows = min(spec.block, count - start)
            writer.append(
                split,
                {
                    **{n: random.standard_normal((rows, w), np.float32) for n, w in widths.items()},
                    "time": np.zeros(rows, np.int64),
                    "column": np.zeros(rows, np.int32),
                    "weight": np.ones(rows, np.float32),
                },
            )
    return writer.finish()
