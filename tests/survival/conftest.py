"""A tiny store, a training run and a coupled run, each made by one unbroken command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .harness import CommandLine, SmallDisk


@dataclass(frozen=True)
class Job:
    """A command without its output, and what it made unbroken."""

    words: tuple[str, ...]
    made: Path


@pytest.fixture(scope="session")
def line() -> CommandLine:
    """The command line."""
    return CommandLine()


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the unbroken results are."""
    return tmp_path_factory.mktemp("unbroken")


def _job(line: CommandLine, made: Path, *words: str) -> Job:
    line.done(*words, f"out={made}")
    return Job(words, made)


@pytest.fixture(scope="session")
def generated(line: CommandLine, place: Path) -> Job:
    """Five days of columns."""
    days = ("spin_up_days=1", "train_days=2", "evaluation_days=2", "gap_days=0")
    share = ("fraction=0.3", "evaluation_fraction=0.3")
    return _job(line, place / "store.zarr", "data", "generate", *days, *share)


@pytest.fixture(scope="session")
def trained(line: CommandLine, place: Path, generated: Job) -> Job:
    """Four epochs with everything that has a state: shuffle, noise, dropout, average; a checkpoint every 7 steps."""
    network = ("architecture.widths=[32,32]", "architecture.dropout=0.1")
    recipe = ("recipe.epochs=4", "recipe.batch_size=64", "recipe.input_noise=0.1", "recipe.ema_decay=0.95")
    data = f"data={generated.made}"
    return _job(line, place / "run", "train", data, *network, *recipe, "checkpoint_every=7", "precision=32-true")


@pytest.fixture(scope="session")
def coupled(line: CommandLine, place: Path, trained: Job) -> Job:
    """Two coupled days."""
    start = sorted(p.stem for p in (place / "store.zarr" / "restarts").iterdir())[0]
    return _job(line, place / "coupled", "couple", str(trained.made), f"start={start}", "days=2", "timings=false")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk that a test may fill."""
    disk = SmallDisk(tmp_path / "disk", megabytes=200)
    yield disk
    disk.close()
