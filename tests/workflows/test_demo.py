"""The main job, end to end, with days instead of years: every verb's work, reuse, and coupling in detail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from subgrid.base.errors import SubgridError, UsageError
from subgrid.coupling import CoupleConfig, couple
from subgrid.deployment import ExportConfig, export
from subgrid.emulator import load_emulator, save_emulator
from subgrid.emulator.blend import BlendedEmulator
from subgrid.hosts.climate import open_climate
from subgrid.networks import names
from subgrid.training import TrainConfig, fit
from subgrid.workflows import demo as demo_module
from subgrid.workflows.demo import commands, run_demo, summary_lines


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "out"
    run_demo(folder, tiny=True)
    return folder


def test_demo_leaves_everything(demo: Path):
    for name in ("report.html", "summary.json", "store.zarr", "run", "coupled", "evaluation", "export/model.pt"):
        assert (demo / name).exists(), name
    for stage, folder in {
        "demo": "",
        "generate": "store.zarr",
        "train": "run",
        "evaluate": "evaluation",
        "couple": "coupled",
        "export": "export",
    }.items():
        log = (demo / folder / "log.txt").read_text()
        assert f"{stage}: begins" in log and f"{stage}: done after" in log
    summary = json.loads((demo / "summary.json").read_text())
    assert set(summary["stages"]) == {"generate", "train", "evaluate", "couple", "export", "report"}
    assert summary["online"]["days"] == 2 and summary["online"]["finite"]
    assert set(summary["online"]) >= {
        "first_unstable_day",
        "mid_troposphere_temperature_difference_K",
        "lowest_level_humidity_ratio",
        "precipitation_ratio",
        "simulated_years_per_day",
        "step_ms",
    }
    assert {"dynamics", "null_callback", "network", "coupled", "own_physics"} <= set(summary["online"]["step_ms"])
    r2 = summary["offline"]["r2"]
    assert all(models["mean"] is None or models["mean"] <= 1e-6 for models in r2.values())
    assert r2["surface_upward_longwave"]["emulator"] > 0.5
    assert summary["export"]["max_relative_difference"] <= 1e-5
    assert 0.1 < summary["peak_memory_GiB"] < 6.0
    assert {"torch", "jax", "jcm"} <= set(summary["versions"])


def test_second_call_reuses_finished_stages(demo: Path, monkeypatch: pytest.MonkeyPatch):
    before = {p: p.stat().st_mtime_ns for p in (demo / "run" / "metrics.json", demo / "store.zarr" / "zarr.json")}
    said: list[str] = []
    monkeypatch.setattr(demo_module.logger, "info", lambda text, *words: said.append(text % words))
    summary = run_demo(demo, tiny=True)
    assert sum("reused" in line for line in said) == 5
    assert all(p.stat().st_mtime_ns == t for p, t in before.items())
    assert any("report.html" in line for line in summary_lines(summary, demo))


def test_demo_of_the_other_size_is_refused(demo: Path):
    with pytest.raises(SubgridError, match="tiny demo"):
        run_demo(demo, tiny=False)


def test_printed_commands_say_the_same_job(demo: Path):
    words = commands(demo, tiny=True)
    assert len(words) == 6 and all(word.startswith("subgrid ") for word in words)
    assert "spin_up_days=2" in words[0] and "recipe.epochs=10" in words[1]


@pytest.mark.slow
def test_callback_and_conversion_give_the_same_first_day(demo: Path, tmp_path: Path):
    means = {}
    for bridge in ("callback", "jax"):
        config = CoupleConfig(
            emulator=str(demo / "run"), data=str(demo / "store.zarr"), days=1, bridge=bridge, timings=False
        )
        run = couple(config, tmp_path / bridge)
        assert run.metrics["bridge"] == bridge
        means[bridge] = run.daily["temperature"].values
    assert np.abs(means["callback"] - means["jax"]).max() < 0.05


#: A run that begins with the host's own physics, goes over to the emulator for a day and a half, and is guarded.
GRADUAL = {"spin_up_steps": 20, "ramp": "linear", "ramp_steps": 70}
GUARDED = {"night": True, "tropopause": 10.0, "limit_heating": 40.0, "energy": "projection", "water": "projection"}


@pytest.fixture(scope="module")
def remembering(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An emulator that reads earlier steps."""
    settings = {"epochs": 1, "batch_size": 512}
    run = tmp_path_factory.mktemp("memory") / "run"
    fit(TrainConfig(str(demo / "store.zarr"), recipe="expanded", recipe_settings=settings), run)
    return run


