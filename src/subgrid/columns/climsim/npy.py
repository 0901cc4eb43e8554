"""ClimSim's npy form (v1, normalised float32) to a column store of physical values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.provenance import provenance
from subgrid.columns.climsim.convert import CALENDAR
from subgrid.columns.climsim.files import SPLITS, PublishedSplit
from subgrid.columns.climsim.grid import read_grid
from subgrid.columns.climsim.names import STEP, epoch
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.layout import BLOCK, StoreSpec
from subgrid.columns.normalisation import PLACES, PLAIN, PublishedNormalisation, read_normalisation
from subgrid.columns.store import ColumnStore
from subgrid.columns.stream import Piece, marks, write_stream
from subgrid.columns.variables import Variable, variable_set

#: Splits that are published in this form, and the two files of each.
NPY_SPLITS = ("train", "val", "scoring")
INPUT, TARGET = "input", "target"
#: About how many rows are worked on at a time.
ROWS = 8192
#: What the counts in the provenance are called.
REPLACED = "input_nan_or_infinity_as_mean"


@dataclass(frozen=True)
class NpyConfig:
    """A conversion of the npy form.

    Args:
        folder: holds ``{train,val,scoring}_{input,target}.npy``, one split or more.
        grid: ClimSim's grid file.
        normalization: folder of the published ``input_{mean,max,min}.nc`` and ``output_scale.nc``, itself or in
            ``inputs`` and ``outputs``.
        rows: of a block.
    """

    folder: str
    grid: str
    normalization: str
    rows: int = BLOCK

    def __post_init__(self) -> None:
        if not self.grid:
            raise UsageError("the npy form does not say where its columns are: give ClimSim's grid file with --grid")
        if not self.normalization:
            raise UsageError(
                "the npy form is normalised, a store holds physical values: give the folder of ClimSim's "
                "input_mean.nc, input_max.nc, input_min.nc and output_scale.nc with --normalization"
            )
        if self.rows < 1:
            raise UsageError(f"rows={self.rows} must be at least 1")


def convert(config: NpyConfig, out: Path | str) -> ColumnStore:
    """Convert the npy form to the store ``out``; killed and begun again it goes on from its last checkpoint.

    ``x = x_n (max - min) + mean`` and ``y = y_n / scale`` in float64, of v1: 124 inputs, 128 targets. Rows are time
    after time, in each the columns of the grid in their order. NaN and infinities among inputs become 0 before, as
    ClimSim's own code has it, and are counted in the provenance.

    Raises:
        UsageError: wrong settings.
        SubgridError: absent or damaged files, files of other widths or lengths, NaN in targets.
    """
    plan = _Plan(config)
    return write_stream(out, plan.spec, plan.read, sum(part.rows for part in plan.parts))


@dataclass(frozen=True)
class _Part:
    """One split: its published steps, and its two arrays on disk."""

    split: PublishedSplit
    inputs: NDArray[Any]
    targets: NDArray[Any]
    path: Path

    @property
    def rows(self) -> int:
        return len(self.inputs)


class _Plan:
    """The splits that are there, and how their rows become physical."""

    def __init__(self, config: NpyConfig) -> None:
        grid, variables = read_grid(config.grid), variable_set("v1")
        scales = _normalisation(config.normalization, grid.levels)
        self.span, self.mean = (_flat(values, variables.inputs, grid.levels) for values in (scales.span, scales.mean))
        self.scale = _flat(scales.scale, variables.targets, grid.levels)
        for what, values in (("range", self.span), ("mean", self.mean), ("scale", 1.0 / self.scale)):
            if not np.isfinite(values).all():
                raise SubgridError(f"{config.normalization}: a {what} of v1 is zero or NaN: it is of other variables")
        self.area, self.columns = grid.area, grid.columns
        self.parts = _parts(Path(config.folder), grid, len(self.span), len(self.scale))
        self.spec = StoreSpec(
            grid=grid,
            arrays={"inputs": variables.inputs, "targets": variables.targets},
            time_step=float(STEP),
            host="climsim",
            provenance=provenance(convert=asdict(config), normalisation=list(scales.files)),
            block=min(config.rows, max(part.rows for part in self.parts)),
            calendar=CALENDAR,
        )

    def read(self, position: NDArray[np.int64] | None) -> Iterator[Piece]:
        """All pieces from ``position`` on: number of the split, and row in it."""
        begin, done = (0, 0) if position is None else (int(i) for i in position)
        each = self.columns * max(1, ROWS // self.columns)
        for number in range(begin, len(self.parts)):
            part = self.parts[number]
            for first in range(done if number == begin else 0, part.rows, each):
                after = min(first + each, part.rows)
                yield self._piece(part, first, after, np.array([number, after]))

    def _piece(self, part: _Part, first: int, after: int, position: NDArray[np.int64]) -> Piece:
        x = part.inputs[first:after].astype(np.float64)
        broken = ~np.isfinite(x)
        x[broken] = 0.0
        x = x * self.span + self.mean
        y = part.targets[first:after].astype(np.float64) / self.scale
        step, column = np.divmod(np.arange(first, after), self.columns)
        time = epoch() + np.asarray(part.split.steps)[step] * STEP
        rows = {"inputs": x, "targets": y, **marks(time, column, self.area)}
        return Piece({part.split.store_name: rows}, position, {REPLACED: int(broken.sum())})


def _normalisation(folder: str, levels: int) -> PublishedNormalisation:
    names = [PLAIN.inputs.replace("*", part) for part in ("mean", "max", "min")] + [PLAIN.outputs]
    absent = [name for name in names if not any((Path(folder) / place / name).is_file() for place in PLACES)]
    if absent:
        raise SubgridError(f"--normalization {folder}: there is no {', '.join(absent)}, nor in its inputs and outputs")
    return read_normalisation(folder, variable_set("v1"), levels)


def _flat(values: Any, variables: tuple[Variable, ...], levels: int) -> NDArray[np.float64]:
    """Numbers by variable -> (channel,)."""
    return np.concatenate([np.broadcast_to(values[v.name], (v.width(levels),)) for v in variables])


def _parts(folder: Path, grid: ColumnGrid, n_in: int, n_out: int) -> list[_Part]:
    """The splits in ``folder``; raises :class:`SubgridError` if there is none, or one is not whole."""
    found = []
    for name in NPY_SPLITS:
        paths = [folder / f"{name}_{kind}.npy" for kind in (INPUT, TARGET)]
        there = [path.is_file() for path in paths]
        if not any(there):
            continue
        if not all(there):
            raise SubgridError(f"{paths[there.index(False)]} is missing beside {paths[there.index(True)].name}")
        inputs, targets = (_open(path, width) for path, width in zip(paths, (n_in, n_out), strict=True))
        part = _Part(SPLITS[name], inputs, targets, paths[0])
        _require_whole(part, grid)
        found.append(part)
    if not found:
        raise SubgridError(f"{folder} has none of {', '.join(f'{name}_{INPUT}.npy' for name in NPY_SPLITS)}")
    return found


def _open(path: Path, width: int) -> NDArray[Any]:
    """A memory map of (row, width) float32."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise SubgridError(f"{path} is damaged, or not an npy file ({error}); fetch it again") from error
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.shape[1] != width or values.dtype != np.float32:
        shape = getattr(values, "shape", "no array")
        raise SubgridError(
            f"{path} holds {shape} {getattr(values, 'dtype', '')}, expected (rows, {width}) float32: v1 on this grid"
        )
    return values


def _require_whole(part: _Part, grid: ColumnGrid) -> None:
    if len(part.targets) != part.rows:
        raise SubgridError(f"{part.path} has {part.rows} rows, its targets have {len(part.targets)}")
    steps, rest = divmod(part.rows, grid.columns)
    if rest or not steps:
        raise SubgridError(
            f"{part.path} has {part.rows} rows, which is no multiple of the grid's {grid.columns} columns"
        )
    if steps > len(part.split.steps):
        raise SubgridError(f"{part.path} has {steps} steps, more than the {len(part.split.steps)} that are published")
