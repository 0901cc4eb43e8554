"""ClimSim's published normalisation: the real files' facts, the rules that choose among them, and bad ones refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns.normalisation import published_files, read_normalisation, with_fill
from subgrid.columns.variables import VariableSet, variable_set

REFERENCE = Path(os.environ.get("SUBGRID_REFERENCE", Path(__file__).parents[3] / "shared" / "reference")) / "climsim"
FILES = REFERENCE / "preprocessing" / "normalizations"
KAGGLE = REFERENCE / "kaggle_edition" / "preprocessing" / "normalizations"
needs_reference = pytest.mark.skipif(not FILES.is_dir(), reason=f"needs the reference data in {REFERENCE}")
SETS = ("v1", "v2", "v2_rh", "v2_rh_mc", "v3", "v4", "v5", "v6")


@pytest.fixture
def folder(tmp_path, write_normalisation):
    return write_normalisation(tmp_path / "norm", variable_set("v2_rh_mc"), 6)


@needs_reference
@pytest.mark.parametrize("name", SETS)
def test_every_set_has_its_published_files(name):
    variables = variable_set(name)
    found = read_normalisation(FILES, variables, 60)
    assert found.mean.keys() == found.span.keys() == {v.name for v in variables.inputs}
    assert found.scale.keys() == {v.name for v in variables.targets}
    mixed, clouds = {"v2_rh_mc", "v5", "v6"}, {"v2_rh", "v3", "v4"}
    rates = {"state_qn"} if name in mixed else {"state_q0002", "state_q0003"} if name in clouds else set()
    assert found.rate.keys() == rates
    assert found.scale["ptend_t"].shape == (60,) and found.scale["cam_out_NETSW"].shape == ()
    assert all(np.all(np.isfinite(values)) for values in found.mean.values())


@needs_reference
@pytest.mark.parametrize("name", ["v2", "v2_rh_mc"])
def test_ranges_of_gases_are_zero_below_and_snow_on_ice_holds_its_fill(name):
    found = read_normalisation(FILES, variable_set(name), 60)
    for gas in ("pbuf_CH4", "pbuf_N2O"):
        assert np.flatnonzero(found.span[gas] == 0).tolist() == list(range(27, 60))
    assert found.mean["cam_in_SNOWHICE"] == pytest.approx(8.87e29, rel=1e-3)
    assert found.span["cam_in_SNOWHICE"] == 1e30


@needs_reference
def test_humidity_and_cloud_pass_as_they_are_and_rates_fall_from_ten_million():
    found = read_normalisation(FILES, variable_set("v2_rh_mc"), 60)
    for name in ("state_rh", "state_qn", "liq_partition"):
        assert (found.mean[name] == 0).all() and (found.span[name] == 1).all()
    rate = found.rate["state_qn"]
    assert (rate[:11] == 1e7).all() and rate.max() == 1e7
    assert int(rate.argmin()) == 48 and rate[48] == pytest.approx(2.78e4, rel=1e-2)
    assert rate[59] == pytest.approx(9.47e4, rel=1e-2)
    assert found.scale["ptend_qn"].max() == pytest.approx(3.33e9, rel=1e-2)
    assert found.scale["ptend_u"].max() == pytest.approx(1e6)


@needs_reference
def test_the_plain_output_scale_is_the_sheets():
    scale = read_normalisation(FILES, variable_set("v2"), 60).scale
    wanted = {"ptend_t": 1004.64, "ptend_q0001": 2834700, "ptend_q0002": 5669400, "ptend_u": 250, "ptend_v": 500}
    wanted |= {"cam_out_NETSW": 0.0024, "cam_out_FLWDS": 0.005, "cam_out_PRECSC": 12441600, "cam_out_PRECC": 1313280}
    for name, value in wanted.items():
        np.testing.assert_allclose(scale[name], value, rtol=1e-6)


@needs_reference
def test_the_files_called_v7_hold_what_those_called_v5_hold_where_sets_use_them(tmp_path):
    for part in ("inputs", "outputs"):
        (tmp_path / part).mkdir()
        for file in (KAGGLE / part).glob("*.nc"):
            shutil.copy(file, tmp_path / part)
    with pytest.raises(SubgridError, match=r"has no qn_exp_lambda_large\.txt"):
        read_normalisation(tmp_path, variable_set("v6"), 60)
    rates = str(FILES / "inputs" / "*_exp_lambda_large.txt")
    v7 = read_normalisation(tmp_path, variable_set("v6"), 60, rates=rates)
    assert "input_max_v7.pervar.nc" in v7.files
    v5 = read_normalisation(FILES, variable_set("v6"), 60)
    same = [n for n in v5.mean if np.array_equal(v5.mean[n], v7.mean[n]) and np.array_equal(v5.span[n], v7.span[n])]
    assert {"state_t", "state_rh", "state_qn", "cam_in_SNOWHICE", "clat"} <= set(same)
    np.testing.assert_allclose(v7.scale["ptend_t"], v5.scale["ptend_t"], rtol=1e-12)


def test_the_rules_choose_by_what_a_set_holds():
    found = {name: published_files(variable_set(name))[0].inputs for name in SETS}
    assert {n for n in SETS if found[n] == "input_*.nc"} == {"v1", "v2"}
    assert {n for n in SETS if found[n] == "input_*_v4_pervar.nc"} == {"v2_rh", "v3", "v4"}
    assert {n for n in SETS if found[n] == "input_*_v5_pervar.nc"} == {"v2_rh_mc", "v5", "v6"}


def test_files_may_be_named(folder):
    (folder / "outputs" / "output_scale_std_lowerthred_v5.nc").rename(folder / "mine.nc")
    with pytest.raises(SubgridError, match=r"has no output_scale_std_lowerthred_v5\.nc.*normalization_inputs"):
        read_normalisation(folder, variable_set("v2_rh_mc"), 6)
    assert "mine.nc" in read_normalisation(folder, variable_set("v2_rh_mc"), 6, outputs="mine.nc").files


def test_no_folder_is_refused_with_the_setting(tmp_path):
    for given in ("", tmp_path / "absent"):
        with pytest.raises(UsageError, match=r"normalization_folder=DIR"):
            read_normalisation(given, variable_set("v1"), 6)


def test_a_lacking_variable_and_a_wrong_number_of_levels_are_named(folder):
    with pytest.raises(SubgridError, match=r"input_mean_v5_pervar\.nc: 'state_t' has 6 values, 8 are needed"):
        read_normalisation(folder, variable_set("v2_rh_mc"), 8)
    with pytest.raises(SubgridError, match=r"input_mean_v5_pervar\.nc lacks state_t_dyn, .*another variable set"):
        read_normalisation(folder, variable_set("v6"), 6)


@pytest.mark.parametrize("damage", [b"", b"not netCDF at all", None])
def test_an_unreadable_file_is_named(folder, damage):
    file = folder / "inputs" / "input_max_v5_pervar.nc"
    file.write_bytes(file.read_bytes()[:900] if damage is None else damage)
    with pytest.raises(SubgridError, match=r"input_max_v5_pervar\.nc cannot be read as netCDF"):
        read_normalisation(folder, variable_set("v2_rh_mc"), 6)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5,x", "1,2,3,4,5,-6", "1,2,3,4,5,nan"])
def test_damaged_rates_are_named(folder, text):
    (folder / "inputs" / "qn_exp_lambda_large.txt").write_text(text)
    with pytest.raises(SubgridError, match=r"qn_exp_lambda_large\.txt"):
        read_normalisation(folder, variable_set("v2_rh_mc"), 6)


def test_missing_values_in_a_file_are_nan(folder):
    with netCDF4.Dataset(folder / "inputs" / "input_mean_v5_pervar.nc", "a") as file:
        values = np.ma.masked_array(np.zeros(6), mask=[True] + 5 * [False])
        file["state_u"][:] = values
    assert np.isnan(read_normalisation(folder, variable_set("v2_rh_mc"), 6).mean["state_u"][0])


def test_the_fill_comes_back_only_where_its_mask_is_held():
    variables = variable_set("v2_rh_mc")
    assert with_fill(variables, ["cam_in_SNOWHICE"]) is variables
    filled = with_fill(variables, ["cam_in_SNOWHICE", "snowhice_mask"])
    snow = next(v for v in filled.inputs if v.name == "cam_in_SNOWHICE")
    assert snow.stored == {"cam_in_SNOWHICE": 1.0, "snowhice_mask": 1e30}
    assert [v.name for v in filled.inputs] == [v.name for v in variables.inputs]
    assert VariableSet.from_dict(filled.to_dict()) == filled
