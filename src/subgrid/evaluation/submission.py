"""A submission to the competition: the emulator's 368 outputs times their weights, streamed from test file to file."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.files import only_writer, write_file
from subgrid.base.progress import Progress
from subgrid.columns.climsim.grid import read_grid
from subgrid.columns.kaggle.derive import Derivation
from subgrid.columns.kaggle.files import SUFFIXES, Batch, Table, open_table, require_same_rows
from subgrid.columns.kaggle.layout import (
    ID,
    INPUT_LABELS,
    LEVELS,
    SUBMISSION_HEADER,
    TARGET_LABELS,
    TEST_HEADER,
    TRAIN_HEADER,
)
from subgrid.columns.kaggle.weights import Weights, present_weights, read_weights
from subgrid.columns.stream import read_ahead
from subgrid.columns.variables import catalogue, offsets
from subgrid.emulator.base import ColumnEmulator
from subgrid.emulator.files import load
from subgrid.evaluation.kaggle import REBUILT_FROM, all_targets, described, rebuilds, require_targets
from subgrid.evaluation.predict import emulator_predictor
from subgrid.scores.kaggle import PooledR2

logger = logging.getLogger("subgrid")
SCHEMA = pa.schema([(ID, pa.string()), *((label, pa.float64()) for label in TARGET_LABELS)])
Write = Callable[[pa.RecordBatch], None]


@dataclass(frozen=True)
class SubmissionConfig:
    """A submission.

    Args:
        emulator: run folder, emulator folder, or a published network's TorchScript file.
        test: the competition's test file, or (part of) its training file, which is then scored as well.
        weights: its sample submission; empty: weight 0 for the 60 outputs that it does not score, else 1.
        grid: ClimSim's grid file, for a TorchScript file that reads relative humidity.
        fills: values of inputs that the competition does not have, such as ``cam_in_SNOWHICE``.
        variables: what a TorchScript file reads; empty for folders.
        trust: load the TorchScript file of a folder that holds a published network.
    """

    emulator: str
    test: str
    weights: str = ""
    grid: str = ""
    fills: Mapping[str, float] = field(default_factory=dict)
    variables: str = ""
    trust: bool = False

    def __post_init__(self) -> None:
        known = catalogue("climsim").variables
        for name, value in self.fills.items():
            if name not in known:
                raise UsageError(f"--fill {name}: ClimSim has no such variable")
            if not np.isfinite(value):
                raise UsageError(f"--fill {name}={value} must be a finite number")


def write_submission(config: SubmissionConfig, out: Path | str) -> dict[str, Any]:
    """Predict all rows of the test file and write ``out`` (CSV or parquet) in the form of the sample submission.

    ``sample_id`` and the 368 outputs in the competition's order, prediction x weight in float64; an output of weight 0
    is 0. ``out`` appears when it is whole.

    Returns:
        A summary: rows, where the weights came from, and ``metrics`` where the file holds the truth.

    Raises:
        UsageError: an emulator without these outputs, or with inputs that the file does not hold.
        SubgridError: damaged files, another header, rows that are not those of the sample submission, NaN.
    """
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise UsageError(f"{out} must end in {' or '.join(SUFFIXES)}")
    given = [Path(name).resolve() for name in (config.test, config.weights) if name]
    if out.resolve() in given:
        raise UsageError(f"{out} is one of the files to read: choose another name for the submission")
    table = open_table(config.test, TEST_HEADER, TRAIN_HEADER)
    emulator = _load(config)
    weights = read_weights(config.weights) if config.weights else present_weights()
    prediction = _Prediction(emulator, table, weights, config.fills)
    with only_writer(out):
        write_file(out, lambda beside: prediction.write(beside, out.suffix))
    return prediction.summary(config, out)


def _load(config: SubmissionConfig) -> ColumnEmulator:
    """The emulator, checked to give the competition's outputs on its levels."""
    grid = read_grid(config.grid).vertical if config.grid else None
    script = Path(config.emulator).is_file()
    emulator = load(config.emulator, config.variables, grid if script else None, trust=config.trust)
    require_targets(emulator)
    if emulator.levels != LEVELS:
        raise UsageError(f"{config.emulator} has {emulator.levels} levels, the competition's columns {LEVELS}")
    return emulator


