"""One file of ClimSim: its variables as float64, checked for length, dimensions and sizes before they are used."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError
from subgrid.columns.climsim.classic import classic_length

#: Dimensions of a profile and of a scalar.
DIMENSIONS: tuple[tuple[str, ...], tuple[str, ...]] = (("lev", "ncol"), ("ncol",))

#: The NetCDF library is not safe to use from several threads, as a dask worker may have them.
_LIBRARY = threading.Lock()


class BadFile(SubgridError):  # noqa: N818
    """A file that cannot be converted; ``file``, ``variable`` (may be empty) and ``reason`` say why."""

    def __init__(self, file: Path, variable: str, reason: str) -> None:
        where = f"{file}: '{variable}' " if variable else f"{file} "
        super().__init__(f"{where}{reason}")
        self.file, self.variable, self.reason = file, variable, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return BadFile, (self.file, self.variable, self.reason)


class Reader:
    """Reads the files of one grid.

    Args:
        columns, levels: sizes that every file must have.
    """

    def __init__(self, columns: int, levels: int) -> None:
        self.columns, self.levels = columns, levels
        #: Lengths of whole classic files. Those of one data set share their header, and so their length.
        self._whole: set[int] = set()

    def read(self, path: Path, names: Iterable[str]) -> dict[str, NDArray[np.float64]]:
        """The variables ``names``: profiles (level, column) and scalars (column,), float64, fills as they are.

        Raises:
            BadFile: it is absent, truncated or no NetCDF, lacks a variable, or has other dimensions or sizes.
        """
        self._require_whole(path)
        with _LIBRARY:
            return self._read(path, names)

    def _read(self, path: Path, names: Iterable[str]) -> dict[str, NDArray[np.float64]]:
        import netCDF4

        try:
            file = netCDF4.Dataset(path)
        except (OSError, RuntimeError) as error:
            raise BadFile(path, "", f"cannot be read ({error})") from error
        with file:
            file.set_auto_maskandscale(False)
            held = file.variables
            found = {}
            for name in names:
                if name not in held:
                    raise BadFile(path, name, "is not in the file")
                self._require_shape(path, name, held[name])
                try:
                    found[name] = np.asarray(held[name][...], np.float64)
                except (OSError, RuntimeError) as error:
                    raise BadFile(path, name, f"cannot be read ({error})") from error
        return found

    def _require_whole(self, path: Path) -> None:
        try:
            size = path.stat().st_size
            if size in self._whole:
                return
            expected = classic_length(path)
        except FileNotFoundError as error:
            raise BadFile(path, "", "does not exist") from error
        except EOFError as error:
            raise BadFile(path, "", "is truncated (its header is cut)") from error
        except OSError as error:
            raise BadFile(path, "", f"cannot be read ({error})") from error
        if expected is None:
            return
        if size < expected:
            raise BadFile(path, "", f"is truncated ({size} of {expected} bytes)")
        self._whole.add(size)

    def _require_shape(self, path: Path, name: str, variable: Any) -> None:
        dimensions = variable.dimensions
        if dimensions not in DIMENSIONS:
            turned = " (the other way round)" if dimensions == DIMENSIONS[0][::-1] else ""
            raise BadFile(path, name, f"has dimensions {dimensions}{turned}, not ('lev', 'ncol') or ('ncol',)")
        for dimension, size, wanted in zip(
            dimensions, variable.shape, (self.levels, self.columns)[-len(dimensions) :], strict=True
        ):
            if size != wanted:
                raise BadFile(path, name, f"has {size} {dimension}, but the grid file has {wanted}: a mixed grid")
