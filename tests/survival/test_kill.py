"""Killed for good at any moment and begun again, every stage ends with the bits of an unbroken run.

Equal means arrays, weights, optimiser state and scores; clocks, logs and versions are excepted.
`test_interrupted.py` kills generation, training and coupling once each, on a disk that is then full.
"""

from __future__ import annotations

import random
import time

import pytest

from .harness import after, assert_same_run, contents, metrics, written

#: Kills tried on each stage in `make test-kill`; some come when the work is done.
MANY = 12


def killed_many_times(line, job, folder, seed):
    """The result of ``job`` killed at moments drawn from most of an unbroken run's time, until it is done."""
    begun = time.monotonic()
    line.done(*job.words, f"out={folder / 'again'}")  # how long it takes now that its programs are compiled
    seconds = time.monotonic() - begun
    draw = random.Random(seed)
    out = folder / job.made.name
    moments = [after(draw.uniform(0.0, 0.8) * seconds) for _ in range(MANY)]
    assert line.survive([*job.words, f"out={out}"], moments) >= 3
    return out


@pytest.mark.kill
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
    out = killed_many_times(line, generated, tmp_path, seed)
    assert contents(out) == contents(generated.made) == contents(tmp_path / "again")


@pytest.mark.kill
@pytest.mark.parametrize("seed", range(5))
def test_training_killed_many_times(line, trained, tmp_path, seed):
    out = killed_many_times(line, trained, tmp_path, seed)
    assert_same_run(out, trained.made)


@pytest.mark.kill
@pytest.mark.parametrize("seed", range(2))
def test_coupling_killed_many_times(line, coupled, tmp_path, seed):
    out = killed_many_times(line, coupled, tmp_path, seed)
    assert contents(out, but=["metrics.json"]) == contents(coupled.made, but=["metrics.json"])
    assert metrics(out) == metrics(coupled.made)
