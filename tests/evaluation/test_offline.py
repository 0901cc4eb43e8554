"""Offline scores: equal to plain numpy over the whole split, with floors, units and constants as documented."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.formats import EVALUATION, read_record
from subgrid.columns.variables import offsets, variable_set
from subgrid.emulator import FlatEmulator, load_emulator
from subgrid.evaluation import EvaluateConfig, evaluate
from subgrid.evaluation.energy import energy_factors
from subgrid.physics.constants import SPEEDY as C
from subgrid.physics.vertical import VerticalGrid


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluation") / "out"


@pytest.fixture(scope="module")
def scores(out, tiny_run, tiny_store):
    return evaluate(EvaluateConfig(str(tiny_run), str(tiny_store.path)), out)


@pytest.fixture(scope="module")
def plain(tiny_run, tiny_store, split_rows):
    """Everything that a plain evaluation needs, float64, all samples at once."""
    emulator = load_emulator(tiny_run)
    rows = split_rows["test"]
    with torch.inference_mode():  # block by block: the scores compare to 1e-10, matrix products only to 1e-6
        cuts = range(0, len(rows["inputs"]), 256)
        parts = [FlatEmulator(emulator)(torch.from_numpy(rows["inputs"][i : i + 256]))[0] for i in cuts]
    ps = rows["inputs"][:, 32].astype(np.float64)
    return {
        "emulator": emulator,
        "prediction": torch.cat(parts).double().numpy(),
        "truth": rows["targets"].astype(np.float64),
        "weight": rows["weight"].astype(np.float64),
        "mass": ps[:, None] * np.diff(tiny_store.grid.vertical.hybi) / C.gravity,
        "train_mean": split_rows["train"]["targets"].astype(np.float64).mean(0),
        "column": rows["column"],
    }


def numpy_scores(plain, prediction, part, profile):
    """R2, MAE, RMSE and bias of one variable as the formula says, in two passes."""
    y, p = plain["truth"][:, part], prediction[:, part]
    w = plain["weight"][:, None] * (plain["mass"] if profile else np.ones_like(y))
    mean = (w * y).sum(0) / w.sum(0)
    spread = (w * (y - mean) ** 2).sum(0)
    live = np.sqrt(spread / w.sum(0)) > 1e-5 * np.abs(mean)
    error = p - y
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "r2": 1.0 - (w * error**2).sum(0)[live].sum() / spread[live].sum(),
            "mae": (w * np.abs(error)).sum() / w.sum(),
            "rmse": np.sqrt((w * error**2).sum() / w.sum()),
            "bias": (w * error).sum() / w.sum(),
            "r2_level": np.where(live, 1.0 - (w * error**2).sum(0) / spread, np.nan),
            "n_constant": int((~live).sum()),
        }


def test_scores_equal_plain_numpy(scores, plain):
    place = offsets(plain["emulator"].variables.targets, 8)
    predictions = {
        "emulator": plain["prediction"],
        "mean": np.broadcast_to(plain["train_mean"], plain["truth"].shape),
    }
    for model, prediction in predictions.items():
        for v in plain["emulator"].variables.targets:
            wanted = numpy_scores(plain, prediction, place[v.name], v.kind == "profile")
            found = scores["models"][model][v.name]
            for key in ("mae", "rmse", "r2"):
                assert found[key] == pytest.approx(wanted[key], rel=1e-10, abs=1e-12 * (key == "r2")), (v.name, key)
            assert found["bias"] == pytest.approx(wanted["bias"], rel=1e-10, abs=1e-12 * wanted["mae"])
            levels = np.array([np.nan if r is None else r for r in found["r2_level"]])
            np.testing.assert_allclose(levels, wanted["r2_level"], rtol=1e-9, atol=1e-9)
            assert found["n_constant"] == wanted["n_constant"]
            assert found["n_samples"] == 520 and found["n_nonfinite"] == 0


def test_the_training_mean_scores_just_below_zero(scores):
    for name, found in scores["models"]["mean"].items():
        assert -0.05 < found["r2"] <= 0.0, name


def test_emulator_and_ridge_beat_the_mean(scores):
    mean = {m: np.mean([v["r2"] for v in found.values()]) for m, found in scores["models"].items()}
    assert mean["ridge"] > 0.5 and mean["emulator"] > 0.1 > mean["mean"]


def test_constants_are_masked_and_counted(scores):
    """No humidity tendency on the top level, no winds above the lowest."""
    assert scores["constant_channels"] == 1 + 7 + 7
    for model in ("emulator", "ridge", "mean"):
        found = scores["models"][model]
        assert found["u_wind_tendency"]["constant"] == [True] * 7 + [False]
        assert found["v_wind_tendency"]["r2_level"][:7] == [None] * 7
        assert found["specific_humidity_tendency"]["constant"] == [True] + [False] * 7
        assert found["specific_humidity_tendency"]["r2_level"][0] is None
        assert found["u_wind_tendency"]["r2"] is not None


def test_energy_factors_by_hand(plain):
    """A layer of 1000 Pa holds 1000 / 9.81 kg/m2; cp of it for temperature, Lv of it for humidity."""
    emulator = plain["emulator"]
    place = offsets(emulator.variables.targets, 8)
    factor = energy_factors(emulator.variables, np.zeros((2, 45), np.float32), np.full((2, 8), 1000.0 / 9.81))
    np.testing.assert_allclose(factor[:, place["temperature_tendency"]], 1004.64 * 1000.0 / 9.81)
    np.testing.assert_allclose(factor[:, place["specific_humidity_tendency"]], 2.501e6 * 1000.0 / 9.81)
    np.testing.assert_array_equal(factor[:, place["evaporation"]], 2.501e6)
    np.testing.assert_array_equal(factor[:, place["sensible_heat_flux"]], 1.0)
    np.testing.assert_array_equal(factor[:, place["surface_stress_u"]], 1.0)


def test_energy_factors_of_climsim_by_hand():
    """Its own constants, precipitation as a depth, and the speed of the input wind for both winds' tendencies."""
    variables = variable_set("v2")
    place, ours = offsets(variables.targets, 4), offsets(variables.inputs, 4)
    x = np.zeros((1, 9 * 4 + 17), np.float32)
    x[:, ours["state_u"]], x[:, ours["state_v"]] = 3.0, -4.0
    factor = energy_factors(variables, x, np.full((1, 4), 100.0))
    for name in ("ptend_q0001", "ptend_q0002", "ptend_q0003"):
        np.testing.assert_allclose(factor[:, place[name]], 2.501e8)
    for name in ("ptend_u", "ptend_v"):
        np.testing.assert_allclose(factor[:, place[name]], 500.0)
    np.testing.assert_allclose(factor[:, place["ptend_t"]], 100464.0)
    np.testing.assert_allclose(factor[:, place["cam_out_PRECC"]], 2.501e9)
    np.testing.assert_array_equal(factor[:, place["cam_out_NETSW"]], 1.0)


