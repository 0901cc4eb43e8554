"""The callback bridge: torch's own numbers inside a jax program, and a clear refusal of unknown bridges."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.emulator.flat import MonitoredEmulator
from subgrid.hosts.bridge import (
    callback_function,
    flat_function,
    null_callback_function,
    rms_departure,
)


@pytest.fixture(scope="module")
def sample(tiny_emulator, tiny_store):
    x = tiny_store["test"].read_variables(tiny_emulator.variables.inputs, 0)[:32]
    return np.ascontiguousarray(x)


@pytest.fixture(scope="module")
def wanted(tiny_emulator, sample):
    with torch.inference_mode():
        return [part.numpy() for part in MonitoredEmulator(tiny_emulator)(torch.from_numpy(sample))]


def test_the_callback_equals_torch_inside_jit(tiny_emulator, sample, wanted):
    function = jax.jit(callback_function(tiny_emulator, 32))
    for found, part in zip(function(sample), wanted, strict=True):
        assert isinstance(found, jax.Array) and found.dtype == jnp.float32
        np.testing.assert_array_equal(np.asarray(found), part)


def test_the_callback_runs_again_and_again_inside_a_scan(tiny_emulator, sample, wanted):
    function = callback_function(tiny_emulator, 32)

    def step(x, _):
        y, *_ = function(x)
        return x, y

    _, found = jax.jit(lambda x: jax.lax.scan(step, x, None, length=3))(sample)
    for y in np.asarray(found):
        np.testing.assert_array_equal(y, wanted[0])


def test_flat_function_gives_the_callback_when_asked(tiny_emulator, sample, wanted):
    function, name = flat_function(tiny_emulator, sample, "callback")
    assert name == "callback"
    np.testing.assert_array_equal(np.asarray(jax.jit(function)(sample)[0]), wanted[0])


def test_an_unknown_bridge_gives_the_nearest(tiny_emulator, sample):
    with pytest.raises(UsageError, match=r"unknown couple\.bridge 'calback'; did you mean callback"):
        flat_function(tiny_emulator, sample, "calback")


def test_the_null_callback_gives_zeros_of_the_right_shapes(tiny_emulator, sample, wanted):
    for found, part in zip(jax.jit(null_callback_function(tiny_emulator, 32))(sample), wanted, strict=True):
        assert found.shape == part.shape and not np.asarray(found).any()


def test_departure_is_the_largest_root_mean_square_in_spreads():
    expected = np.array([[0.0, 5.0], [2.0, 5.0]], np.float32)  # spreads 1 and 0
    assert rms_departure(expected, expected) == 0.0
    assert rms_departure(expected, expected + np.float32(0.5)) == pytest.approx(0.5)  # the constant does not count
    assert np.isnan(rms_departure(expected, np.full_like(expected, np.nan)))
