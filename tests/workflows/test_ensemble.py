"""Ensembles: members, noise floor, what a blown-up or failed member is, going on, dask; on the rings of Lorenz."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
import xarray as xr

from subgrid.base.errors import SubgridError, UsageError
from subgrid.cli.verbs import ensemble_settings
from subgrid.columns import ColumnGrid
from subgrid.coupling.ensemble import against, distance, growth_of, means, noise_floor, worst_zonal
from subgrid.emulator import load_emulator, save_emulator
from subgrid.hosts.base import host
from subgrid.hosts.sampling import GenerateConfig
from subgrid.physics.vertical import VerticalGrid
from subgrid.training import TrainConfig, fit
from subgrid.workflows.ensemble import EnsembleConfig, ensemble_lines, plan, run_ensemble, summarise

SAMPLING = GenerateConfig(
    spin_up_days=3, train_days=6, evaluation_days=8, gap_days=0, fraction=0.6, evaluation_fraction=0.6
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return host("lorenz96", columns=8, slow=8, fast=4).generate(tmp_path_factory.mktemp("rings") / "s.zarr", SAMPLING)


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "rings"
    settings = {"epochs": 6, "batch_size": 64}
    fit(TrainConfig(str(store.path), variables="lorenz96", network={"widths": [16]}, recipe_settings=settings), folder)
    return folder


def config(store, out, *runs, **changes):
    settings = {"controls": 3, "members": 2, "perturb": 0.1, "couple": {"days": 3}, "launcher": "debug", **changes}
    return EnsembleConfig(str(out), data=str(store.path), runs=tuple(map(str, runs)), **settings)


def test_members_differ_in_their_noise_alone(store, run, tmp_path):
    found = plan(config(store, tmp_path, run))
    assert [m.name for m in found] == ["control-m0", "control-m1", "control-m2", "rings-m0", "rings-m1"]
    assert [m.couple.perturb for m in found] == [0.0, 0.1, 0.1, 0.0, 0.1]
    assert [m.couple.member for m in found] == [0, 1, 2, 0, 1]
    assert {m.couple.days for m in found} == {3}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"controls": 1}, "at least 2"),
        ({"perturb": 0.0}, "the same run"),
        ({"couple": {"dayz": 3}}, "dayz"),
        ({"address": "tcp://x"}, "launcher=dask"),
        ({"launcher": "daks"}, "did you mean dask"),
    ],
)
def test_wrong_requests_are_refused(store, run, tmp_path, changes, says):
    with pytest.raises(UsageError, match=says):
        plan(config(store, tmp_path, run, **changes))


def test_two_runs_of_one_name_are_refused(store, run, tmp_path):
    shutil.copytree(run, tmp_path / "rings")
    with pytest.raises(UsageError, match="several runs are called rings"):
        plan(config(store, tmp_path / "out", run, tmp_path / "rings"))


def test_words_of_the_command_line(store, run):
    found = ensemble_settings(
        [str(run), "out=ens", "days=5", "ramp=linear", "ramp_steps=4", "controls=4", "emulator.night=false"]
    )
    assert found.runs == (str(run),) and found.data == str(store.path) and found.controls == 4
    assert (
        found.couple["days"] == 5
        and found.couple["ramp"] == "linear"
        and found.couple["constraints"] == {"night": False}
    )
    with pytest.raises(UsageError, match="name the runs"):
        ensemble_settings(["out=ens"])


@pytest.fixture(scope="module")
def done(store, run, tmp_path_factory):
    """An ensemble with a run that blows up."""
    folder = tmp_path_factory.mktemp("ensemble")
    broken = load_emulator(run)
    with torch.no_grad():
        broken.outputs.profile_mean += 1e-2
    save_emulator(broken, folder / "broken")
    out = folder / "out"
    return out, run_ensemble(config(store, out, run, folder / "broken", members=1)), folder


def test_a_blown_up_member_is_a_result(done):
    out, summary, _ = done
    assert summary["counts"] == {"finished": 5, "running": 0, "waiting": 0, "failed": 0}
    assert not summary["members"]["broken-m0"]["finite"] and "ratio" not in summary["members"]["broken-m0"]
    assert summary["members"]["rings-m0"]["ratio"]["x"] > 0.5
    assert summary["floor"]["x"] > 0 and summary["controls"] == ["control-m0", "control-m1", "control-m2"]
    lines = ensemble_lines(summary, str(out))
    assert any("broken-m0" in line and "unstable" in line for line in lines)
    assert (out / "growth.png").read_bytes().startswith(b"\x89PNG") and (out / "survival.png").exists()


def test_what_is_finished_is_not_run_again_and_what_is_missing_is(store, run, done):
    out, summary, folder = done
    before = (out / "control-m1" / "metrics.json").stat().st_mtime_ns
    shutil.rmtree(out / "rings-m0")
    again = run_ensemble(config(store, out, run, folder / "broken", members=1))
    assert (out / "control-m1" / "metrics.json").stat().st_mtime_ns == before
    assert again["members"]["rings-m0"]["rmse"] == summary["members"]["rings-m0"]["rmse"]


def test_other_settings_in_its_folder_are_refused(store, run, done):
    out, _, folder = done
    with pytest.raises(SubgridError, match="begun with another days"):
        run_ensemble(config(store, out, run, folder / "broken", members=1, couple={"days": 2}))


def test_a_floor_needs_two_controls(done, tmp_path):
    out, _, _ = done
    shutil.copytree(out, tmp_path / "out")
    for k in (1, 2):
        shutil.rmtree(tmp_path / "out" / f"control-m{k}")
    with pytest.raises(SubgridError, match="1 finished control members"):
        summarise(tmp_path / "out")


def test_dask_gives_the_same(store, run, done, tmp_path):
    _, summary, _ = done
    found = run_ensemble(config(store, tmp_path / "dask", run, members=1, launcher="dask", workers=2))
    assert found["counts"]["finished"] == 4
    assert json.dumps(found["members"]["rings-m0"]["rmse"]) == json.dumps(summary["members"]["rings-m0"]["rmse"])


class TestDistances:
    """By hand, on two columns and two levels."""

    @pytest.fixture
    def grid(self):
        return ColumnGrid(
            np.zeros(2), np.array([0.0, 180.0]), np.array([1.0, 3.0]), VerticalGrid.sigma([0.0, 0.25, 1.0])
        )

    @staticmethod
    def climate(value):
        time = np.datetime64("2000-01-01", "ns") + np.arange(4) * np.timedelta64(1, "D")
        fields = np.zeros((4, 2, 2))
        fields[2:, 1, 1] = value
        return xr.Dataset({"temperature": (("time", "level", "column"), fields)}, coords={"time": time})

    def test_a_distance_is_weighted_by_mass_and_area(self, grid):
        one, other = (means(self.climate(v), slice(2, 4), grid) for v in (0.0, 4.0))
        assert distance(one, other, grid)["temperature"] == pytest.approx(np.sqrt(16 * 0.75 * 0.75))
        # both columns lie on the equator: their zonal mean is that of the area, 3
        assert distance(one, other, grid)["zonal_temperature"] == pytest.approx(np.sqrt(9 * 0.75))
        assert distance(one, other, grid)["global_temperature_lowest"] == pytest.approx(3.0)

    def test_the_floor_is_the_median_over_pairs(self, grid):
        climates = [means(self.climate(v), slice(2, 4), grid) for v in (0.0, 1.0, 5.0)]
        assert noise_floor(climates, grid)["temperature"] == pytest.approx(4 * 0.75)  # of 1, 4 and 5
        assert against(means(self.climate(2.0), slice(2, 4), grid), climates, grid)["temperature"] == pytest.approx(
            2 * 0.75
        )
        assert noise_floor(climates[:1], grid) == {}

    def test_a_zonal_mean_departs_from_the_mean_of_the_controls_and_these_from_each_other(self, grid):
        controls = [means(self.climate(v), slice(2, 4), grid) for v in (0.0, 4.0, 8.0)]
        found = worst_zonal(means(self.climate(0.0), slice(2, 4), grid), controls, grid)
        assert found["difference_K"] == pytest.approx(-0.75 * 4.0) and found["sigma"] == pytest.approx(0.625)
        assert found["between_controls_K"] == pytest.approx(0.75 * 6.0)  # of 6, 0 and 6
        assert "between_controls_K" not in worst_zonal(controls[0], controls[:1], grid)

    def test_growth_is_by_day_and_ends_with_its_run(self, grid):
        controls = [self.climate(v) for v in (0.0, 1.0)]
        short = self.climate(2.0).isel(time=slice(0, 3))
        found = growth_of({"run": short}, controls, grid, 4)
        np.testing.assert_allclose(found["growth_temperature"][0], [0, 0, 1.5, np.nan])
        np.testing.assert_allclose(found["noise_temperature"].sel(quantile=0.5), [0, 0, 0.75, 0.75])
