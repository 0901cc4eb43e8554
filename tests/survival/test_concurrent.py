"""Two processes on one folder: the second is told at once; what is half-written is never taken for finished."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys

import pytest

from subgrid.base.errors import SubgridError
from subgrid.base.files import only_writer
from subgrid.deployment import export
from subgrid.deployment import torchscript as exporting
from subgrid.emulator import load_emulator
from subgrid.evaluation import offline as evaluation
from subgrid.evaluation.offline import EvaluateConfig, evaluate
from subgrid.report import write_report

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
        "export": ["export", run, f"out={tmp_path / 'export'}"],
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


def test_a_bundle_cut_while_it_replaces_an_older_one_is_not_finished(trained, generated, tmp_path, monkeypatch):
    export(trained.made, generated.made, tmp_path / "export")
    assert "export" in write_report(tmp_path / "export").read_text().lower()
    monkeypatch.setattr(exporting.torch.jit, "save", dies)
    with pytest.raises(Killed):
        export(trained.made, generated.made, tmp_path / "export")
    with pytest.raises(SubgridError, match="nothing to report"):
        write_report(tmp_path / "export")


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
