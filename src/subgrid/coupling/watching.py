"""What a coupled run wrote of its emulator: which input left the training range first, and its skill as a shadow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr

from subgrid.columns.grid import ColumnGrid
from subgrid.columns.variables import Variable
from subgrid.coupling.compare import budgets
from subgrid.hosts.diagnostics import OUTSIDE, SHADOW, shadow_name
from subgrid.physics.column import layer_mass
from subgrid.physics.constants import SPEEDY

#: An input has left its training range where its distance to it, mean over the globe and a day, is more than this many
#: training spreads.
LEFT = 1e-3
#: A target that varies less than this share of its mean square has no R2.
VARIES = 1e-10
#: Surface pressure of the mean column, Pa.
SURFACE_PRESSURE = 98500.0
#: Column integrals of a budget: name, tendency, factor.
COLUMNS = (
    ("column_heating", "temperature_tendency", SPEEDY.cp),
    ("column_moistening", "specific_humidity_tendency", 1.0),
)


def left_training(run: xr.Dataset, beyond: float = LEFT) -> list[dict[str, Any]]:
    """Inputs that left their training range, the first of them first.

    Args:
        run: daily means with the distances ``outside_<input>``, (time, level) or (time,), in training spreads.
        beyond: distance from which on an input has left.

    Returns:
        ``input``, ``level`` (None: it has none), ``day`` on which it left, and the largest ``distance``.
    """
    found = []
    for name in run:
        if not str(name).startswith(f"{OUTSIDE}_"):
            continue
        values = np.asarray(run[name].values, np.float64)
        levels = values.shape[1:] != ()
        for level, series in enumerate(values.T if levels else values[None]):
            left = np.flatnonzero(series > beyond)
            if left.size:
                place = level if levels else None
                largest = float(np.nanmax(series))
                told = str(name).removeprefix(f"{OUTSIDE}_")
                found.append({"input": told, "level": place, "day": int(left[0]), "distance": largest})
    return sorted(found, key=lambda one: (one["day"], -one["distance"]))


def shadow_skill(run: xr.Dataset, targets: Iterable[Variable]) -> dict[str, dict[str, Any]]:
    """Skill of an emulator along its host's own trajectory, over all days and columns.

    ``R2 = 1 - <e^2> / (<y^2> - <y>^2)`` with the error e and the host's value y; pooled over levels as sums of both.

    Args:
        run: daily means with what shadow mode keeps.
        targets: of the host.

    Returns:
        By target: ``r2``, ``bias``, and ``r2_by_level`` (None without levels or where nothing varies).
    """
    found = {}
    for target in targets:
        sums = {key: np.asarray(run[shadow_name(key, target.name)].mean("time").values, np.float64) for key in SHADOW}
        spread = sums["square_own"] - sums["own"] ** 2
        spread = np.where(spread > VARIES * sums["square_own"], spread, 0.0)
        error = np.where(spread > 0, sums["square_error"], 0.0)
        found[target.name] = {
            "r2": _r2(error.sum(), spread.sum()),
            "bias": float(sums["error"].mean()),
            "r2_by_level": [_r2(e, s) for e, s in zip(error, spread, strict=True)] if spread.ndim else None,
        }
    return found


def shadow_budgets(run: xr.Dataset, grid: ColumnGrid) -> dict[str, float]:
    """What an emulator would create of energy and of water along its host's own trajectory beyond what the host does.

    Of the global mean errors, with layers as they are above :data:`SURFACE_PRESSURE`; empty where the host has not all
    terms of :func:`subgrid.coupling.compare.budgets`.

    Args:
        run: daily means with what shadow mode keeps.
        grid: of the columns.

    Returns:
        ``energy_residual`` and ``water_residual``, W/m2.
    """
    mass = np.asarray(layer_mass(grid.vertical.layer_thickness(np.asarray([SURFACE_PRESSURE]))[0], SPEEDY.gravity))
    prefix = shadow_name("error", "")
    errors = {str(name).removeprefix(prefix): run[name] for name in run if str(name).startswith(prefix)}
    for name, tendency, factor in COLUMNS:
        if tendency in errors:
            errors[name] = factor * (errors[tendency] * mass).sum("level")
    flat = {name: value.expand_dims(column=grid.columns, axis=-1) for name, value in errors.items() if value.ndim == 1}
    return {name: float(series.mean()) for name, series in budgets(xr.Dataset(flat), grid).items()}


def _r2(error: float, spread: float) -> float | None:
    return float(1.0 - error / spread) if spread > 0 else None
