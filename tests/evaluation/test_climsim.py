"""The literature's scores of a store equal plain numpy on whole (time, column, level) arrays."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns.variables import offsets, variable_set
from subgrid.emulator import EmulatorConfig, build_emulator, save_emulator
from subgrid.evaluation import EvaluateConfig, evaluate
from subgrid.evaluation.climsim import climsim_lines, score
from subgrid.evaluation.confidence import Confidence
from subgrid.physics.moisture import liquid_partition
from subgrid.scores.members import fair_crps
from subgrid.training.statistics import fit_transforms

G, CP, LV, RHO = 9.80616, 1004.64, 2.501e6, 1000.0
LEVELS, COLUMNS = 6, 24
PHASES = ("state_q0002", "state_q0003", "ptend_q0002", "ptend_q0003")


def guess(x, width, seed=0, members=0):
    """A deterministic function of flat columns: the truth's scale, but little of the truth."""
    mixing = np.random.default_rng(seed).standard_normal((members or 1, x.shape[1], width)) / np.sqrt(x.shape[1])
    spread = np.float32(1.0) + np.abs(x)
    values = (x / spread).astype(np.float64) @ mixing * 2e-5
    return values if members else values[0]


def predictor(variables, **settings):
    width = sum(v.width(LEVELS) for v in variables.targets)
    return lambda x: guess(x, width, **settings)


def flat(whole, variables):
    """(time, column, channel) of ``variables``, as the store holds them."""
    values = [whole.values[v.name] for v in variables]
    return np.concatenate([v if v.ndim == 3 else v[..., None] for v in values], axis=-1)


def factors(whole):
    """What turns each variable into W/m2 times area / mean(area), as the published code does with whole arrays."""
    grid = whole.store.grid
    ps = whole.values["state_ps"].astype(np.float64)[..., None]
    a, b = np.array(grid.vertical.hyai), np.array(grid.vertical.hybi)
    interfaces = a * 1e5 + b * ps
    mass = np.diff(interfaces, axis=-1) / G
    area = (grid.area / grid.area.mean())[:, None]
    u, v = (whole.values[f"state_{n}"].astype(np.float64) for n in "uv")
    found = {"ptend_t": CP * mass, "ptend_u": np.hypot(u, v) * mass, "ptend_v": np.hypot(u, v) * mass}
    found |= {f"ptend_q{n}": LV * mass for n in ("0001", "0002", "0003", "n")}
    found |= {"cam_out_PRECC": LV * RHO, "cam_out_PRECSC": LV * RHO}
    return {v.name: found.get(v.name, 1.0) * area for v in whole.variables.targets} | {"water": LV * mass * area}


def published(prediction, truth):
    """The published formulas on (time, column, level)."""
    error = prediction - truth
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = 1.0 - (error**2).sum(0) / ((truth - truth.mean(0)) ** 2).sum(0)
    found = {
        "mae": np.abs(error).mean(0),
        "rmse": np.sqrt((error**2).mean(0)),
        "bias": error.mean(0),
        "r2": r2,
    }
    return {name: values.mean(0) for name, values in found.items()}


def compare(found, prediction, truth):
    """Scores of one variable against :func:`published`."""
    for name, wanted in published(prediction, truth).items():
        levels = np.array([np.nan if v is None else v for v in found[f"{name}_level"]])
        there = np.isfinite(wanted)
        assert there.any() and (np.isfinite(levels) == there).all()
        np.testing.assert_allclose(levels[there], wanted[there], rtol=1e-10, atol=1e-12 * np.abs(truth).max())
        if there.all():
            assert found[name] == pytest.approx(wanted.mean(), rel=1e-10, abs=1e-12 * np.abs(truth).max())
        else:
            assert name == "r2" and found[name] is None


@pytest.fixture(scope="module")
def v1(whole_climsim):
    return whole_climsim("v1")


@pytest.fixture(scope="module")
def v1_scores(v1, tmp_path_factory):
    out = tmp_path_factory.mktemp("v1")
    return score(v1.variables, predictor(v1.variables), v1.store["scoring"], out), out


