"""Killed, then begun again on a full disk: one clear line, what was finished is kept, and with room it goes on."""

from __future__ import annotations

import pytest

from .harness import assert_same_run, contents, metrics, written

NO_ROOM = "no space left while writing"


def refused(line, disk, words):
    """The line that the command gives on the full disk, which is then given room again."""
    disk.fill()
    said = line.refused(*words, largest_file=disk.largest_file)
    disk.free()
    assert NO_ROOM in said and "free some space and run the same command again" in said
    return said


@pytest.mark.kill
def test_generation_goes_on_after_a_kill_and_a_full_disk(line, generated, disk):
    out = disk.folder / "store.zarr"
    partial = disk.folder / "store.zarr.partial"
    words = [*generated.words, f"out={out}"]
    assert line.kill(words, written(partial / "checkpoint.safetensors", 0.0))
    assert not out.exists() and "unfinished" in line.refused("data", "info", out)
    kept = (partial / "checkpoint.safetensors").read_bytes()
    refused(line, disk, words)
    assert (partial / "checkpoint.safetensors").read_bytes() == kept and not out.exists()
    line.done(*words)
    assert contents(out) == contents(generated.made)


@pytest.mark.kill
def test_training_goes_on_after_a_kill_and_a_full_disk(line, trained, disk):
    run = disk.folder / "run"
    last = run / "checkpoints" / "last.ckpt"
    words = [*trained.words, f"out={run}"]
    assert line.kill(words, written(last, 0.1))
    kept = last.read_bytes()
    refused(line, disk, words)
    assert last.read_bytes() == kept
    line.done(*words)
    assert_same_run(run, trained.made)


def test_training_within_a_limit_on_file_sizes_says_the_same(line, trained, tmp_path):
    """The quota of a shared machine: small files may be written, checkpoints may not."""
    words = [*trained.words, f"out={tmp_path / 'run'}"]
    assert NO_ROOM in line.refused(*words, largest_file=8_000)
    line.done(*words)
    assert_same_run(tmp_path / "run", trained.made)


@pytest.mark.kill
def test_coupling_goes_on_after_a_kill_and_a_full_disk(line, coupled, disk):
    out = disk.folder / "coupled"
    words = [*coupled.words, f"out={out}"]
    assert line.kill(words, written(out / "checkpoint.safetensors", 0.0))
    kept = (out / "checkpoint.safetensors").read_bytes()
    refused(line, disk, words)
    assert (out / "checkpoint.safetensors").read_bytes() == kept and not (out / "metrics.json").exists()
    line.done(*words)
    assert contents(out, but=["metrics.json"]) == contents(coupled.made, but=["metrics.json"])
    assert metrics(out) == metrics(coupled.made)


def test_export_goes_on_after_a_full_disk(line, trained, disk):
    out = disk.folder / "export"
    words = ["export", trained.made, f"out={out}"]
    refused(line, disk, words)
    assert not (out / "model.pt").exists() and not (out / "report.json").exists()
    line.done(*words)
    assert (out / "model.pt").exists() and (out / "report.json").exists()
