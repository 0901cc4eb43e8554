"""The competition's score of a submission, whoever made it, against the truth of the same rows; streamed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError
from subgrid.base.progress import Progress
from subgrid.columns.kaggle.files import Table, open_table, require_same_rows
from subgrid.columns.kaggle.layout import LEVELS, SUBMISSION_HEADER, TARGET_LABELS, TRAIN_HEADER
from subgrid.columns.kaggle.weights import present_weights, read_weights
from subgrid.evaluation.kaggle import described
from subgrid.scores.kaggle import PooledR2

Rows = tuple[pa.StringArray, NDArray[np.float64]]


def score_submission(submission: Path | str, truth: Path | str, weights: Path | str = "") -> dict[str, Any]:
    """``r2_308``, ``r2_368`` and the R2 of each output of a submission.

    Args:
        submission: prediction x weight, in the form of the sample submission.
        truth: (a part of) the training file, whose targets are multiplied with the weights here; or a solution in the
            form of a submission, already multiplied. The same rows in the same order.
        weights: the sample submission that gave the weights; empty: the present rule, 0 or 1.

    Returns:
        A summary with the scores under ``metrics``; an output counts where its weight is not zero.

    Raises:
        SubgridError: damaged files, other headers, rows that are not the same.
    """
    given, known = open_table(submission, SUBMISSION_HEADER), open_table(truth, SUBMISSION_HEADER, TRAIN_HEADER)
    weight = (read_weights(weights) if weights else present_weights()).weight
    factor = weight if len(known.header) == len(TRAIN_HEADER) else (weight != 0.0).astype(np.float64)
    scores, done = PooledR2(len(TARGET_LABELS)), 0
    with Progress("score", given.rows(), "rows") as bar:
        for (ids, values), (true_ids, true_values) in _side_by_side(given, known):
            require_same_rows((submission, ids), (truth, true_ids), done)
            scores.update(values.T, true_values[-len(TARGET_LABELS) :].T * factor)
            done += len(ids)
            bar.update(len(ids))
    if done < 2:
        raise SubgridError(f"{submission} has {done} rows: a score needs two or more")
    return {
        "submission": str(submission),
        "truth": str(truth),
        "rows": done,
        "zero_weights": int((weight == 0.0).sum()),
        "metrics": {"kaggle": described(scores.result(), weight, LEVELS)},
    }


def _side_by_side(one: Table, other: Table) -> Iterator[tuple[Rows, Rows]]:
    """Equal numbers of rows of both; raises :class:`SubgridError` where one ends before the other."""
    sources = [((batch.ids, batch.values) for batch in table.batches()) for table in (one, other)]
    held: list[Rows | None] = [None, None]
    while True:
        for k, source in enumerate(sources):
            if held[k] is None:
                held[k] = next(source, None)
        first, second = held
        if first is None and second is None:
            return
        if first is None or second is None:
            short, long = (one, other) if first is None else (other, one)
            raise SubgridError(f"{short.path} has fewer rows than {long.path}: they must be of the same rows")
        count = min(len(first[0]), len(second[0]))
        yield _head(first, count), _head(second, count)
        held = [_rest(first, count), _rest(second, count)]


def _head(rows: Rows, count: int) -> Rows:
    return rows[0][:count], rows[1][:, :count]


def _rest(rows: Rows, count: int) -> Rows | None:
    return (rows[0][count:], rows[1][:, count:]) if len(rows[0]) > count else None
