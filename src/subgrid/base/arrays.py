"""Named arrays on disk: safetensors with a checksum, written beside and renamed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from subgrid.base.errors import SubgridError
from subgrid.base.files import write_file

_CHECKSUM = "crc32"


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays to ``path`` (safetensors) atomically, with a checksum that :func:`read_arrays` compares."""
    ready = {name: np.array(values, order="C") for name, values in arrays.items()}
    write_file(path, lambda beside: save_file(ready, beside, metadata={_CHECKSUM: _checksum(ready)}))


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays that :func:`write_arrays` wrote.

    Raises:
        SubgridError: the file is absent, damaged or altered; the caller's words say what to do.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            held = (file.metadata() or {}).get(_CHECKSUM)
    except FileNotFoundError as error:
        raise SubgridError(f"{path} does not exist") from error
    except (SafetensorError, OSError) as error:
        raise SubgridError(f"{path} is damaged ({error})") from error
    if held is not None and held != _checksum(arrays):
        raise SubgridError(f"{path} is damaged (its checksum differs)")
    return arrays


def _checksum(arrays: Mapping[str, NDArray[Any]]) -> str:
    """CRC-32 of the bytes of all arrays in the order of their names."""
    found = 0
    for name in sorted(arrays):
        found = zlib.crc32(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data, found)
    return f"{found:08x}"
