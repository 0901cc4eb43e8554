"""Synthetic files: the published schema, and columns that could be air."""

from __future__ import annotations

from itertools import pairwise

import netCDF4
import numpy as np
import pytest

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns import variable_set
from subgrid.columns.climsim.names import step_number
from subgrid.columns.climsim.sample import SampleConfig, sample_grid, write_sample
from subgrid.physics.constants import E3SM
from subgrid.physics.moisture import saturation_specific_humidity

from .conftest import COLUMNS, LEVELS
from .files import path_of, read_raw

FIRST = step_number(1, 2, 1, 0)
STATE = ["state_t", "state_q0001", "state_q0002", "state_q0003", "state_u", "state_v"]


@pytest.fixture(scope="module")
def day(sample):
    """Both files of each step of the first day."""
    return [[read_raw(path_of(sample / "train", k, FIRST + n)) for k in ("mli", "mlo")] for n in range(72)]


def test_the_schema_is_the_published_one(sample):
    """Names, dimensions, types, attributes; with 60 levels 557 + 60 values a column before physics, 368 after."""
    published = variable_set("v2")
    with netCDF4.Dataset(path_of(sample / "train", "mli", FIRST)) as file:
        assert file.data_model == "NETCDF3_64BIT_DATA"
        assert file.source.startswith("synthetic")
        assert {n: len(d) for n, d in file.dimensions.items()} == {"lev": LEVELS, "ncol": COLUMNS}
        assert {v.name for v in published.inputs} | {"state_pmid", "ymd", "tod"} == set(file.variables)
        for name, variable in file.variables.items():
            if name not in ("ymd", "tod"):
                assert variable.dtype == np.float64
                assert variable.dimensions in (("lev", "ncol"), ("ncol",))
                assert variable.units
                assert variable.long_name
        assert (int(file["ymd"][...]), int(file["tod"][...])) == (10201, 0)
        widths = [60 if v.ndim == 2 else 1 for n, v in file.variables.items() if n not in ("ymd", "tod")]
        assert sum(widths) == 617
    with netCDF4.Dataset(path_of(sample / "train", "mlo", FIRST)) as file:
        assert set(file.variables) - {"ymd", "tod"} == {
            *STATE,
            *(v.name for v in published.targets if v.kind != "profile"),
        }
        assert sum(60 if v.ndim == 2 else 1 for v in file.variables.values()) - 2 == 368


def test_every_period_has_its_days(sample):
    months = {p.name: len(list(p.iterdir())) for p in sorted((sample / "train").iterdir())}
    assert months == {"0001-02": 144, "0008-02": 144, "0009-03": 144}


def test_files_say_how_they_were_made_in_netcdf4_too(tmp_path):
    write_sample(tmp_path, SampleConfig(columns=4, levels=8, stride=72, format="netcdf4"))
    with netCDF4.Dataset(path_of(tmp_path / "train", "mlo", FIRST)) as file:
        assert file.data_model == "NETCDF4"
        assert file.source.startswith("synthetic")


def test_the_hybrid_levels_are_pure_pressure_aloft():
    vertical = sample_grid(10, 60).vertical
    hybi = np.asarray(vertical.hybi)
    assert 5 < np.count_nonzero(hybi == 0.0) < 40
    assert hybi[-1] == 1.0
    assert vertical.hyai[0] * vertical.p0 == pytest.approx(10.0)  # Pa: 0.1 hPa
    assert np.all(np.diff(np.asarray(vertical.interface_pressure(np.array([5e4, 1.03e5])))) > 0)