@pytest.mark.kill
@pytest.mark.parametrize("what", ["plain", "memory, ramp and safeguards"])
def test_coupled_run_goes_on_after_a_kill(
    what: str, demo: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from subgrid.hosts import stepping as host_module

    monkeypatch.setattr(host_module, "PIECE_DAYS", 1)
    run, settings = demo / "run", {}
    if what != "plain":
        run, settings = request.getfixturevalue("remembering"), {**GRADUAL, "constraints": GUARDED}
    config = CoupleConfig(str(run), str(demo / "store.zarr"), days=3, timings=False, **settings)
    whole = couple(config, tmp_path / "whole").daily
    real = host_module.Progress.update
    calls = []

    def dying(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(host_module.Progress, "update", dying)
    with pytest.raises(KeyboardInterrupt):
        couple(config, tmp_path / "cut")
    assert (tmp_path / "cut" / "log.txt").read_text().endswith("couple: interrupted\n")
    assert not (tmp_path / "cut" / "metrics.json").exists()
    monkeypatch.setattr(host_module.Progress, "update", real)
    resumed = couple(config, tmp_path / "cut").daily
    assert (tmp_path / "cut" / "log.txt").read_text().count("couple: begins") == 2
    assert set(resumed) == set(whole) >= {"temperature", "specific_humidity", "evaporation", "inputs_clipped"}
    for name in whole:
        np.testing.assert_array_equal(resumed[name].values, whole[name].values, err_msg=str(name))
    if what != "plain":  # every safeguard had something to do
        assert all(float(whole[name].max()) > 0 for name in ("night_share", "tropopause_share"))


def test_unstable_run_is_a_result_that_names_the_place(demo: Path, tmp_path: Path):
    emulator = load_emulator(demo / "run", clip_outputs=False)
    with torch.no_grad():
        emulator.outputs.profile_mean[3, 0] += 0.02  # K/s at level 3
    save_emulator(emulator, tmp_path / "broken")
    config = CoupleConfig(emulator=str(tmp_path / "broken"), data=str(demo / "store.zarr"), days=2, timings=False)
    metrics = couple(config, tmp_path / "run").metrics
    assert not metrics["finite"] and metrics["first_unstable_day"] == 0
    assert metrics["unstable"]["variable"] in ("temperature", "u_wind", "v_wind")
    assert {"level", "latitude", "longitude", "time"} <= set(metrics["unstable"])
    assert (tmp_path / "run" / "last_good.safetensors").exists()


def test_control_is_run_where_the_store_does_not_reach(demo: Path, tmp_path: Path):
    config = CoupleConfig(
        emulator=str(demo / "run"), data=str(demo / "store.zarr"), days=5, timings=False, start="2000-10-14"
    )
    run = couple(config, tmp_path / "long")
    assert open_climate(tmp_path / "long" / "control" / "daily").sizes["time"] == 5
    assert run.comparison.sizes["time"] == run.metrics["days"]


@pytest.mark.slow
def test_expanded_inputs_train_and_couple(demo: Path, tmp_path: Path):
    """The host's memory (previous and dynamics tendencies) reaches the emulator inside the coupled run."""
    settings = {"epochs": 2, "batch_size": 1024}
    config = TrainConfig(data=str(demo / "store.zarr"), variables="speedy_expanded", recipe_settings=settings)
    emulator = fit(config, tmp_path / "run")
    assert emulator.network.shape.profiles_in == 21 and emulator.network.shape.scalars_in == 15
    coupled = CoupleConfig(str(tmp_path / "run"), str(demo / "store.zarr"), days=1, timings=False)
    assert couple(coupled, tmp_path / "coupled").metrics["finite"]


@pytest.mark.slow
def test_a_blend_couples_as_one_emulator(demo: Path, tmp_path: Path):
    run = load_emulator(demo / "run")
    weights = np.stack([np.full(run.network.shape.flat_out, w) for w in (1.5, -0.5)])
    save_emulator(BlendedEmulator([run, load_emulator(demo / "run")], weights), tmp_path / "blend")
    means = {}
    for name, emulator in (("run", demo / "run"), ("blend", tmp_path / "blend")):
        config = CoupleConfig(str(emulator), str(demo / "store.zarr"), days=1, bridge="callback", timings=False)
        found = couple(config, tmp_path / name)
        assert found.metrics["finite"]
        means[name] = found.daily["temperature"].values
    assert np.abs(means["blend"] - means["run"]).max() < 0.05  # 1.5 y - 0.5 y


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["standard", "confidence", "difference", "multirepresentation", "expanded"])
@pytest.mark.parametrize("architecture", names())
def test_every_pair_trains_couples_and_exports(demo: Path, tmp_path: Path, architecture: str, recipe: str):
    store = str(demo / "store.zarr")
    settings = {"epochs": 1, "batch_size": 1024}
    try:
        config = TrainConfig(data=store, architecture=architecture, recipe=recipe, recipe_settings=settings)
        fit(config, tmp_path / "run")
    except UsageError as error:
        assert "brings its own loss" in str(error) and recipe in ("confidence", "difference")
        return
    coupled = couple(CoupleConfig(str(tmp_path / "run"), store, days=1, timings=False), tmp_path / "coupled")
    assert coupled.metrics["days"] == 1 or coupled.metrics["unstable"]
    found = export(tmp_path / "run", tmp_path / "export", ExportConfig(str(store)))
    assert found["max_relative_difference"] <= 1e-5


def test_wrong_requests_are_refused_before_compiling(demo: Path, tmp_path: Path):
    good = {"emulator": str(demo / "run"), "data": str(demo / "store.zarr")}
    with pytest.raises(UsageError, match="2000-10-1"):
        couple(CoupleConfig(**good, start="1999-01-01"), tmp_path / "a")
    with pytest.raises(UsageError, match="callback"):
        CoupleConfig(**good, bridge="calback")
    with pytest.raises(UsageError, match="clip_outputs"):
        couple(CoupleConfig(**good, constraints={"clip_output": False}), tmp_path / "c")
    with pytest.raises(UsageError, match="surface"):
        CoupleConfig(**good, keep="surfaces")
    with pytest.raises(UsageError, match="days"):
        CoupleConfig(**good, days=0)


@pytest.mark.slow
def test_verbs_on_the_demo(demo: Path, tmp_path: Path):
    """Every verb once as a user types it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}

    def verb(*words: str) -> str:
        command = [sys.executable, "-m", "subgrid.cli.app", *words]
        found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert found.returncode == 0, found.stderr
        return found.stdout

    store, run = str(demo / "store.zarr"), "run"
    assert json.loads(verb("data", "info", store, "--json"))["columns"] == 2048
    trained = verb(
        "train", f"data={store}", f"out={run}", "architecture=unet", "recipe.epochs=1", "recipe.batch_size=1024"
    )
    assert "parameters" in trained
    scores = json.loads(verb("evaluate", run, "split=validation", "--json"))
    assert scores["split"] == "validation"
    assert "largest difference" in verb("export", run)
    assert "days" in verb("couple", run, "days=1", "timings=false", "bridge=callback")
    assert verb("report", str(demo), "--out", str(tmp_path / "page.html")).strip().endswith("page.html")
    assert (tmp_path / "page.html").read_text().startswith("<!")
