"""Classic NetCDF files (CDF-1, CDF-2, CDF-5): where each variable lies, and how long a whole file is.

The library reads zeros beyond the end of a cut file, without a word. And values whose place is known are read at the
speed of the disk, at a third of the cost of asking the library for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

#: Types of values by their number in a file; all are big-endian.
_TYPES = {
    **{1: ">i1", 2: "S1", 3: ">i2", 4: ">i4", 5: ">f4", 6: ">f8", 7: ">u1", 8: ">u2", 9: ">u4"},
    **{10: ">i8", 11: ">u8"},
}
_VERSIONS = (1, 2, 5)
#: Bytes that are read at first to look for the header in; it is parsed again with more where it is longer.
_FIRST_READ = 65536


@dataclass(frozen=True)
class ClassicVariable:
    """A variable: names and lengths of its dimensions, type, byte at which it begins, and whether it has records."""

    dimensions: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    begin: int
    records: bool

    @property
    def stored_bytes(self) -> int:
        """Of all values, or of one record."""
        return self.dtype.itemsize * math.prod(self.shape[1:] if self.records else self.shape)


@dataclass(frozen=True)
class Layout:
    """What the header of a file says.

    Args:
        header: the bytes of the header: another file that begins with them has the same layout.
        variables: by name.
        length: bytes up to the end of the last value.
    """

    header: bytes
    variables: dict[str, ClassicVariable]
    length: int


class _Header:
    """Reads the parts of a header in their order (NetCDF classic format specification, and CDF-5 of PnetCDF)."""

    def __init__(self, held: bytes, version: int) -> None:
        self.held, self.place = held, 4
        self.count_bytes = 8 if version == 5 else 4
        self.offset_bytes = 4 if version == 1 else 8

    def take(self, size: int) -> bytes:
        if size < 0 or self.place + size > len(self.held):
            raise EOFError
        self.place += size
        return self.held[self.place - size : self.place]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big", signed=True)

    def count(self) -> int:
        return self.number(self.count_bytes)

    def padded(self, size: int) -> bytes:
        """``size`` bytes, and on to the next multiple of four."""
        return self.take(-(-size // 4) * 4)[:size]

    def name(self) -> str:
        return self.padded(self.count()).decode()

    def entries(self) -> int:
        """How many entries the list that begins here has."""
        self.number(4)
        return self.count()

    def dtype(self) -> np.dtype[np.generic]:
        return np.dtype(_TYPES[self.number(4)])

    def skip_attributes(self) -> None:
        for _ in range(self.entries()):
            self.name()
            width = self.dtype().itemsize
            self.padded(self.count() * width)

    def variable(self, dimensions: list[tuple[str, int]], records: int) -> tuple[str, ClassicVariable]:
        name = self.name()
        own = [dimensions[self.count()] for _ in range(self.count())]
        self.skip_attributes()
        dtype = self.dtype()
        self.count()  # its padded size, which overflows for a large variable
        begin = self.number(self.offset_bytes)
        repeated = bool(own) and own[0][1] == 0
        shape = tuple(records if repeated and i == 0 else length for i, (_, length) in enumerate(own))
        return name, ClassicVariable(tuple(name for name, _ in own), shape, dtype, begin, repeated)


def read_layout(file: BinaryIO) -> Layout | None:
    """The layout of a classic NetCDF file, open at its start; None for a file of another format.

    Raises:
        EOFError: the header itself is cut, or is none.
    """
    held = file.read(_FIRST_READ)
    if held[:3] != b"CDF" or held[3:4] not in [bytes([version]) for version in _VERSIONS]:
        return None
    while True:
        try:
            return _parsed(held)
        except EOFError:
            more = file.read(len(held))
            if not more:
                raise
            held += more
        except (KeyError, IndexError, UnicodeDecodeError) as error:
            raise EOFError from error


def _parsed(held: bytes) -> Layout:
    header = _Header(held, held[3])
    records = max(header.count(), 0)
    dimensions = [(header.name(), header.count()) for _ in range(header.entries())]
    header.skip_attributes()
    variables = dict(header.variable(dimensions, records) for _ in range(header.entries()))
    record_bytes = sum(-(-v.stored_bytes // 4) * 4 for v in variables.values() if v.records)
    ends = [v.begin + v.stored_bytes for v in variables.values() if not v.records]
    if records:
        ends += [v.begin + (records - 1) * record_bytes + v.stored_bytes for v in variables.values() if v.records]
    return Layout(held[: header.place], variables, max(ends, default=0))
