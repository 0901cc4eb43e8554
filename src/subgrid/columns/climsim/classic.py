"""How long a classic NetCDF file (CDF-1, CDF-2, CDF-5) must be: the library reads zeros beyond the end of a cut one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import BinaryIO

#: Bytes of a value, by the type's number in a file.
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
_VERSIONS = (1, 2, 5)


class _Header:
    """Reads the parts of a header in their order (NetCDF classic format specification, and CDF-5 of PnetCDF)."""

    def __init__(self, file: BinaryIO, version: int) -> None:
        self.file = file
        self.count_bytes = 8 if version == 5 else 4
        self.offset_bytes = 4 if version == 1 else 8

    def number(self, size: int) -> int:
        held = self.file.read(size)
        if len(held) < size:
            raise EOFError
        return int.from_bytes(held, "big", signed=True)

    def count(self) -> int:
        return self.number(self.count_bytes)

    def skip(self, size: int) -> None:
        """Past ``size`` bytes and the padding to the next multiple of four."""
        self.file.seek(-(-size // 4) * 4, 1)

    def entries(self) -> int:
        """How many entries the list that begins here has."""
        self.number(4)
        return self.count()

    def skip_attributes(self) -> None:
        for _ in range(self.entries()):
            self.skip(self.count())
            width = _TYPE_BYTES[self.number(4)]
            self.skip(self.count() * width)

    def dimensions(self) -> list[int]:
        found = []
        for _ in range(self.entries()):
            self.skip(self.count())
            found.append(self.count())
        return found

    def variable(self, lengths: list[int]) -> tuple[int, int, bool]:
        """Where the next variable begins, its bytes (of one record), and whether it has records."""
        self.skip(self.count())
        shape = [lengths[self.count()] for _ in range(self.count())]
        self.skip_attributes()
        width = _TYPE_BYTES[self.number(4)]
        self.count()  # its padded size, which overflows for a large variable
        begin = self.number(self.offset_bytes)
        records = bool(shape) and shape[0] == 0
        return begin, width * math.prod(shape[1:] if records else shape), records


def classic_length(path: Path) -> int | None:
    """Bytes up to the end of the last value of a classic NetCDF file; None for a file of another format.

    Raises:
        EOFError: the header itself is cut, or is none.
    """
    with path.open("rb") as file:
        magic = file.read(4)
        if magic[:3] != b"CDF" or magic[3] not in _VERSIONS:
            return None
        header = _Header(file, magic[3])
        try:
            records = max(header.count(), 0)
            lengths = header.dimensions()
            header.skip_attributes()
            variables = [header.variable(lengths) for _ in range(header.entries())]
        except (KeyError, IndexError, OSError) as error:
            raise EOFError from error
    record_bytes = sum(-(-size // 4) * 4 for _, size, repeated in variables if repeated)
    ends = [begin + size for begin, size, repeated in variables if not repeated]
    if records:
        ends += [begin + (records - 1) * record_bytes + size for begin, size, repeated in variables if repeated]
    return max(ends, default=0)
