"""Sweeps: the product of lists, cells that fail, finished ones, a sweep that is killed; processes and SLURM."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.files import only_writer
from subgrid.cli.verbs import sweep_settings
from subgrid.workflows import sweep as sweep_module
from subgrid.workflows.jobs import run_job
from subgrid.workflows.sweep import run_sweep, status_lines, sweep_status

SMALL = ["recipe.epochs=1", "recipe.batch_size=256", "precision=32-true", "buffer_blocks=4"]


@pytest.fixture
def words(tiny_store, tmp_path):
    """The words of a sweep of seconds, and those that are given."""
    return lambda *more: [f"data={tiny_store.path}", f"out={tmp_path / 'sweep'}", *SMALL, *more]


@pytest.fixture
def swept(words):
    """Runs such a sweep in this process."""
    return lambda *more: run_sweep(*sweep_settings(words("launcher=debug", "architecture.widths=[16]", *more)))


def test_the_product_of_lists_has_a_stable_name_for_each_cell(words):
    config, cells = sweep_settings(
        words("architecture=mlp,unet", "recipe=standard,confidence", "seed=7,43", "recipe.learning_rate=1e-3,2e-3")
    )
    assert len(cells) == 16 and config.launcher == "local"
    assert cells[0].name == "mlp-standard-s7-learning_rate0.001"
    last = cells[-1]
    assert last.name == "unet-confidence-s43-learning_rate0.002"
    assert (last.train.architecture, last.train.recipe, last.train.seed) == ("unet", "confidence", 43)
    assert last.train.recipe_settings["learning_rate"] == 2e-3 and last.train.emulator.confidence
    _, other = sweep_settings(words("architecture=unet", "recipe=standard,confidence", "seed=43"))
    assert [cell.name for cell in other] == ["unet-standard-s43", "unet-confidence-s43"]


def test_lists_in_brackets_are_one_value(words):
    _, cells = sweep_settings(words("architecture=mlp", "architecture.widths=[16,16],[32]", "seed=range(1,3)"))
    assert [cell.train.network["widths"] for cell in cells] == [[16, 16], [16, 16], [32], [32]]
    assert cells[0].name == "mlp-standard-s1-widths16_16"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["architecture=mlp,unte"], "unet"),
        (["wrokers=2"], "workers"),
        (["seed=7,7", "launcher=debug"], "more than once"),
        (["workers=-1"], "workers=-1"),
        (["launcher=slrum"], "slurm"),
        (["metrics=climsin"], "climsim"),
        (["seed=1", "recipe"], "key=value"),
        (["devices=2", "accelerator=cpu"], "only launcher=slurm"),
        (["seed=1,"], "EOF"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_written(words, more, says, tmp_path):
    with pytest.raises(UsageError, match=says):
        run_sweep(*sweep_settings(words(*more)))
    assert list(tmp_path.iterdir()) == []


def test_every_cell_is_trained_and_scored_and_finished_ones_are_skipped(swept, tmp_path):
    first = swept("seed=1")
    assert first["counts"] == {"finished": 1, "running": 0, "waiting": 0, "failed": 0}
    cell = first["cells"]["mlp-standard-s1"]
    scores = json.loads((tmp_path / "sweep/mlp-standard-s1/evaluation/scores.json").read_text())["models"]
    r2 = [v["r2"] for v in scores["emulator"].values() if v["r2"] is not None]
    assert cell["r2"] == pytest.approx(sum(r2) / len(r2)) and cell["ridge_r2"] > 0 and cell["parameters"] > 0
    before = (tmp_path / "sweep/mlp-standard-s1/metrics.json").stat().st_mtime_ns
    more = swept("seed=1,2")
    assert more["counts"]["finished"] == 2
    assert (tmp_path / "sweep/mlp-standard-s1/metrics.json").stat().st_mtime_ns == before
    assert any("mlp-standard-s2" in line and "mean R2" in line for line in status_lines(more))


def test_other_settings_in_a_finished_cell_are_refused(swept, words):
    swept("seed=1")
    with pytest.raises(SubgridError, match="begun with another recipe_settings"):
        swept("seed=1", "recipe.learning_rate=0.1")


def test_a_cell_that_cannot_be_is_a_result_with_its_error(words, tmp_path):
    status = run_sweep(*sweep_settings(words("launcher=debug", "architecture=hsr", "recipe=confidence,standard")))
    assert status["counts"] == {"finished": 1, "running": 0, "waiting": 0, "failed": 1}
    failed = status["cells"]["hsr-confidence-s0"]
    assert "second head" in failed["error"] and failed["tries"] == 1  # wrong in itself: not tried again


def test_a_failure_is_tried_again_and_kept_if_it_stays(swept, monkeypatch):
    calls = []

    def evaluate(config, out):
        calls.append(out)
        if len(calls) < 2 or "s2" in str(out):
            raise RuntimeError("a moment's trouble")
        return real(config, out)

    real = sweep_module.evaluate
    monkeypatch.setattr(sweep_module, "evaluate", evaluate)
    status = swept("seed=1,2", "retries=2")
    assert status["cells"]["mlp-standard-s1"]["state"] == "finished"
    assert status["cells"]["mlp-standard-s1"]["tries"] == 2
    failed = status["cells"]["mlp-standard-s2"]
    assert (failed["state"], failed["tries"]) == ("failed", 3) and "a moment's trouble" in failed["error"]
    monkeypatch.setattr(sweep_module, "evaluate", real)
    assert swept("seed=1,2")["counts"]["finished"] == 2  # given again, what failed is begun again


def test_status_of_no_sweep_and_of_cells_under_way(swept, tmp_path):
    with pytest.raises(SubgridError, match="holds no sweep"):
        sweep_status(tmp_path)
    swept("seed=1,2")
    out = tmp_path / "sweep"
    shutil.rmtree(out / "mlp-standard-s1")
    (out / "mlp-standard-s2" / "metrics.json").unlink()
    assert sweep_status(out)["counts"] == {"finished": 0, "running": 0, "waiting": 2, "failed": 0}
    with only_writer(out / "mlp-standard-s2" / "cell"):
        assert sweep_status(out)["cells"]["mlp-standard-s2"]["state"] == "running"


class _Told:
    """A job that keeps where compiled programs go."""

    name, processes, rank = "told", 1, 0

    def work(self, folder):
        self.compiled = os.environ.get("JAX_COMPILATION_CACHE_DIR")


@pytest.mark.parametrize(
    ("here", "chosen", "expected"), [(True, None, "jobs/compiled"), (True, "mine", "mine"), (False, None, None)]
)
def test_jobs_of_one_machine_share_what_is_compiled(tmp_path, monkeypatch, here, chosen, expected):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    if chosen is not None:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", chosen)
    job = _Told()
    assert run_job(job, tmp_path, 0, os.getpid() if here else 0)["error"] is None
    assert job.compiled == (str(tmp_path / expected) if expected == "jobs/compiled" else expected)


def command(words, *more):
    return [sys.executable, "-m", "subgrid.cli.app", "sweep", *words("architecture=mlp", *more)]


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


@pytest.mark.kill
def test_two_processes_a_kill_and_going_on(words, tmp_path):
    begun = command(words, "seed=1,2", "workers=2", "recipe.epochs=3")
    out = tmp_path / "sweep"
    process = subprocess.Popen(begun, env=environment(), stderr=subprocess.DEVNULL, start_new_session=True)
    wait_for(lambda: any(out.glob("*/checkpoints/last.ckpt")), 120)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # the cells end with their sweep
    wait_for(lambda: sweep_status(out)["counts"]["running"] == 0, 30)
    assert sweep_status(out)["counts"]["finished"] < 2
    done = subprocess.run([*begun, "--json"], env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["finished"] == 2


def test_a_cell_whose_process_dies_is_a_failed_cell(words, tmp_path):
    config, cells = sweep_settings(words("architecture=mlp", "seed=1", "retries=0", "recipe.epochs=50"))
    out = tmp_path / "sweep"
    killer = threading.Thread(target=kill_when_begun, args=(out / cells[0].name / "log.txt",))
    killer.start()
    status = run_sweep(config, cells)
    killer.join()
    failed = status["cells"][cells[0].name]
    assert failed["state"] == "failed" and "ended without a result" in failed["error"]


def kill_when_begun(log):
    """Kill the process that says in its log that it trains."""
    wait_for(lambda: log.exists() and "train: begins, process" in log.read_text(), 120)
    os.kill(int(re.search(r"train: begins, process (\d+)", log.read_text())[1]), signal.SIGKILL)


def wait_for(what, seconds):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)


@pytest.mark.slurm
def test_two_cells_on_slurm(words, tmp_path):
    """`make test-slurm` starts the scheduler; its folder must be seen by the node."""
    begun = command(words, "seed=1,2", "launcher=slurm", "slurm.timeout_min=10", "slurm.cpus_per_task=1", "--json")
    done = subprocess.run(begun, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert status["counts"]["finished"] == 2, status
    for name in status["cells"]:
        record = json.loads((tmp_path / "sweep/jobs" / f"{name}.json").read_text())
        assert record["launcher"] == "slurm" and record["job"].isdigit()
        assert list((tmp_path / "sweep" / "jobs").glob(f"{record['job']}_0_log.out"))


@pytest.mark.slurm
def test_a_cell_of_two_processes_on_slurm(words, tmp_path):
    """SLURM starts the processes of a cell; the first alone evaluates and tells."""
    parts = ["devices=2", "accelerator=cpu", "slurm.tasks_per_node=2", "slurm.nodes=1", "slurm.cpus_per_task=1"]
    begun = command(words, "seed=3", "launcher=slurm", "slurm.timeout_min=10", *parts, "--json")
    done = subprocess.run(begun, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    cell = json.loads(done.stdout)["cells"]["mlp-standard-s3"]
    assert cell["state"] == "finished", cell
    job = json.loads((tmp_path / "sweep/jobs/mlp-standard-s3.json").read_text())["job"]
    assert len(list((tmp_path / "sweep/jobs").glob(f"{job}_*_log.out"))) == 2
