"""The published normalisation inside the emulator: equal to plain numpy, never NaN, kept with the weights."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns.normalisation import read_normalisation, with_fill
from subgrid.columns.variables import offsets, variable_set
from subgrid.deployment.torchscript import script
from subgrid.emulator import EmulatorConfig, FlatEmulator, build_emulator, load_emulator, save_emulator
from subgrid.emulator.flat import flatten, unflatten
from subgrid.emulator.official import OfficialInputs
from subgrid.emulator.probe import plausible_columns
from subgrid.physics.vertical import VerticalGrid
from subgrid.training.statistics import fit_transforms

REFERENCE = Path(os.environ.get("SUBGRID_REFERENCE", Path(__file__).parents[3] / "shared" / "reference"))
FILES = REFERENCE / "climsim" / "preprocessing" / "normalizations"
LEVELS = 6
CLOUDS = {"state_q0002", "state_q0003", "state_qn"}


@pytest.fixture(scope="module")
def make(climsim_store, write_normalisation, tmp_path_factory):
    """``make(set, mask=False, **settings)``: an emulator with published normalisation, its store and its folder."""

    def build(name, mask=False, **settings):
        store = climsim_store(name, LEVELS, mask)
        variables = with_fill(store.variable_set(name), store.variables)
        folder = write_normalisation(tmp_path_factory.mktemp("norm") / "n", variable_set(name), LEVELS)
        defaults = {"prune_inputs": 2, "prune_outputs": 3, "clip_inputs": False, "clip_outputs": False}
        config = EmulatorConfig(
            **{
                **variables.emulator,
                "normalization": "official",
                "normalization_folder": str(folder),
                **defaults,
                **settings,
            }
        )
        torch.manual_seed(0)
        emulator = build_emulator("mlp", variables, store.grid.vertical, 1200.0, config, widths=[16, 16])
        fit_transforms(emulator, store["train"])
        return emulator.eval(), store, folder

    return build


def published(x, variables, found, levels, prune):
    """The published preprocessing, in its order, in plain float64 numpy on flat columns."""
    x = x.astype(np.float64).copy()
    with np.errstate(all="ignore"):
        for name, part in offsets(variables.inputs, levels).items():
            if name in found.rate:
                x[:, part] = 1.0 - np.exp(-x[:, part] * found.rate[name])
            x[:, part] = (x[:, part] - found.mean[name]) / found.span[name]
            x[:, part][~np.isfinite(x[:, part])] = 0.0
            if name in CLOUDS:
                x[:, part][:, :prune] = 0.0
            if name == "state_rh":
                x[:, part] = np.clip(x[:, part], 0.0, 1.2)
    return x


def encoded(emulator, x):
    with torch.inference_mode():
        parts = unflatten(torch.from_numpy(x), len(emulator.features.profile_names), emulator.levels)
        return flatten(*emulator.encode(*parts)).numpy()


@pytest.mark.parametrize("name", ["v1", "v2", "v2_rh", "v2_rh_mc", "v6"])
def test_inputs_equal_the_published_order_of_steps(make, name):
    emulator, store, folder = make(name)
    variables = emulator.variables
    x = store["test"].read_variables(variables.inputs, 0)
    found = read_normalisation(folder, variables, LEVELS)
    wanted = published(x, variables, found, LEVELS, 2)
    np.testing.assert_allclose(encoded(emulator, x), wanted, rtol=2e-5, atol=2e-6)
    assert np.ptp(wanted, axis=0).any()


@pytest.mark.skipif(not FILES.is_dir(), reason=f"needs the reference data in {FILES}")
@pytest.mark.parametrize("name", ["v1", "v2", "v2_rh", "v2_rh_mc", "v3", "v4", "v5", "v6"])
def test_the_real_files_normalise_plausible_columns(name):
    variables = variable_set(name)
    grid = VerticalGrid.sigma(np.linspace(0.0, 1.0, 61).tolist())
    config = EmulatorConfig(**{**variables.emulator, "normalization": "official", "clip_inputs": False})
    emulator = build_emulator("mlp", variables, grid, 1200.0, config, widths=[4]).eval()
    found = read_normalisation(FILES, variables, 60)
    x = plausible_columns(variables, 60)
    n_profiles = len(emulator.features.profile_names)
    low = unflatten(torch.from_numpy(x.astype(np.float64).min(0, keepdims=True)), n_profiles, 60)
    ends = tuple(part[0].numpy() for part in low)
    emulator.inputs.fill_published(found, variables, 15, ends, ends)
    wanted = published(x, variables, found, 60, 15)
    seen = encoded(emulator, x)
    for variable, part in offsets(variables.inputs, 60).items():
        if name == "v2" and variable == "state_q0002":
            # three ranges near 1e-44 lie below the smallest float32 and give 0 here
            part = slice(part.start + 16, part.stop)
        np.testing.assert_allclose(seen[:, part], wanted[:, part], rtol=1e-4, atol=1e-5, err_msg=variable)
    place = offsets(variables.inputs, 60)
    if "pbuf_CH4" in place:
        assert (seen[:, place["pbuf_CH4"]][:, 27:] == 0).all()
        np.testing.assert_allclose(seen[:, place["cam_in_SNOWHICE"]], 0.113, atol=1e-3)


def test_targets_are_scaled_and_pruned(make):
    emulator, store, folder = make("v2_rh_mc")
    variables = emulator.variables
    found = read_normalisation(folder, variables, LEVELS)
    y = store["test"].read_variables(variables.targets, 0)
    with torch.inference_mode():
        parts = unflatten(torch.from_numpy(y), 5, LEVELS)
        normal = emulator.normalise_targets(*parts)
        seen = flatten(*normal).numpy()
        back = flatten(*emulator.decode(*normal)[:2]).numpy()
    for name, part in offsets(variables.targets, LEVELS).items():
        wanted = y[:, part] * found.scale[name]
        kept = y[:, part].copy()
        if name in ("ptend_q0001", "ptend_qn", "ptend_u", "ptend_v"):
            wanted[:, :3] = kept[:, :3] = 0.0
        np.testing.assert_allclose(seen[:, part], wanted, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(back[:, part], kept, rtol=1e-6, err_msg=name)
    assert (seen[:, :3] != 0).any()  # heating is not pruned


def test_nothing_gives_nan(make):
    """Neither a variable without range, nor NaN, infinity and fills in the columns themselves."""
    emulator, store, _ = make("v2_rh_mc", mask=True)
    x = store["test"].read_variables(emulator.variables.inputs, 0)[:8].copy()
    place = offsets(emulator.variables.inputs, LEVELS)
    x[0, place["pbuf_CH4"]] = 1.0
    x[1, place["state_t"]] = np.nan
    x[2, place["state_qn"]] = -1e3  # 1 - exp(1e10) overflows
    x[3, place["state_u"]] = np.inf
    x[4] = 0.0
    x[5, place["cam_in_SNOWHICE"]] = 3e38
    seen = encoded(emulator, x)
    assert np.isfinite(seen).all()
    assert (seen[1, place["state_t"]] == 0).all() and (seen[3, place["state_u"]] == 0).all()
    assert (seen[:, place["pbuf_CH4"]][:, 3:] == 0).all()
    with torch.inference_mode():
        assert torch.isfinite(FlatEmulator(emulator)(torch.from_numpy(x))[0]).all()


def test_little_cloud_keeps_its_digits(make):
    """1 - exp(-x) is 0 in float32 below 6e-8; -expm1(-x) is x."""
    emulator, store, folder = make("v2_rh_mc", prune_inputs=0)
    x = store["test"].read_variables(emulator.variables.inputs, 0)[:1].copy()
    part = offsets(emulator.variables.inputs, LEVELS)["state_qn"]
    x[0, part] = 1e-18
    rate = read_normalisation(folder, emulator.variables, LEVELS).rate["state_qn"]
    np.testing.assert_allclose(encoded(emulator, x)[0, part], 1e-18 * rate, rtol=1e-6)


def test_snow_on_ice_is_a_mask_where_the_store_has_one(make):
    emulator, store, _ = make("v2_rh_mc", mask=True)
    x = store["test"].read_variables(emulator.variables.inputs, 0)
    part = offsets(emulator.variables.inputs, LEVELS)["cam_in_SNOWHICE"]
    mask = store["test"].read("scoring", 0)[:, 0]
    assert set(mask) == {0.0, 1.0}
    np.testing.assert_array_equal(x[:, part][:, 0], np.float32(1e30) * mask)
    np.testing.assert_allclose(encoded(emulator, x)[:, part][:, 0], mask - 0.887, atol=1e-6)
    without, other, _ = make("v2_rh_mc")
    x = other["test"].read_variables(without.variables.inputs, 0)
    np.testing.assert_allclose(encoded(without, x)[:, part], -0.887, atol=1e-6)


def test_bounds_are_those_of_the_training_columns(make):
    emulator, store, _ = make("v2_rh_mc", clip_inputs=True, clip_outputs=True, clip_margin=0.0)
    flat = FlatEmulator(emulator)
    x = torch.from_numpy(store["train"].read_variables(emulator.variables.inputs, 1))
    with torch.inference_mode():
        assert (flat(x)[1][:, 0] == 0).all()
        assert (flat(torch.where(x > 200.0, x + 900.0, x))[1][:, 0] > 0).all()


def test_it_is_saved_with_the_emulator_and_needs_no_file_afterwards(make, tmp_path):
    emulator, store, folder = make("v2_rh_mc", mask=True)
    save_emulator(emulator, tmp_path / "e")
    shutil.rmtree(folder)
    again = load_emulator(tmp_path / "e")
    assert isinstance(again.inputs, OfficialInputs) and again.variables == emulator.variables
    assert again.metadata["normalization"] == [
        "input_mean_v5_pervar.nc",
        "input_max_v5_pervar.nc",
        "input_min_v5_pervar.nc",
        "output_scale_std_lowerthred_v5.nc",
        "qn_exp_lambda_large.txt",
    ]
    x = torch.from_numpy(store["test"].read_variables(emulator.variables.inputs, 0))
    with torch.inference_mode():
        assert torch.equal(FlatEmulator(again)(x)[0], FlatEmulator(emulator)(x)[0])
    for change in ({"normalization": "computed"}, {"prune_inputs": 0}, {"prune_outputs": 0}):
        with pytest.raises(SubgridError, match=r"normalization=official.*cannot change after training"):
            load_emulator(tmp_path / "e", **change)


def test_it_is_scripted_and_converted_to_jax(make):
    from subgrid.hosts.convert import to_jax

    emulator, store, _ = make("v2_rh_mc", mask=True, clip_inputs=True)
    flat = FlatEmulator(emulator).eval()
    x = torch.from_numpy(store["test"].read_variables(emulator.variables.inputs, 0))
    with torch.inference_mode():
        wanted = flat(x)[0]
    assert torch.equal(script(FlatEmulator(emulator), x)(x), wanted)
    found = np.asarray(to_jax(flat, (x,))(x.numpy())[0])
    spread = wanted.numpy().std(axis=0)
    live = spread > 0
    assert (np.abs(found - wanted.numpy())[:, live] / spread[live]).max() < 1e-4


def test_settings_that_do_not_fit_are_refused(make):
    with pytest.raises(UsageError, match=r"normalization=official knows the variables alone.*inputs=raw"):
        make("v2", inputs="relative_humidity")
    with pytest.raises(UsageError, match=r"emulator\.normalization 'offical'; did you mean official"):
        EmulatorConfig(normalization="offical")
    for name in ("prune_inputs", "prune_outputs"):
        with pytest.raises(UsageError, match=f"{name}=-1 must be at least 0"):
            EmulatorConfig(**{name: -1})


def test_a_set_without_published_statistics_is_refused(tiny_store, write_normalisation, tmp_path):
    folder = write_normalisation(tmp_path / "n", variable_set("v1"), 8)
    config = EmulatorConfig(inputs="raw", normalization="official", normalization_folder=str(folder))
    emulator = build_emulator(
        "mlp", tiny_store.variable_set("speedy"), tiny_store.grid.vertical, 2400.0, config, widths=[4]
    )
    with pytest.raises(SubgridError, match=r"input_mean\.nc lacks temperature, .*another variable set"):
        fit_transforms(emulator, tiny_store["train"])


def test_computed_normalisation_is_what_it_was(make):
    """The same network with computed statistics has no trace of the published ones."""
    emulator, _, _ = make("v2_rh_mc")
    config = replace(emulator.config, normalization="computed", normalization_folder="")
    plain = build_emulator("mlp", emulator.variables, emulator.grid, 1200.0, config, widths=[16, 16])
    assert not isinstance(plain.inputs, OfficialInputs)
    extra = {"inputs.profile_rate", "inputs.profile_floor", "inputs.profile_ceiling"}
    assert emulator.state_dict().keys() - plain.state_dict().keys() == extra
