"""Labelled prediction: the flat emulator's numbers, whatever the dimensions and their order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from subgrid.base.errors import UsageError
from subgrid.columns.variables import offsets
from subgrid.emulator import FlatEmulator
from subgrid.evaluation import predict


@pytest.fixture(scope="module")
def flat(tiny_store, tiny_emulator):
    return tiny_store["test"].read_variables(tiny_emulator.variables.inputs, 0)[:240]


@pytest.fixture(scope="module")
def wanted(flat, tiny_emulator):
    with torch.inference_mode():
        return FlatEmulator(tiny_emulator)(torch.from_numpy(flat))[0].numpy()


@pytest.fixture(scope="module")
def columns(flat, tiny_emulator):
    """The same columns as a dataset of 12 times and 20 columns."""
    place = offsets(tiny_emulator.variables.inputs, 8)
    found = {}
    for v in tiny_emulator.variables.inputs:
        values = flat[:, place[v.name]]
        if v.kind == "profile":
            found[v.name] = (("time", "column", "level"), values.reshape(12, 20, 8))
        else:
            found[v.name] = (("time", "column"), values.reshape(12, 20))
    time = np.datetime64("2000-01-01", "ns") + np.arange(12) * np.timedelta64(1, "D")
    return xr.Dataset(found, coords={"time": time, "latitude": ("column", np.linspace(-80, 80, 20))})


def assert_equal(found, wanted, emulator, dims=("time", "column")):
    place = offsets(emulator.variables.targets, 8)
    assert list(found.data_vars) == [v.name for v in emulator.variables.targets]
    for v in emulator.variables.targets:
        values = wanted[:, place[v.name]]
        ordered = found[v.name].transpose(*dims, "level") if v.kind == "profile" else found[v.name].transpose(*dims)
        np.testing.assert_array_equal(ordered.values.reshape(values.shape), values, err_msg=v.name)


def test_labelled_in_and_out_equals_the_flat_emulator(tiny_emulator, columns, wanted):
    found = predict(tiny_emulator, columns)
    assert_equal(found, wanted, tiny_emulator)
    assert found.temperature_tendency.attrs == {"units": "K/s", "long_name": "temperature tendency"}
    assert found.evaporation.dims == ("time", "column")
    xr.testing.assert_identical(found.time, columns.time)
    xr.testing.assert_identical(found.latitude, columns.latitude)


def test_the_order_of_dimensions_does_not_matter(tiny_emulator, columns, wanted):
    mixed = columns.transpose("level", "column", "time").assign(albedo=columns.albedo)
    assert_equal(predict(tiny_emulator, mixed), wanted, tiny_emulator)


def test_flat_and_single_columns(tiny_emulator, columns, wanted):
    stacked = columns.drop_vars(["time", "latitude"]).stack(sample=("time", "column")).reset_index("sample")
    assert_equal(predict(tiny_emulator, stacked), wanted, tiny_emulator, dims=("sample",))
    one = predict(tiny_emulator, columns.isel(time=3, column=4))
    assert one.evaporation.dims == () and one.temperature_tendency.dims == ("level",)
    several = predict(tiny_emulator, columns).isel(time=3, column=4)
    np.testing.assert_allclose(one.temperature_tendency, several.temperature_tendency, rtol=1e-3, atol=1e-9)


def test_what_lacks_a_dimension_is_the_same_along_it(tiny_emulator, columns):
    fixed = columns.assign(albedo=columns.albedo.isel(time=0, drop=True))
    full = columns.assign(albedo=fixed.albedo.broadcast_like(columns.insolation))
    for v, found in predict(tiny_emulator, fixed).items():
        xr.testing.assert_equal(found, predict(tiny_emulator, full)[v].transpose(*found.dims))


def test_other_variables_and_precisions_are_welcome(tiny_emulator, columns, wanted):
    more = columns.astype(np.float64).assign(extra=("member", np.zeros(3)))
    assert_equal(predict(tiny_emulator, more), wanted, tiny_emulator)


def test_missing_variables_are_named(tiny_emulator, columns):
    with pytest.raises(UsageError, match="the dataset lacks temperature, albedo"):
        predict(tiny_emulator, columns.drop_vars(["albedo", "temperature"]))


def test_another_number_of_levels_is_refused(tiny_emulator, columns):
    with pytest.raises(UsageError, match="has 5 levels, the emulator 8"):
        predict(tiny_emulator, columns.isel(level=slice(5)))


def test_a_profile_without_levels_and_a_scalar_with_levels_are_named(tiny_emulator, columns):
    flat = columns.assign(temperature=columns.temperature.isel(level=0))
    with pytest.raises(UsageError, match=r"temperature.*level"):
        predict(tiny_emulator, flat)
    deep = columns.assign(albedo=columns.albedo * xr.ones_like(columns.temperature))
    with pytest.raises(UsageError, match=r"albedo.*level"):
        predict(tiny_emulator, deep)
    with pytest.raises(UsageError, match="level"):
        predict(tiny_emulator, columns.rename(level="lev"))
