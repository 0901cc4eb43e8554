"""What a coupled run writes of its emulator: what every constraint did and where, and how far inputs left training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from subgrid.emulator.base import ColumnEmulator, Counter

#: Dimensions of a daily mean, beside time: ``()``, ``("level",)`` or ``("column",)``.
Dimensions = Mapping[str, tuple[str, ...]]
#: What shadow mode keeps of each target: means over columns of the emulator's error, of its square, and of the host's
#: own value and its square.
SHADOW = ("error", "square_error", "own", "square_own")
#: Distance of an input to its training range, by this and its name.
OUTSIDE = "outside"


def shadow_name(key: str, target: str) -> str:
    """Name of a score of shadow mode."""
    return f"shadow_{key}_{target}"


def dimensions(emulator: ColumnEmulator, shadow: Mapping[str, bool] | None = None) -> dict[str, tuple[str, ...]]:
    """Names and dimensions of everything that :func:`summarise` gives, and of shadow mode's scores.

    Args:
        emulator: what is asked.
        shadow: each target that is scored, and whether it has levels.
    """
    found: dict[str, tuple[str, ...]] = {}
    for counter in emulator.counters:
        found[counter.name] = ("column",)
        if counter.units != "1":
            found[f"{counter.name}_share"] = ("column",)
        if counter.levels:
            found[f"{counter.name}_levels"] = ("level",)
    for watched in emulator.watched:
        found[f"{OUTSIDE}_{watched.name}"] = ("level",) if watched.levels else ()
    for target, has_levels in (shadow or {}).items():
        found |= {shadow_name(key, target): ("level",) if has_levels else () for key in SHADOW}
    return found


def summarise(emulator: ColumnEmulator, counted: Any, distances: Any, area: Any, xp: Any) -> dict[str, Any]:
    """Diagnostics of one step: of each counter a map (column,), of those with levels also a profile (level,).

    ``NAME``: what it did in each column (a sum over levels; a mean where it is a share); ``NAME_share``: whether it
    acted there, 1 or 0; ``NAME_levels``: what it did on each level, mean over columns; ``outside_INPUT``: distance to
    the training range in training spreads, mean over columns.

    Args:
        emulator: whose.
        counted, distances: what :meth:`ColumnEmulator.monitored` gave, (column, numbers).
        area: of the columns, with sum 1.
        xp: numpy or jax.numpy, of which the arrays are.
    """
    found: dict[str, Any] = {}
    for counter, part in _parts(emulator.counters, counted):
        share = counter.units == "1"
        found[counter.name] = part.mean(1) if share else part.sum(1)
        if not share:
            found[f"{counter.name}_share"] = xp.where(part.max(1) > 0, 1.0, 0.0).astype(part.dtype)
        if counter.levels:
            found[f"{counter.name}_levels"] = area @ part
    for watched, part in _parts(emulator.watched, distances):
        means = area @ part
        found[f"{OUTSIDE}_{watched.name}"] = means if watched.levels else means[0]
    return found


def _parts(counters: Iterable[Counter], values: Any) -> Iterable[tuple[Counter, Any]]:
    place = 0
    for counter in counters:
        yield counter, values[:, place : place + counter.width]
        place += counter.width