@pytest.mark.parametrize("name", ["v1", "v2", "v2_rh_mc"])
def test_equal_to_the_published_aggregation_on_whole_arrays(whole_climsim, tmp_path, name):
    whole = whole_climsim(name)
    variables = whole.variables
    found = score(variables, predictor(variables), whole.store["scoring"], tmp_path)
    x, y = flat(whole, variables.inputs), flat(whole, variables.targets).astype(np.float64)
    p = guess(x.reshape(-1, x.shape[-1]), y.shape[-1]).reshape(y.shape)
    by_name = factors(whole)
    for variable, part in offsets(variables.targets, LEVELS).items():
        factor = by_name[variable]
        compare(found["variables"][variable], p[..., part] * factor, y[..., part] * factor)
    assert list(found["variables"]) == [v.name for v in variables.targets]
    assert (found["columns"], found["days"]) == (COLUMNS, 5)
    assert found["rows_per_column"] == {"least": 60, "most": 60}


def test_dry_levels_are_left_out_of_the_guarded_r2_and_counted(v1_scores):
    found = v1_scores[0]["variables"]["ptend_q0001"]
    assert found["r2"] is None and found["n_constant_level"] == [COLUMNS] + [0] * (LEVELS - 1)
    assert found["r2_guarded"] == pytest.approx(np.mean(found["r2_level"][1:]), rel=1e-12)
    assert np.isfinite(found["r2_pooled"])


def test_wind_comes_from_the_array_scoring_where_the_set_has_none(whole_climsim, tmp_path):
    """The same weights as where the wind is an input; without it the store is refused."""
    whole = whole_climsim("v2", scoring=())
    variables = whole.variables
    calm = replace(
        variables, inputs=tuple(v for v in variables.inputs if v.name not in ("state_u", "state_v")), name="calm"
    )
    wanted = score(variables, predictor(variables), whole.store["scoring"], tmp_path / "a")

    def predict(x):
        full = whole.store["scoring"].read_variables(variables.inputs, blocks.pop(0))
        return predictor(variables)(full)

    blocks = list(range(whole.store["scoring"].blocks))
    found = score(calm, predict, whole.store["scoring"], tmp_path / "b")
    assert found["variables"]["ptend_u"] == wanted["variables"]["ptend_u"]
    assert "input wind" in found["about"]["wind"]


def test_a_store_without_wind_is_refused_by_name(v1, tmp_path):
    windy = replace(
        v1.variables, targets=(variable_set("v2").targets[4], *v1.variables.targets), name="windy without wind"
    )
    with pytest.raises(UsageError, match="state_u"):
        score(windy, predictor(windy), v1.store["scoring"], tmp_path)


def test_cloud_liquid_and_ice_against_true_and_against_rebuilt_truth(whole_climsim, tmp_path):
    whole = whole_climsim("v2_rh_mc", scoring=PHASES)
    variables = whole.variables
    found = score(variables, predictor(variables), whole.store["scoring"], tmp_path)
    x, y = flat(whole, variables.inputs), flat(whole, variables.targets).astype(np.float64)
    p = guess(x.reshape(-1, x.shape[-1]), y.shape[-1]).reshape(y.shape)
    place = offsets(variables.targets, LEVELS)
    t, qc, qi = (whole.values[f"state_{n}"].astype(np.float64) for n in ("t", "q0002", "q0003"))

    def split_by_the_ramp(values):
        share = liquid_partition(t + 1200.0 * values[..., place["ptend_t"]])
        after = qc + qi + 1200.0 * values[..., place["ptend_qn"]]
        return (share * after - qc) / 1200.0, ((1.0 - share) * after - qi) / 1200.0

    factor = factors(whole)["water"]
    for name, predicted, rebuilt in zip(
        ("ptend_q0002", "ptend_q0003"), split_by_the_ramp(p), split_by_the_ramp(y), strict=True
    ):
        truth = whole.values[name].astype(np.float64)
        compare(found["variables"][name], predicted * factor, truth * factor)
        compare(found["variables"][f"{name}_ramp"], predicted * factor, rebuilt * factor)
        assert found["variables"][name]["units"] == "W/m2"
    sections = xr.open_zarr(tmp_path / "climsim", consolidated=False)
    assert {"bias_ptend_q0002", "bias_ptend_q0003_ramp", "daily_r2_ptend_qn"} <= set(sections)


