"""Two processes on one folder, a full disk, a kill between two files: told at once, kept, never taken for finished.

One file, so that one process makes the store and the run that all of it begins with.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys

import pytest

from subgrid.base.errors import SubgridError
from subgrid.base.files import only_writer
from subgrid.deployment import ExportConfig, bundle, export
from subgrid.emulator import load_emulator
from subgrid.evaluation import offline as evaluation
from subgrid.evaluation.offline import EvaluateConfig, evaluate
from subgrid.report import write_report

from .harness import assert_same_run, contents, metrics, written

NO_ROOM = "no space left while writing"

#: Each verb after the other in one process: what a user would see of it.
_VERBS = """
import contextlib, io, json, sys
from subgrid.cli.app import main
found = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["subgrid", *words]
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as end:
            found.append((end.code, [l for l in err.getvalue().splitlines() if l.startswith("subgrid:")]))
print(json.dumps(found))
"""


def test_every_verb_tells_the_second_process_at_once(trained, generated, tmp_path):
    store, run = str(generated.made), str(trained.made)
    held = {  # what the first process holds, and the verb that wants it as well
        "store.zarr": ["data", "generate", f"out={tmp_path / 'store.zarr'}"],
        "run": ["train", f"data={store}", f"out={tmp_path / 'run'}"],
        "evaluation": ["evaluate", run, f"out={tmp_path / 'evaluation'}"],
        "coupled": ["couple", run, "days=1", f"out={tmp_path / 'coupled'}"],
        "export": ["export", run, "--out", str(tmp_path / "export")],
        "page.html": ["report", run, "--out", str(tmp_path / "page.html")],
        "demo": ["demo", "--out", str(tmp_path)],
        "study": ["study", "stability", "--data", store, "--out", str(tmp_path)],
    }
    with contextlib.ExitStack() as first:
        for name in held:
            first.enter_context(only_writer(tmp_path / name))
        command = [sys.executable, "-c", _VERBS, json.dumps(list(held.values()))]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    for name, (code, said) in zip(held, json.loads(done.stdout), strict=True):
        assert code == 1 and len(said) == 1, (name, said)
        assert f"another process is working on {tmp_path / name}; wait for it" in said[0], name
    assert list(tmp_path.iterdir()) == []  # nothing was made


class Killed(BaseException):
    """A kill, as near as one process can see it."""


def dies(*args, **kwargs):
    raise Killed


def test_a_bundle_cut_while_it_replaces_an_older_one_leaves_the_older(trained, generated, tmp_path, monkeypatch):
    config = ExportConfig(str(generated.made))
    export(trained.made, tmp_path / "export", config)
    before = contents(tmp_path / "export")
    for step in ("script", "write_vectors", "model_card", "checksum_lines"):
        monkeypatch.setattr(bundle, step, dies)
        with pytest.raises(Killed):
            export(trained.made, tmp_path / "export", config)
        monkeypatch.undo()
        assert contents(tmp_path / "export") == before and [p.name for p in tmp_path.iterdir()] == ["export"]
    assert "export" in write_report(tmp_path / "export").read_text().lower()


def test_scores_cut_while_they_replace_older_ones_are_not_finished(trained, generated, tmp_path, monkeypatch):
    config = EvaluateConfig(emulator=str(trained.made), data=str(generated.made))
    evaluate(config, tmp_path / "evaluation")
    monkeypatch.setattr(evaluation, "write_record", dies)
    with pytest.raises(Killed):
        evaluate(config, tmp_path / "evaluation")
    with pytest.raises(SubgridError, match="nothing to report"):
        write_report(tmp_path / "evaluation")


def test_a_run_without_its_last_file_is_not_finished(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained.made, run)
    (run / "metrics.json").unlink()
    with pytest.raises(SubgridError, match="nothing to report"):
        write_report(run)
    (run / "emulator" / "emulator.json").unlink()  # written after the weights
    with pytest.raises(SubgridError, match="holds no emulator"):
        load_emulator(run)


@pytest.mark.kill
def test_a_coupled_run_without_its_last_file_is_not_finished(coupled, tmp_path):
    out = tmp_path / "coupled"
    shutil.copytree(coupled.made, out)
    (out / "metrics.json").unlink()
    with pytest.raises(SubgridError, match="nothing to report"):
        write_report(out)


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
    words = ["export", trained.made, "--out", str(out)]
    refused(line, disk, words)
    assert not (out / "model.pt").exists() and not (out / "report.json").exists()
    line.done(*words)
    assert (out / "model.pt").exists() and (out / "report.json").exists()