def test_air_is_plausible(day):
    for before, _ in day[::9]:
        t, q, p = before["state_t"], before["state_q0001"], before["state_pmid"]
        assert 150.0 < t.min() < t.max() < 330.0
        assert np.all(np.diff(p, axis=0) > 0)
        assert np.all(q >= 0)
        assert q.max() < 0.03
        assert q[-1].mean() > 50 * q[0].mean()
        cloud = before["state_q0002"] + before["state_q0003"]
        humid = q / np.asarray(saturation_specific_humidity(t, p, "sam"))
        assert cloud.min() >= 0.0
        assert not before["state_q0002"][p < 5e3].any()
        below = p > 2e4
        assert humid[below & (cloud > 1e-5)].mean() > humid[below & (cloud < 1e-7)].mean()
        fractions = before["cam_in_ICEFRAC"] + before["cam_in_LANDFRAC"] + before["cam_in_OCNFRAC"]
        np.testing.assert_allclose(fractions, 1.0)
        filled = before["cam_in_SNOWHICE"] == 1e30
        assert np.array_equal(filled, before["cam_in_ICEFRAC"] == 0.0)
        assert before["cam_in_SNOWHICE"][~filled].max(initial=0.0) < 10.0


def test_the_sun_rises_and_sets(day):
    sun = np.array([before["pbuf_COSZRS"] for before, _ in day])
    assert np.all((sun >= 0) & (sun <= 1))
    low = np.abs(np.asarray(sample_grid(COLUMNS, LEVELS).latitude)) < 45
    assert np.all(sun[:, low].max(axis=0) > 0.3)
    assert np.all(sun[:, low].min(axis=0) == 0.0)
    solar = np.array([after["cam_out_NETSW"] for _, after in day])
    assert not solar[sun == 0.0].any()


def test_steps_follow_each_other(day):
    """Physics changes a state a little; dynamics leads from its end to the next start, and is as slow."""
    for (before, after), (following, _) in pairwise(day):
        assert 0.0 < np.abs(after["state_t"] - before["state_t"]).max() < 5.0
        assert 0.0 < np.abs(following["state_t"] - after["state_t"]).max() < 3.0
        assert all(after[name].min() >= 0.0 for name in STATE[1:4])


def test_targets_are_functions_of_the_state_with_noise(day):
    """A straight line through the state itself tells much of the drag, and not all of it."""
    wind = np.array([before["state_u"][-1] for before, _ in day]).ravel()
    drag = np.array([(after["state_u"] - before["state_u"])[-1] for before, after in day]).ravel()
    told = np.corrcoef(wind, drag)[0, 1] ** 2
    assert 0.9 < told < 0.99999


def test_water_that_condenses_heats(day):
    for before, after in day[::10]:
        change = {name: after[name] - before[name] for name in STATE}
        condensing = change["state_q0001"] < -5e-5  # less, and radiation cools more
        assert np.all(change["state_t"][condensing] > 0.5 * -change["state_q0001"][condensing] * E3SM.Lv / E3SM.cp)


def test_the_same_settings_make_the_same_bytes(tmp_path):
    settings = SampleConfig(columns=4, levels=8, stride=36, seed=5)
    summary = write_sample(tmp_path / "a", settings)
    write_sample(tmp_path / "b", settings)
    write_sample(tmp_path / "c", SampleConfig(columns=4, levels=8, stride=36, seed=6))
    files = {x: [p.read_bytes() for p in sorted((tmp_path / x).rglob("*.nc"))] for x in "abc"}
    assert summary["files"] == len(files["a"]) - 1 == 12
    assert files["a"] == files["b"]
    assert files["a"] != files["c"]


def test_a_thinned_sample_is_part_of_the_whole_one(sample, tmp_path):
    write_sample(tmp_path, SampleConfig(columns=COLUMNS, levels=LEVELS, stride=9))
    for path in (tmp_path / "train").rglob("*.nc"):
        assert path.read_bytes() == (sample / "train" / path.parent.name / path.name).read_bytes()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"days": 0}, "days=0"),
        ({"days": 29}, "at most 28"),
        ({"columns": 1}, "columns=1"),
        ({"levels": 2}, "levels=2"),
        ({"stride": 0}, "stride=0"),
        ({"format": "cdf-5"}, "cdf5"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_settings(settings, words):
    with pytest.raises(UsageError, match=words):
        SampleConfig(**settings)


def test_never_among_files_of_others(tmp_path):
    target = tmp_path / "train" / "0001-02" / "E3SM-MMF.mli.0001-02-01-00000.nc"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"real data")
    with pytest.raises(SubgridError, match="holds other files"):
        write_sample(tmp_path, SampleConfig(columns=4, levels=8, stride=72))
    assert target.read_bytes() == b"real data"
