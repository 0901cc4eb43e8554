"""Test vectors of a bundle: columns, and what the model answers, as raw float32 that a Fortran program reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.files import make_folder, write_file, write_text

INDEX, SPREAD = "vectors.txt", "spread.bin"
#: Intra-op threads with which the answers are made: products are summed in another order on another number.
THREADS = 1
#: Blocks of channels that are set to the ends of the training range in turn, halved each time.
HALVINGS = 6
Values = NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """Columns of one call and their answers.

    Args:
        name: of the case and of its files.
        x: (ncol, n_in) float32, raw SI.
        y: (ncol, n_out) float32, raw SI.
    """

    name: str
    x: Values
    y: Values


@dataclass(frozen=True)
class Vectors:
    """What :func:`write_vectors` wrote.

    Args:
        threads: intra-op threads with which the answers were made.
        spread: (n_out,) float32, spread of each output; 0 for one that must be equal.
        cases: the calls.
    """

    threads: int
    spread: Values
    cases: tuple[Case, ...]


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` intra-op threads, and as many as before at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_vectors(
    folder: Path,
    module: torch.jit.ScriptModule,
    columns: NDArray[np.float32],
    low: NDArray[Any],
    high: NDArray[Any],
    spread: NDArray[Any],
    pcols: int = 16,
) -> list[dict[str, Any]]:
    """Write ``NAME.x.bin`` and ``NAME.y.bin`` of each case, ``spread.bin`` and, last, ``vectors.txt`` to ``folder``.

    Numbers are little-endian float32; (ncol, n) in C order is (n, ncol) in Fortran's. ``vectors.txt`` begins with the
    number of cases, n_in, n_out and the intra-op threads, and has a line ``NAME NCOL`` for each case.

    Args:
        folder: made if it is not there.
        module: ``(ncol, n_in) float32 -> (ncol, n_out) float32``, raw SI, as it will be loaded.
        columns: (n, n_in) float32, raw SI, such as a whole grid.
        low, high: (n_in,) ends of the training range, raw SI.
        spread: (n_out,) spread of each output in the training data; an output with 0 must be equal.
        pcols: columns of a host's chunk.

    Returns:
        ``name`` and ``columns`` of each case.

    Raises:
        UsageError: arguments that do not fit together.
        SubgridError: the model's answer to a case is not finite, or not the same again, or not zero for a row of
            zeros; the case is named.
    """
    _require(columns, low, high, spread, pcols)
    cases = []
    with torch_threads(THREADS):
        for name, x in _inputs(columns, low, high, pcols).items():
            cases.append(Case(name, x, _checked_answer(name, module, x, len(spread))))
    make_folder(folder)
    (folder / INDEX).unlink(missing_ok=True)  # written last, it says that the others belong together
    _write_array(folder / SPREAD, np.asarray(spread))
    for case in cases:
        _write_array(folder / f"{case.name}.x.bin", case.x)
        _write_array(folder / f"{case.name}.y.bin", case.y)
    lines = [f"{len(cases)} {columns.shape[1]} {len(spread)} {THREADS}"]
    lines += [f"{case.name} {len(case.x)}" for case in cases]
    write_text(folder / INDEX, "\n".join(lines) + "\n")
    return [{"name": case.name, "columns": len(case.x)} for case in cases]


def read_vectors(folder: Path) -> Vectors:
    """What :func:`write_vectors` wrote to ``folder``.

    Raises:
        SubgridError: a file is absent, or not of the size that ``vectors.txt`` says.
    """
    path = folder / INDEX
    try:
        first, *rest = path.read_text(encoding="utf-8").splitlines()
        count, n_in, n_out, threads = (int(word) for word in first.split())
        listed = [(name, int(rows)) for name, rows in (line.split() for line in rest)]
    except FileNotFoundError as error:
        raise SubgridError(f"{path} does not exist: {folder} holds no test vectors") from error
    except ValueError as error:
        raise SubgridError(f"{path} is damaged ({error}): export the bundle again") from error
    if len(listed) != count or threads < 1:
        raise SubgridError(f"{path} is damaged ({len(listed)} cases of {count}): export the bundle again")
    cases = tuple(
        Case(
            name,
            _read_array(folder / f"{name}.x.bin", (rows, n_in)),
            _read_array(folder / f"{name}.y.bin", (rows, n_out)),
        )
        for name, rows in listed
    )
    return Vectors(threads, _read_array(folder / SPREAD, (n_out,)), cases)


def run_vectors(module: torch.jit.ScriptModule, folder: Path) -> list[dict[str, Any]]:
    """Call ``module`` on every case of ``folder``, with the threads with which it was made.

    Returns:
        ``name``, ``columns`` and ``max_relative_difference`` of each case: max |difference| / spread, infinite where an
        answer is not finite, or where an output without spread differs at all.

    Raises:
        SubgridError: the vectors are absent or damaged, or the model refuses a case.
    """
    vectors = read_vectors(folder)
    found = []
    with torch_threads(vectors.threads):
        for case in vectors.cases:
            y = _answer(case.name, module, case.x)
            difference = largest_difference(y, case.y, vectors.spread) if y.shape == case.y.shape else float("inf")
            found.append({"name": case.name, "columns": len(case.x), "max_relative_difference": difference})
    return found


def largest_difference(found: Values, expected: Values, spread: NDArray[Any]) -> float:
    """max |found - expected| / spread over columns and channels, (n, channel) both; see :func:`run_vectors`."""
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    gap = np.abs(found.astype(np.float64) - expected).max(axis=0, initial=0.0)
    varies = spread > 0
    if gap[~varies].any():
        return float("inf")
    return float((gap[varies] / spread[varies]).max(initial=0.0))


def _inputs(columns: Values, low: NDArray[Any], high: NDArray[Any], pcols: int) -> dict[str, Values]:
    """The columns of each case by name."""
    n_in = columns.shape[1]
    chunk = _some(columns, pcols)
    padded = chunk.copy()
    padded[pcols - max(1, pcols // 4) :] = 0.0  # as hosts fill the last chunk of a grid
    return {
        "one": _some(columns, 1),
        "sixteen": _some(columns, 16),
        "pcols": chunk,
        "grid": np.ascontiguousarray(columns),
        "padded": padded,
        "zeros": np.zeros((pcols, n_in), np.float32),
        "extreme": _corners(low, high),
    }


def _some(columns: Values, count: int) -> Values:
    """The first ``count`` columns, repeated where there are fewer."""
    return np.take(columns, np.arange(count), axis=0, mode="wrap")


def _corners(low: NDArray[Any], high: NDArray[Any]) -> Values:
    """Corners of the training range, (16, n_in): at one end all channels, every other one, halves, quarters..."""
    n_in = len(low)
    channel = np.arange(n_in)
    patterns = [np.zeros(n_in, bool), channel % 2 == 0]
    patterns += [(channel * 2**k // n_in) % 2 == 0 for k in range(1, HALVINGS + 1)]
    ends = [np.where(chosen, a, b) for chosen in patterns for a, b in ((high, low), (low, high))]
    return np.stack(ends).astype(np.float32)


def _answer(name: str, module: torch.jit.ScriptModule, x: Values) -> Values:
    """What ``module`` answers to ``x``, (ncol, n_out)."""
    try:
        with torch.inference_mode():
            y: Values = module(torch.from_numpy(x)).numpy()
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise SubgridError(f"test vectors: the model refuses the case '{name}': {reason}") from error
    return y


def _checked_answer(name: str, module: torch.jit.ScriptModule, x: Values, n_out: int) -> Values:
    """The same, as a host needs it: finite, the same again, zero for rows of zeros."""
    y, again = _answer(name, module, x).copy(), _answer(name, module, x)
    if y.shape != (len(x), n_out):
        raise SubgridError(f"test vectors: for the case '{name}' the model gives {y.shape}, not {(len(x), n_out)}")
    if not np.isfinite(y).all():
        raise SubgridError(f"test vectors: the model's answer to the case '{name}' is not finite")
    if not np.array_equal(y, again):
        raise SubgridError(f"test vectors: the model answers the case '{name}' otherwise when it is asked again")
    if y[~x.any(axis=1)].any():
        raise SubgridError(
            f"test vectors: the model answers rows of zeros of the case '{name}', with which hosts fill chunks, with "
            "other numbers than zero"
        )
    return y


def _require(columns: Values, low: NDArray[Any], high: NDArray[Any], spread: NDArray[Any], pcols: int) -> None:
    if pcols < 1:
        raise UsageError(f"pcols={pcols} must be positive")
    if columns.ndim != 2 or not len(columns) or columns.dtype != np.float32:
        raise UsageError(f"test vectors need (n, n_in) float32 columns, not {columns.shape} {columns.dtype}")
    if low.shape != columns.shape[1:] or high.shape != columns.shape[1:] or spread.ndim != 1:
        raise UsageError(f"test vectors: low {low.shape} and high {high.shape} are not of {columns.shape[1]} inputs")
    for what, values in (("columns", columns), ("range of inputs", low), ("range of inputs", high), ("spread", spread)):
        if not np.isfinite(values).all():
            raise SubgridError(f"test vectors: the {what} are not finite")


def _write_array(path: Path, values: NDArray[Any]) -> None:
    """Raw little-endian float32 in C order."""
    data = np.ascontiguousarray(values, "<f4").tobytes()
    write_file(path, lambda beside: beside.write_bytes(data))


def _read_array(path: Path, shape: tuple[int, ...]) -> Values:
    try:
        values = np.fromfile(path, "<f4")
    except FileNotFoundError as error:
        raise SubgridError(f"{path} does not exist: export the bundle again") from error
    if values.size != np.prod(shape):
        raise SubgridError(f"{path} holds {values.size} numbers, not {'x'.join(map(str, shape))}: export it again")
    return values.reshape(shape).astype(np.float32, copy=False)