def test_without_the_phases_in_the_store_the_sum_alone_is_scored(whole_climsim, tmp_path):
    whole = whole_climsim("v2_rh_mc")
    found = score(whole.variables, predictor(whole.variables), whole.store["scoring"], tmp_path)
    assert "ptend_qn" in found["variables"] and "ptend_q0002" not in found["variables"]


def test_members_are_scored_by_crps_too(v1, tmp_path):
    variables = v1.variables
    found = score(variables, predictor(variables, members=4), v1.store["scoring"], tmp_path)
    x, y = flat(v1, variables.inputs), flat(v1, variables.targets).astype(np.float64)
    p = guess(x.reshape(-1, x.shape[-1]), y.shape[-1], members=4).reshape(4, *y.shape)
    by_name = factors(v1)
    for name, part in offsets(variables.targets, LEVELS).items():
        truth, members = y[..., part] * by_name[name], p[..., part] * by_name[name]
        compare(found["variables"][name], members.mean(0), truth)
        wanted = fair_crps(members, truth).mean((0, 1))
        np.testing.assert_allclose(found["variables"][name]["crps_level"], wanted, rtol=1e-10, atol=1e-12)


def test_sections_equal_plain_numpy(v1, v1_scores):
    """Zonal means in bands of 10 degrees, and R2 of daily means of those bands."""
    sections = xr.open_zarr(v1_scores[1] / "climsim", consolidated=False)
    variables, grid = v1.variables, v1.store.grid
    x, y = flat(v1, variables.inputs), flat(v1, variables.targets).astype(np.float64)
    p = guess(x.reshape(-1, x.shape[-1]), y.shape[-1]).reshape(y.shape)
    weight = grid.area.astype(np.float32).astype(np.float64)
    centres = np.arange(-85.0, 90.0, 10.0)
    assert sections.latitude.values.tolist() == centres.tolist()
    part = offsets(variables.targets, LEVELS)["ptend_t"]
    truth, prediction = y[..., part], p[..., part]
    for k, centre in enumerate(centres):
        inside = np.abs(grid.latitude - centre) < 5.0
        found = {kind: sections[f"{kind}_ptend_t"].values[k] for kind in ("truth", "bias", "daily_r2")}
        if not inside.any():
            assert all(np.isnan(v).all() for v in found.values())
            continue
        w = weight[inside] / weight[inside].sum()
        zonal = [np.einsum("tcl,c->tl", v[:, inside], w) for v in (truth, prediction)]
        np.testing.assert_allclose(found["truth"], zonal[0].mean(0), rtol=1e-10)
        np.testing.assert_allclose(found["bias"], (zonal[1] - zonal[0]).mean(0), rtol=1e-9)
        days = [v.reshape(5, 12, LEVELS).mean(1) for v in zonal]
        spread = ((days[0] - days[0].mean(0)) ** 2).sum(0)
        np.testing.assert_allclose(found["daily_r2"], 1.0 - ((days[1] - days[0]) ** 2).sum(0) / spread, rtol=1e-9)


