"""The column store: a Zarr v3 group of raw (sample, channel) arrays, one uncompressed file per shuffle block.

Layout::

    store.zarr/
      zarr.json                 attributes: format_version, grid, variables, time_step, provenance
      <split>/inputs            float32 (sample, channel): state and boundary conditions
      <split>/history           float32 (sample, channel): memory of the host (previous and dynamics tendencies)
      <split>/targets           float32 (sample, channel): total tendencies and fluxes
      <split>/terms             float32 (sample, channel), on request: tendencies of each physics term
      <split>/time, column, weight   1-D; weight = area / sampling probability
      <split>/<array>_{mean,std,min,max}   float64 (channel)
      control/ ...              the host's own climate, written by the host

xarray opens each split as it is. A chunk file is one block of ``block`` samples, read with one ``readinto``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError
from subgrid.base.formats import STORE, mark, require_format
from subgrid.base.places import Place
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.variables import Variable, offsets

Folder = TypeVar("Folder", bound=Place)
BLOCK = 16384
#: 1-D arrays that every split carries beside its (sample, channel) arrays.
MARKS: dict[str, np.dtype[Any]] = {
    "time": np.dtype("<i8"),
    "column": np.dtype("<i4"),
    "weight": np.dtype("<f4"),
}
TIME_UNITS = "seconds since 1970-01-01"
CALENDAR = "proleptic_gregorian"
#: Calendars that a store may have: of hosts, and of ClimSim.
CALENDARS = (CALENDAR, "noleap")


@dataclass(frozen=True)
class StoreSpec:
    """What a store holds, fixed when it is begun.

    Args:
        grid: the columns' grid.
        arrays: variables of each (sample, channel) array, by array name.
        time_step: the host's step, s.
        host: name of the model that the columns come from.
        provenance: how the store was made (JSON-able).
        block: samples per chunk file.
        calendar: of the times, by its CF name.
    """

    grid: ColumnGrid
    arrays: Mapping[str, tuple[Variable, ...]]
    time_step: float
    host: str
    provenance: Mapping[str, Any]
    block: int = BLOCK
    calendar: str = CALENDAR

    def widths(self) -> dict[str, int]:
        """Number of channels of each (sample, channel) array."""
        return {name: sum(v.width(self.grid.levels) for v in group) for name, group in self.arrays.items()}

    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """Type of every array of a split."""
        return {**{name: np.dtype("<f4") for name in self.arrays}, **MARKS}

    def attributes(self) -> dict[str, Any]:
        """The root attributes of the Zarr group."""
        return {
            **mark(STORE),
            "host": self.host,
            "time_step": self.time_step,
            "block": self.block,
            "calendar": self.calendar,
            "grid": self.grid.to_dict(),
            "arrays": {name: [v.to_dict() for v in variables] for name, variables in self.arrays.items()},
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any], path: Place) -> StoreSpec:
        """Read back :meth:`attributes`, refusing what is not a store or of another format."""
        require_format(attributes, STORE, path)
        try:
            block, time_step = int(attributes["block"]), float(attributes["time_step"])
            if block < 1:
                raise ValueError(f"block is {block}")
            if not 0.0 < time_step < float("inf"):
                raise ValueError(f"time_step is {time_step}")
            strange = [name for name in attributes["arrays"] if not str(name).isidentifier()]
            if strange:
                raise ValueError(f"array name {strange[0]!r}")
            calendar = str(attributes.get("calendar", CALENDAR))
            if calendar not in CALENDARS:
                raise ValueError(f"calendar {calendar!r}")
            return cls(
                grid=ColumnGrid.from_dict(attributes["grid"]),
                arrays={
                    str(name): tuple(Variable.from_dict(v) for v in variables)
                    for name, variables in attributes["arrays"].items()
                },
                time_step=time_step,
                host=str(attributes["host"]),
                provenance=dict(attributes["provenance"]),
                block=block,
                calendar=calendar,
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, SubgridError) as error:
            raise SubgridError(f"{path}: damaged store description ({error!r}); make the store again") from error


def chunk_file(folder: Folder, array: str, block: int, dimensions: int) -> Folder:
    """The file of one block of an array of the split ``folder``; ``dimensions`` is 1 for a mark, else 2."""
    return cast(Folder, folder / chunk_name(array, block, dimensions))


def chunk_name(array: str, block: int, dimensions: int) -> str:
    return f"{array}/c/{block}/0" if dimensions == 2 else f"{array}/c/{block}"


def require_finite(
    values: NDArray[Any], variables: Iterable[Variable], levels: int, where: str, origin: str = ""
) -> None:
    """Raise :class:`SubgridError` that counts NaN and infinities per variable, if there are any."""
    # Both are NaN if anything is; far cheaper than looking at every value.
    if not values.size or (np.isfinite(values.min()) and np.isfinite(values.max())):
        return
    bad = ~np.isfinite(values)
    found = [
        f"{name} ({int(bad[:, part].sum())} of {bad[:, part].size})"
        for name, part in offsets(variables, levels).items()
        if bad[:, part].any()
    ]
    if found:
        raise SubgridError(f"NaN or infinity in {where}{origin}: {', '.join(found)}")
