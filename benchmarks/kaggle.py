"""The competition's training file to a store, and its test file to a submission, beside pyarrow's parsing alone."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import emit, interleaved, measure, median_ratio, options, scratch

#: Of the rate at which pyarrow alone reads the same file.
CSV_GOAL, PARQUET_GOAL, SUBMISSION_GOAL = 0.5, 0.35, 0.35


def written(folder: Path, steps: int) -> dict[str, Path]:
    """A grid, and files of ``steps`` model steps with random numbers of 17 digits."""
    import pyarrow as pa
    import pyarrow.csv as pacsv
    import pyarrow.parquet as pq

    from subgrid.columns.climsim.sample import sample_grid, write_grid
    from subgrid.columns.kaggle.layout import COLUMNS, INPUT_LABELS, LEVELS, TEST_HEADER, TRAIN_HEADER

    names = ("grid.nc", "train.csv", "train.parquet", "test.csv")
    paths = {name: folder / name for name in names}
    write_grid(paths["grid.nc"], sample_grid(COLUMNS, LEVELS), "netcdf4")
    rng = np.random.default_rng(0)
    values = rng.uniform(1.0, 2.0, (len(TRAIN_HEADER) - 1, COLUMNS * steps))
    values *= 10.0 ** rng.integers(-12, 3, (len(values), 1))
    ids = pa.array([f"train_{n}" for n in range(values.shape[1])])
    table = pa.Table.from_arrays([ids, *map(pa.array, values)], names=TRAIN_HEADER)
    pq.write_table(table, paths["train.parquet"], row_group_size=65_536)
    plain = pacsv.WriteOptions(include_header=False, quoting_style="none")
    for name, header in (("train.csv", TRAIN_HEADER), ("test.csv", TEST_HEADER)):
        with paths[name].open("wb") as file:
            file.write(f"{','.join(header)}\n".encode())
            pacsv.write_csv(table.select(range(1 + len(INPUT_LABELS))) if name == "test.csv" else table, file, plain)
    return paths


def parser(path: Path) -> Callable[[], None]:
    """Pyarrow reads the whole file, with as many threads as we give it, and keeps nothing."""
    import pyarrow.csv as pacsv
    import pyarrow.parquet as pq

    from subgrid.columns.kaggle.files import BATCH, THREAD_CHUNK

    def parse() -> None:
        if path.suffix == ".csv":
            for _ in pacsv.open_csv(path, pacsv.ReadOptions(block_size=THREAD_CHUNK)):
                pass
        else:
            for _ in pq.ParquetFile(path).iter_batches(BATCH):
                pass

    return parse


def converter(path: Path, grid: Path, out: Path) -> Callable[[], None]:
    """Conversion to a store, which is removed again."""
    from subgrid.columns.kaggle.convert import KaggleConfig, convert

    def work() -> None:
        # Small blocks: the last one of a split is written whole, which a store of millions of rows would not notice.
        convert(KaggleConfig((str(path),), str(grid), rows=1024), out)
        shutil.rmtree(out)

    return work


def submitter(folder: Path, paths: dict[str, Path]) -> Callable[[], None]:
    """A submission of an untrained small MLP."""
    from subgrid.columns.climsim.grid import read_grid
    from subgrid.columns.variables import variable_set
    from subgrid.emulator import EmulatorConfig, build_emulator, save_emulator
    from subgrid.evaluation.submission import SubmissionConfig, write_submission

    variables = variable_set("kaggle")
    config = EmulatorConfig(**variables.emulator)
    vertical = read_grid(paths["grid.nc"]).vertical
    emulator = build_emulator("mlp", variables, vertical, 1200.0, config, widths=[256, 256])
    run = save_emulator(emulator.eval(), folder / "emulator")

    def work() -> None:
        write_submission(SubmissionConfig(str(run), str(paths["test.csv"])), folder / "submission.parquet")

    return work


def figure(what: str, rows: int, rounds: int, work: Callable[[], None], path: Path, goal: float) -> dict[str, Any]:
    """Rows per second of ``work`` beside parsing ``path``."""
    parse = parser(path)
    work()
    walls, floor = interleaved(rounds, work, parse)
    return measure(
        what,
        rows / statistics.median(walls),
        "rows/s",
        rows / statistics.median(floor),
        f"pyarrow reads the {path.suffix[1:]} file",
        ratio=median_ratio(floor, walls),
        at_least=goal,
        file_mb_per_second=path.stat().st_size / statistics.median(walls) / 1e6,
    )


def main() -> None:
    """Print one line of JSON."""
    smoke = options(__doc__).smoke
    steps, rounds = (10, 1) if smoke else (48, 5)
    rows = 384 * steps
    with emit("kaggle", smoke) as found, scratch() as folder:
        paths = written(folder, steps)
        for name, goal in (("train.csv", CSV_GOAL), ("train.parquet", PARQUET_GOAL)):
            work = converter(paths[name], paths["grid.nc"], folder / "store.zarr")
            found.append(figure(f"{name} to a store", rows, rounds, work, paths[name], goal))
        work = submitter(folder, paths)
        found.append(figure("test.csv to a submission", rows, rounds, work, paths["test.csv"], SUBMISSION_GOAL))


if __name__ == "__main__":
    main()
