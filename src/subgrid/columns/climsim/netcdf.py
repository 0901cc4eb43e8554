"""One file of ClimSim: its variables as float64, checked for length, dimensions and sizes before they are used."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError
from subgrid.columns.climsim.classic import Layout, read_layout

#: Dimensions of a profile and of a scalar.
DIMENSIONS: tuple[tuple[str, ...], tuple[str, ...]] = (("lev", "ncol"), ("ncol",))

#: The NetCDF library is not safe to use from several threads, as a dask worker may have them.
LIBRARY = threading.Lock()


class BadFile(SubgridError):  # noqa: N818
    """A file that cannot be converted; ``file``, ``variable`` (may be empty) and ``reason`` say why."""

    def __init__(self, file: Path, variable: str, reason: str) -> None:
        where = f"{file}: '{variable}' " if variable else f"{file} "
        super().__init__(f"{where}{reason}")
        self.file, self.variable, self.reason = file, variable, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return BadFile, (self.file, self.variable, self.reason)


class Reader:
    """Reads the files of one grid; for one thread.

    Args:
        columns, levels: sizes that every file must have.
    """

    def __init__(self, columns: int, levels: int) -> None:
        self.columns, self.levels = columns, levels
        self._raw = np.empty(0, np.uint8)
        #: Layouts of classic files that were read. Those of one data set share their header.
        self._layouts: list[Layout] = []

    def read(
        self, path: Path, names: Iterable[str], into: dict[str, NDArray[np.float64]] | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """The variables ``names``: profiles (level, column) and scalars (column,), float64, fills as they are.

        Memory of its own for every step would cost more than the reading: arrays that ``into`` holds are written over
        and returned, new ones are put there.

        Raises:
            BadFile: it is absent, truncated or no NetCDF, lacks a variable, or has other dimensions or sizes.
        """
        names = list(names)
        try:
            with path.open("rb", buffering=0) as file:
                layout = self._layout(file)
                if layout is not None:
                    self._require_whole(path, file, layout)
                if layout is not None and not any(v.records for v in layout.variables.values()):
                    return self._read_classic(path, file, layout, names, {} if into is None else into)
        except FileNotFoundError as error:
            raise BadFile(path, "", "does not exist") from error
        except EOFError as error:
            raise BadFile(path, "", "is truncated (its header is cut)") from error
        except OSError as error:
            raise BadFile(path, "", f"cannot be read ({error})") from error
        with LIBRARY:
            return self._read_any(path, names)

    def _layout(self, file: FileIO) -> Layout | None:
        """The layout of the open file; None if it is no classic one."""
        for known in self._layouts:
            file.seek(0)
            if file.read(len(known.header)) == known.header:
                return known
        file.seek(0)
        found = read_layout(file)
        if found is not None:
            self._layouts = [found, *self._layouts[:3]]
        return found

    def _require_whole(self, path: Path, file: FileIO, layout: Layout) -> None:
        size = file.seek(0, 2)
        if size < layout.length:
            raise BadFile(path, "", f"is truncated ({size} of {layout.length} bytes)")

    def _read_classic(
        self, path: Path, file: FileIO, layout: Layout, names: list[str], into: dict[str, NDArray[np.float64]]
    ) -> dict[str, NDArray[np.float64]]:
        found = {}
        for name in names:
            if name not in layout.variables:
                raise BadFile(path, name, "is not in the file")
            held = layout.variables[name]
            self._require_shape(path, name, held)
            if self._raw.size < held.stored_bytes:
                self._raw = np.empty(held.stored_bytes, np.uint8)
            raw = self._raw[: held.stored_bytes]
            left = raw.data
            file.seek(held.begin)
            while left:  # a file on a network may give less at a time than is asked for
                read = file.readinto(left)
                if not read:
                    raise BadFile(path, name, "is truncated: it became shorter while it was read")
                left = left[read:]
            if name not in into:
                into[name] = np.empty(held.shape)
            into[name][...] = raw.view(held.dtype).reshape(held.shape)
            found[name] = into[name]
        return found

    def _read_any(self, path: Path, names: list[str]) -> dict[str, NDArray[np.float64]]:
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