class _Prediction:
    """The way from the batches of the test file to those of the submission."""

    def __init__(self, emulator: ColumnEmulator, table: Table, weights: Weights, fills: Mapping[str, float]) -> None:
        self.emulator, self.table, self.weights = emulator, table, weights
        self.has_truth = len(table.header) == len(TRAIN_HEADER)
        vertical = emulator.grid if emulator.has_grid else None
        self.inputs = Derivation(emulator.variables.inputs, vertical, targets=False, fills=fills)
        self.predict = emulator_predictor(emulator)
        known = catalogue("climsim").variables
        self.state = [known[name] for name in REBUILT_FROM] if rebuilds(emulator) else []
        self.state_values = Derivation(self.state, vertical, targets=False)
        self.live = weights.weight != 0.0
        self.scores = PooledR2(len(TARGET_LABELS))
        self.rows = 0

    def write(self, path: Path, suffix: str) -> None:
        """Write the whole submission to ``path``."""
        total = self.table.rows() if self.weights.ids is None else len(self.weights.ids)
        with _writer(path, suffix) as write, Progress("predict", total, "rows") as bar:
            for batch in read_ahead(self.table.batches()):
                self._require_ids(batch)
                found = self._weighted(batch)
                columns = [batch.ids, *(pa.array(column) for column in found.T)]
                write(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
                self.rows += len(batch.ids)
                bar.update(len(batch.ids))
        if self.weights.ids is not None and self.rows != len(self.weights.ids):
            raise self._other_length(f"{self.rows}")
        if not self.rows:
            raise SubgridError(f"{self.table.path} has no row")

    def _require_ids(self, batch: Batch) -> None:
        """Refuse rows that are not those of the sample submission at the same place."""
        if self.weights.ids is None:
            return
        after = self.rows + len(batch.ids)
        if after > len(self.weights.ids):
            raise self._other_length(f"at least {after}")
        expected = self.weights.ids.slice(self.rows, len(batch.ids))
        require_same_rows((self.table.path, batch.ids), (self.weights.source, expected), self.rows)

    def _other_length(self, rows: str) -> SubgridError:
        wanted = 0 if self.weights.ids is None else len(self.weights.ids)
        return SubgridError(
            f"{self.table.path} has {rows} rows, {self.weights.source} has {wanted}: they belong to different files"
        )

    def _weighted(self, batch: Batch) -> NDArray[np.float64]:
        """Prediction x weight, (row, 368)."""
        inputs = batch.values[: len(INPUT_LABELS)]
        x = self.inputs(inputs).astype(np.float32)
        place = offsets(self.state, LEVELS)
        held = self.state_values(inputs)
        state = {name: held[:, part] for name, part in place.items()}
        found = all_targets(self.emulator, self.predict, x, state)
        wrong = ~np.isfinite(found) & self.live
        if wrong.any():
            row, channel = np.argwhere(wrong)[0]
            raise SubgridError(
                f"the emulator gives NaN or infinity at row {batch.ids[row]}, {TARGET_LABELS[channel]}: these columns "
                "may lie far beyond those that it was trained on"
            )
        found = np.where(self.live, found, 0.0)
        if self.has_truth:
            truth = batch.values[len(INPUT_LABELS) :].T
            self.scores.update(found, np.where(self.live, truth, 0.0))
        return found * self.weights.weight

    def summary(self, config: SubmissionConfig, out: Path) -> dict[str, Any]:
        """What was written; with the score where the truth is known."""
        told: dict[str, Any] = {
            "path": str(out),
            "rows": self.rows,
            "columns": len(SUBMISSION_HEADER),
            "emulator": config.emulator,
            "test": config.test,
            "weights": self.weights.source,
            "zero_weights": int((~self.live).sum()),
        }
        if self.has_truth and self.rows > 1:
            told["metrics"] = {"kaggle": described(self.scores.result(), self.weights.weight, LEVELS)}
        return told


@contextlib.contextmanager
def _writer(path: Path, suffix: str) -> Iterator[Write]:
    """What appends batches to a CSV or parquet file."""
    if suffix == ".parquet":
        with pq.ParquetWriter(path, SCHEMA) as parquet:
            yield parquet.write_batch
        return
    # Nothing in quotation marks, as the sample submission has it; pyarrow would quote the header.
    plain = pacsv.WriteOptions(include_header=False, quoting_style="none")
    with path.open("wb") as file:
        file.write(f"{','.join(SUBMISSION_HEADER)}\n".encode())
        with pacsv.CSVWriter(file, SCHEMA, write_options=plain) as text:

            def write(batch: pa.RecordBatch) -> None:
                try:
                    text.write_batch(batch)
                except pa.ArrowInvalid as error:
                    raise SubgridError(f"a {ID} has a comma or a quotation mark: write a .parquet file") from error

            yield write