def test_errors_in_watts(scores, plain):
    place = offsets(plain["emulator"].variables.targets, 8)
    weight = plain["weight"][:, None]
    for name, factor in {
        "temperature_tendency": 1004.64 * plain["mass"],
        "specific_humidity_tendency": 2.501e6 * plain["mass"],
        "evaporation": 2.501e6,
        "absorbed_solar": 1.0,
    }.items():
        error = (plain["prediction"] - plain["truth"])[:, place[name]] * factor
        w = np.broadcast_to(weight, error.shape)
        found = scores["models"]["emulator"][name]
        assert found["mae_energy"] == pytest.approx((w * np.abs(error)).sum() / w.sum(), rel=1e-10)
        assert found["rmse_energy"] == pytest.approx(np.sqrt((w * error**2).sum() / w.sum()), rel=1e-10)
        bias = (w * error).sum() / w.sum()
        assert found["bias_energy"] == pytest.approx(bias, rel=1e-9, abs=1e-12 * found["mae_energy"])
        assert scores["variables"][name]["energy_units"] == "W/m2"
    assert scores["models"]["emulator"]["surface_stress_u"]["mae_energy"] is None
    assert scores["variables"]["surface_stress_u"]["energy_units"] is None


def test_the_scores_are_on_disk_as_they_are_returned(scores, out):
    assert read_record(out / "scores.json", EVALUATION) == json.loads(json.dumps(scores))
    assert (scores["split"], scores["samples"], scores["columns"]) == ("test", 520, 16)


def test_sections_equal_plain_numpy(scores, out, plain, tiny_store):
    sections = xr.open_zarr(out / "sections", consolidated=False)
    assert sections.latitude.values.tolist() == [-60.0, -20.0, 20.0, 60.0]
    place = offsets(plain["emulator"].variables.targets, 8)["temperature_tendency"]
    here = tiny_store.grid.latitude[plain["column"]] == 20.0
    y, p = plain["truth"][here][:, place], plain["prediction"][here][:, place]
    w = plain["weight"][here][:, None]
    mean = (w * y).sum(0) / w.sum()
    row = sections.sel(latitude=20.0)
    np.testing.assert_allclose(row.truth_temperature_tendency, mean, rtol=1e-9)
    np.testing.assert_allclose(row.bias_temperature_tendency, (w * (p - y)).sum(0) / w.sum(), rtol=1e-6)
    r2 = 1.0 - (w * (p - y) ** 2).sum(0) / (w * (y - mean) ** 2).sum(0)
    np.testing.assert_allclose(row.r2_temperature_tendency, r2, rtol=1e-6)
    assert np.isnan(row.r2_u_wind_tendency.values[:7]).all() and np.isfinite(row.r2_u_wind_tendency.values[7])