def test_moistening_by_amount_of_rain_equals_plain_numpy(v1, v1_scores):
    result, out = v1_scores
    sections = xr.open_zarr(out / "climsim", consolidated=False)
    x, y = flat(v1, v1.variables.inputs), flat(v1, v1.variables.targets).astype(np.float64)
    x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    part = offsets(v1.variables.targets, LEVELS)["ptend_q0001"]
    error = (guess(x, y.shape[1]) - y)[:, part]
    rain = v1.values["cam_out_PRECC"].astype(np.float64).ravel()
    edges = np.percentile(rain[rain > 0], np.arange(10, 100, 10))
    np.testing.assert_array_equal(result["rain_edges"], edges)
    ends = zip([0.0, *edges], [*edges, np.inf], strict=True)
    bins = [rain == 0, *((rain > 0) & (rain >= a) & (rain < b) for a, b in ends)]
    rows = sections.rain_rows.values
    assert rows.sum() == rain.size and rows.tolist() == [b.sum() for b in bins]
    assert np.ptp(rows[1:]) <= 2
    for k, inside in enumerate(bins):
        np.testing.assert_allclose(sections.moistening_bias.values[k], error[inside].mean(0), rtol=1e-9)
        np.testing.assert_allclose(sections.moistening_truth.values[k], y[inside][:, part].mean(0), rtol=1e-9)


def test_the_zonal_mean_of_a_confidence(v1, tmp_path):
    targets = v1.variables.targets
    width = sum(v.width(LEVELS) for v in targets)
    sure = Confidence(targets, width, lambda x: np.tile(x[:, :1].astype(np.float64), (1, width)))
    score(v1.variables, predictor(v1.variables), v1.store["scoring"], tmp_path, sure)
    found = xr.open_zarr(tmp_path / "climsim", consolidated=False).confidence_ptend_t.values
    top = v1.values["state_t"][..., 0].astype(np.float64).mean(0)
    grid = v1.store.grid
    inside = np.abs(grid.latitude - 5.0) < 5.0
    wanted = np.average(top[inside], weights=grid.area[inside].astype(np.float32))
    np.testing.assert_allclose(found[9], np.full(LEVELS, wanted), rtol=1e-10)


def test_published_rows_stand_beside_the_run(v1_scores):
    result = v1_scores[0]
    table = result["published"]
    mine = result["variables"]["cam_out_NETSW"]
    assert table["mae"]["cam_out_NETSW"]["this run"] == mine["mae"]
    assert table["r2"]["cam_out_NETSW"]["MLP"] == 0.983
    lines = climsim_lines("climsim", result)
    row = next(line for line in lines if line.startswith("cam_out_NETSW") and "13.36" in line)
    assert row.split()[1:7] == ["18.85", "14.97", "19.82", "13.36", "18.88", "19.73"]
    assert row.split()[7] == f"{mine['mae']:.4g}"
    assert any("source: Yu et al. (2023)" in line for line in lines)
    dry = next(line for line in lines if line.startswith("ptend_q0001"))
    assert "--" in dry and "24 of 24 at worst" in dry


def test_evaluate_with_metrics_climsim_writes_what_it_returns(v1, tmp_path):
    """An emulator, through ``evaluate``: in scores.json, and again with a second run over the first."""
    torch.manual_seed(0)
    config = EmulatorConfig(**v1.variables.emulator)
    emulator = build_emulator("mlp", v1.variables, v1.store.grid.vertical, 1200.0, config, widths=[8])
    fit_transforms(emulator, v1.store["train"])
    save_emulator(emulator.eval(), tmp_path / "emulator")
    chosen = EvaluateConfig(str(tmp_path / "emulator"), str(v1.store.path), "scoring", "climsim")
    out = tmp_path / "out"
    first = evaluate(chosen, out)
    held = json.loads((out / "scores.json").read_text())
    assert held["metrics"]["climsim"] == json.loads(json.dumps(first["metrics"]["climsim"]))
    again = evaluate(chosen, out)
    assert again["metrics"] == first["metrics"]
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == ["climsim", "sections"]


def test_an_empty_split_is_refused(v1, tmp_path):
    split = v1.store["scoring"]
    empty = type("Empty", (), {"samples": 0, "folder": split.folder})()
    with pytest.raises(SubgridError, match="holds no samples"):
        score(v1.variables, predictor(v1.variables), empty, tmp_path)
    assert not (tmp_path / "climsim").exists()
