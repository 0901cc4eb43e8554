"""Killed for good at any moment and begun again, every stage ends with the bits of an unbroken run.

Equal means arrays, weights, optimiser state and scores; clocks, logs and versions are excepted.
`test_full_disk.py` kills generation and coupling once each, in every `make test`.
"""

from __future__ import annotations

import random

import pytest

from .harness import after, assert_same_run, contents, metrics, written

#: Kills of each stage in `make test-kill`.
MANY = 12


def moments(seconds, kills, seed):
    """Moments anywhere in a command that takes ``seconds``."""
    draw = random.Random(seed)
    return [after(draw.uniform(0.0, 1.0) * seconds) for _ in range(kills)]


def test_training_killed_within_an_epoch_gives_the_same_run(line, trained, tmp_path):
    draw = random.Random(0)
    run = tmp_path / "run"
    last = run / "checkpoints" / "last.ckpt"
    words = [*trained.words, f"out={run}"]
    assert line.survive(words, [written(last, draw.uniform(0.0, 0.3)) for _ in range(2)]) == 2
    assert_same_run(run, trained.made)


@pytest.mark.kill
@pytest.mark.parametrize("seed", range(2))
def test_generation_killed_many_times(line, generated, tmp_path, seed):
    words = [*generated.words, f"out={tmp_path / 'store.zarr'}"]
    assert line.survive(words, moments(generated.seconds, MANY, seed)) > 0
    assert contents(tmp_path / "store.zarr") == contents(generated.made)


@pytest.mark.kill
@pytest.mark.parametrize("seed", range(5))
def test_training_killed_many_times(line, trained, tmp_path, seed):
    words = [*trained.words, f"out={tmp_path / 'run'}"]
    assert line.survive(words, moments(trained.seconds, MANY, seed)) > 0
    assert_same_run(tmp_path / "run", trained.made)


@pytest.mark.kill
@pytest.mark.parametrize("seed", range(2))
def test_coupling_killed_many_times(line, coupled, tmp_path, seed):
    words = [*coupled.words, f"out={tmp_path / 'coupled'}"]
    assert line.survive(words, moments(coupled.seconds, MANY, seed)) > 0
    assert contents(tmp_path / "coupled", but=["metrics.json"]) == contents(coupled.made, but=["metrics.json"])
    assert metrics(tmp_path / "coupled") == metrics(coupled.made)
