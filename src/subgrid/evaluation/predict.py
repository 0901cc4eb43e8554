"""Prediction: flat raw columns to flat outputs, or an xarray dataset of columns to one of tendencies and fluxes."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from subgrid.base.errors import UsageError
from subgrid.columns.variables import offsets
from subgrid.emulator.base import ColumnEmulator
from subgrid.emulator.flat import FlatEmulator
from subgrid.evaluation.floors import Predictor


def emulator_predictor(emulator: ColumnEmulator) -> Predictor:
    """The emulator on flat raw columns, (n, n_in) to (n, n_out) float64."""
    flat = FlatEmulator(emulator).eval()

    def predict(x: NDArray[np.float32]) -> NDArray[np.float64]:
        with torch.inference_mode():
            return flat(torch.from_numpy(x))[0].double().numpy()

    return predict


def predict(emulator: ColumnEmulator, columns: xr.Dataset) -> xr.Dataset:
    """Tendencies and fluxes of ``columns``.

    Args:
        emulator: from ``subgrid.load``.
        columns: one variable per input of the emulator, raw SI: profiles with dimensions (..., ``level``), scalars
            without ``level``; all other dimensions shared, any number and order.

    Returns:
        One variable per target over the same dimensions, with units.

    Raises:
        UsageError: a variable is missing, the number of levels differs, or ``level`` is where it should not be.
    """
    inputs = emulator.variables.inputs
    missing = [v.name for v in inputs if v.name not in columns]
    if missing:
        raise UsageError(f"predict: the dataset lacks {', '.join(missing)}")
    levels = emulator.levels
    if columns.sizes.get("level", levels) != levels:
        raise UsageError(f"predict: the dataset has {columns.sizes['level']} levels, the emulator {levels}")
    for variable in inputs:
        if ("level" in columns[variable.name].dims) != (variable.kind == "profile"):
            raise UsageError(
                f"predict: '{variable.name}' has dimensions {columns[variable.name].dims}, but is a {variable.kind}: "
                "profiles have the dimension 'level', scalars have not"
            )
    outer = [d for d in columns.dims if d != "level" and any(d in columns[v.name].dims for v in inputs)]
    shape = tuple(columns.sizes[d] for d in outer)
    like = xr.DataArray(np.zeros(shape, np.float32), dims=outer)
    parts = []
    for variable in inputs:
        field = columns[variable.name].astype(np.float32).broadcast_like(like)
        order = [*outer, "level"] if variable.kind == "profile" else outer
        width = variable.width(levels)
        parts.append(field.transpose(*order).values.reshape(-1, width))
    x = np.ascontiguousarray(np.concatenate(parts, axis=1))
    with torch.inference_mode():
        y = FlatEmulator(emulator).eval()(torch.from_numpy(x))[0].numpy()
    found = {}
    for variable in emulator.variables.targets:
        values = y[:, offsets(emulator.variables.targets, levels)[variable.name]]
        dims = [*outer, "level"] if variable.kind == "profile" else outer
        values = values.reshape(*shape, levels) if variable.kind == "profile" else values.reshape(shape)
        found[variable.name] = (dims, values, {"units": variable.units, "long_name": variable.long_name})
    coords = {name: c for name, c in columns.coords.items() if set(c.dims) <= {*outer, "level"}}
    return xr.Dataset(found, coords=coords)
