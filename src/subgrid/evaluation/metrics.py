"""Sets of metrics that ``subgrid evaluate`` adds to its own scores: chosen by name with ``metrics=``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subgrid.base.errors import unknown_name
from subgrid.columns.store import ColumnStore, Split
from subgrid.emulator.base import ColumnEmulator
from subgrid.evaluation.climsim import climsim_lines, climsim_metrics
from subgrid.evaluation.kaggle import kaggle_metrics

#: The scores that every evaluation has; as a choice it adds nothing.
STANDARD = "standard"


def plain_lines(name: str, result: dict[str, Any]) -> list[str]:
    """The numbers of a result, one a line."""
    numbers = {k: v for k, v in result.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    return [f"{f'{name} {key}':32s} {value:10.6g}" for key, value in numbers.items()]


@dataclass(frozen=True)
class MetricSet:
    """A set of metrics.

    Args:
        score: of an emulator on a split of a store; may write files into the folder; the result is JSON-able.
        lines: what a terminal shows of the result, from the set's name and the result.
    """

    score: Callable[[ColumnEmulator, ColumnStore, Split, Path], dict[str, Any]]
    lines: Callable[[str, dict[str, Any]], list[str]] = plain_lines


METRICS: dict[str, MetricSet] = {
    "climsim": MetricSet(climsim_metrics, climsim_lines),
    "kaggle": MetricSet(kaggle_metrics),
}


def chosen(names: str) -> list[str]:
    """The sets of a comma list, each once, without :data:`STANDARD`.

    Raises:
        UsageError: no such set (with the nearest names).
    """
    words = [word.strip() for word in names.split(",")]
    for word in words:
        if word not in (STANDARD, *METRICS):
            raise unknown_name("metrics", word, [STANDARD, *METRICS])
    return [word for word in dict.fromkeys(words) if word != STANDARD]