def test_another_split_can_be_scored_and_an_evaluation_repeated(tmp_path, tiny_run, tiny_store):
    config = EvaluateConfig(str(tiny_run), str(tiny_store.path), split="validation")
    first, again = (evaluate(config, tmp_path / "out") for _ in range(2))
    assert first["samples"] == 500
    assert first == again


def test_an_unknown_split_is_refused(tmp_path, tiny_run, tiny_store):
    with pytest.raises(UsageError, match="no split 'tset'; it has test, train, validation"):
        evaluate(EvaluateConfig(str(tiny_run), str(tiny_store.path), split="tset"), tmp_path / "out")


def test_a_store_without_the_emulators_variables_is_refused(tmp_path, make_spec, make_rows, write_store, tiny_run):
    arrays = {"inputs": make_spec().arrays["inputs"]}
    rows = {k: v for k, v in make_rows(20).items() if k not in ("history", "targets")}
    store = write_store(tmp_path / "s.zarr", {"train": rows, "test": rows}, arrays=arrays)
    with pytest.raises(UsageError, match=r"lacks temperature_tendency, .*surface_net_heat_flux"):
        evaluate(EvaluateConfig(str(tiny_run), str(store.path)), tmp_path / "out")


def test_a_store_of_other_levels_is_refused(tmp_path, column_grid, make_spec, make_rows, write_store, tiny_run):
    grid = replace(column_grid, vertical=VerticalGrid.sigma((0.0, 0.2, 0.5, 0.8, 1.0)))
    rows = make_rows(20)
    for name, variables in make_spec().arrays.items():
        rows[name] = np.ones((20, sum(v.width(4) for v in variables)), np.float32)
    store = write_store(tmp_path / "s.zarr", {"train": rows, "test": rows}, grid=grid)
    with pytest.raises(SubgridError, match="has 4 levels, the emulator 8"):
        evaluate(EvaluateConfig(str(tiny_run), str(store.path)), tmp_path / "out")


def test_budgets_are_those_of_plain_numpy(scores, plain):
    """Water by hand; energy's terms are tested with the budgets themselves."""
    place = offsets(plain["emulator"].variables.targets, 8)

    def residuals(rows):
        moistening = (plain["mass"] * rows[:, place["specific_humidity_tendency"]]).sum(1)
        rain = rows[:, place["convective_precipitation"]] + rows[:, place["large_scale_precipitation"]]
        evaporation = rows[:, place["evaporation"]][:, 0]
        size = np.abs(plain["mass"] * rows[:, place["specific_humidity_tendency"]]).sum(1) + np.abs(evaporation)
        size += np.abs(rows[:, place["convective_precipitation"]])[:, 0]
        return moistening + rain[:, 0] - evaporation, size + np.abs(rows[:, place["large_scale_precipitation"]])[:, 0]

    found = scores["budgets"]["water"]
    assert found["units"] == "kg/m2/s" and len(found["terms"]) == 4
    for who, rows in (("truth", plain["truth"]), ("emulator", plain["prediction"])):
        residual, size = residuals(rows)
        weight = plain["weight"] / plain["weight"].sum()
        assert found[who]["mean"] == pytest.approx((weight * residual).sum(), rel=1e-6)
        assert found[who]["rms"] == pytest.approx(np.sqrt((weight * residual**2).sum()), rel=1e-6)
        assert found[who]["relative_max"] == pytest.approx((np.abs(residual) / size).max(), rel=1e-6)
    assert set(scores["budgets"]["energy"]) == {"units", "terms", "truth", "emulator"}


def test_other_constraints_change_the_scores_and_not_the_run(tiny_run, tiny_store, tmp_path, scores):
    config = EvaluateConfig(str(tiny_run), str(tiny_store.path), constraints={"energy": "level", "water": "projection"})
    found = evaluate(config, tmp_path / "closed")
    assert found["constraints"] == config.constraints and "constraints" not in scores
    for name in ("energy", "water"):
        assert found["budgets"][name]["emulator"]["relative_max"] < 1e-6 < scores["budgets"][name]["emulator"]["rms"]
    assert load_emulator(tiny_run).config.energy == "none"
    with pytest.raises(SubgridError, match="cannot change after training"):
        evaluate(replace(config, constraints={"inputs": "raw"}), tmp_path / "other")
