"""Inputs with one mean and spread for all levels, waters and gases as logarithms: equal to numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.columns.variables import profiles
from subgrid.deployment.torchscript import script
from subgrid.emulator import EmulatorConfig, FlatEmulator, build_emulator, load_emulator, save_emulator
from subgrid.emulator.flat import unflatten
from subgrid.emulator.pooled import OFFSET
from subgrid.training.statistics import fit_transforms


@pytest.fixture(scope="module")
def store(climsim_store):
    return climsim_store("kaggle")


@pytest.fixture(scope="module")
def emulator(store):
    torch.manual_seed(0)
    config = EmulatorConfig(inputs="raw", saturation="sam", positive_water=False, normalization="pooled")
    made = build_emulator(
        "mlp", store.variable_set("kaggle"), store.grid.vertical, store.spec.time_step, config, widths=[16]
    )
    fit_transforms(made, store["train"])
    return made.eval()


@pytest.fixture(scope="module")
def rows(emulator, store):
    split = store["train"]
    return np.concatenate([split.read_variables(emulator.variables.inputs, b) for b in range(split.blocks)])


def test_each_profile_has_one_mean_and_spread_after_its_logarithm(emulator, rows):
    p, s = unflatten(torch.from_numpy(rows), 9, 6)
    names = [v.quantity for v in profiles(emulator.variables.inputs)]
    found = emulator.encode(p, s)
    for k, name in enumerate(names):
        values = p[:, :, k].double().numpy()
        if name not in ("temperature", "u_wind", "v_wind"):
            assert name in ("specific_humidity", "cloud_liquid", "cloud_ice", "pbuf_ozone", "pbuf_CH4", "pbuf_N2O")
            values = np.log(np.maximum(values, 0.0) + OFFSET)
        wanted = (values - values.mean()) / values.std()
        np.testing.assert_allclose(found[0][:, :, k].numpy(), wanted, rtol=1e-4, atol=2e-4, err_msg=name)
    scalars = s.double().numpy()
    live = scalars.std(0) > 1e-5 * np.abs(scalars.mean(0))
    wanted = (scalars - scalars.mean(0)) / np.where(live, scalars.std(0), 1.0)
    np.testing.assert_allclose(found[1].numpy()[:, live], wanted[:, live], atol=2e-4)


def test_negative_water_counts_as_none(emulator, rows):
    p, s = unflatten(torch.from_numpy(rows[:4].copy()), 9, 6)
    p[:, :, 1] = -1e-3
    below = emulator.inputs(p, s)[0][:, :, 1]
    p[:, :, 1] = 0.0
    assert torch.equal(below, emulator.inputs(p, s)[0][:, :, 1])
    assert torch.isfinite(below).all()


def test_training_columns_are_within_the_training_range(emulator, rows):
    p, s = unflatten(torch.from_numpy(rows), 9, 6)
    assert (emulator.inputs.clip(*emulator.inputs(p, s))[2] == 0).all()


def test_saved_loaded_and_scripted_it_is_the_same(emulator, rows, tmp_path):
    save_emulator(emulator, tmp_path / "emulator")
    x = torch.from_numpy(rows[:64])
    with torch.no_grad():
        wanted = FlatEmulator(emulator)(x)[0]
        assert torch.equal(FlatEmulator(load_emulator(tmp_path / "emulator"))(x)[0], wanted)
        scripted = script(FlatEmulator(emulator), x)(x)
    scale = emulator.outputs.profile_std.max()
    assert (scripted - wanted).abs().max() <= 1e-5 * scale


def test_three_representations_are_of_another_normalisation():
    with pytest.raises(UsageError, match="normalization=computed"):
        EmulatorConfig(inputs="raw", normalization="pooled", representation="multi")
