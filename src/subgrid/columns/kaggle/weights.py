"""The competition's weights, one for each output: read from its sample submission, whose rows all hold them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError
from subgrid.columns.kaggle.files import open_table
from subgrid.columns.kaggle.layout import SUBMISSION_HEADER, TARGET_LABELS, zero_weight


@dataclass(frozen=True)
class Weights:
    """What a submission is multiplied with.

    Args:
        weight: of each output, (368,) float64: 1/std in the first published file, 0 or 1 in the present one.
        ids: of the rows of the file that they came from, in its order; None where no file was read.
        source: that file.
    """

    weight: NDArray[np.float64]
    ids: pa.StringArray | None = None
    source: str = "the competition's present rule"


def present_weights() -> Weights:
    """The weights of the present sample submission: 0 for 60 outputs, else 1."""
    return Weights((~zero_weight()).astype(np.float64))


def read_weights(path: Path | str) -> Weights:
    """The weights in a sample submission, CSV or parquet.

    Raises:
        UsageError: neither CSV nor parquet.
        SubgridError: no such file, another header, NaN, a negative weight, no weight but zeros, rows that differ, or
            an id that is there twice.
    """
    table = open_table(path, SUBMISSION_HEADER)
    weight: NDArray[np.float64] | None = None
    ids = []
    for batch in table.batches():
        weight = batch.values[:, 0] if weight is None else weight
        differs = batch.values != weight[:, None]
        if differs.any():
            channel, row = np.argwhere(differs)[0]
            raise SubgridError(
                f"{path}: row {batch.ids[row]} differs from the first one in {TARGET_LABELS[channel]}: all rows of a "
                "sample submission are the same weights; this is another submission"
            )
        ids.append(batch.ids)
    if weight is None:
        raise SubgridError(f"{path} has no row")
    if (weight < 0.0).any() or not weight.any():
        raise SubgridError(f"{path}: weights must be zero or positive, and not all be zero")
    joined = pa.concat_arrays(ids)
    if pc.count_distinct(joined).as_py() != len(joined):
        counts = pc.value_counts(joined)
        twice = next(one["values"] for one in counts.to_pylist() if one["counts"] > 1)
        raise SubgridError(f"{path}: row {twice} is there twice")
    return Weights(weight.copy(), joined, str(path))
