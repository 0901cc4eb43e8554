"""ClimSim's grid file (``*grid-info.nc``, CDF-5 as published): the columns' places and the hybrid levels."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError
from subgrid.columns.grid import ColumnGrid
from subgrid.physics.vertical import VerticalGrid

_NEEDED = {
    "lat": ("ncol",),
    "lon": ("ncol",),
    "area": ("ncol",),
    "hyam": ("lev",),
    "hybm": ("lev",),
    "hyai": ("ilev",),
    "hybi": ("ilev",),
    "P0": (),
}


def read_grid(path: Path | str) -> ColumnGrid:
    """The grid that a ClimSim grid file describes, any number of columns and levels.

    Args:
        path: a netCDF file (classic, CDF-5 or NetCDF-4) with ``lat``, ``lon`` (degrees) and ``area`` (sr) over
            ``ncol``, ``hyam``, ``hybm`` over ``lev``, ``hyai``, ``hybi`` over ``ilev``, and the scalar ``P0`` (Pa).

    Raises:
        SubgridError: no such file, not netCDF, a variable is absent or has other dimensions, or holds no sane grid.
    """
    path = Path(path)
    if not path.is_file():
        raise SubgridError(f"{path} does not exist: give ClimSim's grid file, such as ClimSim_low-res_grid-info.nc")
    try:
        with netCDF4.Dataset(path) as file:
            file.set_auto_mask(False)
            values = {name: _read(file, name, path) for name in _NEEDED}
    except (OSError, RuntimeError) as error:
        raise SubgridError(f"{path} cannot be read as netCDF ({error}); fetch it again") from error
    try:
        vertical = VerticalGrid.hybrid(
            hyai=values["hyai"].tolist(),
            hybi=values["hybi"].tolist(),
            hyam=values["hyam"].tolist(),
            hybm=values["hybm"].tolist(),
            p0=float(values["P0"]),
        )
        return ColumnGrid(values["lat"], values["lon"], values["area"], vertical)
    except SubgridError as error:
        raise SubgridError(f"{path}: {error}") from error


def _read(file: netCDF4.Dataset, name: str, path: Path) -> NDArray[np.float64]:
    """One variable, float64, with its dimensions checked (a leading ``time`` of length 1 is taken away)."""
    if name not in file.variables:
        raise SubgridError(f"{path} has no variable '{name}': it is not a ClimSim grid file")
    variable = file.variables[name]
    values = np.asarray(variable[...], np.float64)
    dimensions = tuple(variable.dimensions)
    if dimensions[:1] == ("time",) and values.shape[0] == 1:
        values, dimensions = values[0], dimensions[1:]
    if dimensions != _NEEDED[name]:
        raise SubgridError(f"{path}: '{name}' has dimensions {variable.dimensions}, expected {_NEEDED[name]}")
    if not np.isfinite(values).all():
        raise SubgridError(f"{path}: '{name}' holds NaN or infinity")
    return values
