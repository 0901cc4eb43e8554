"""Floors: ridge regression is exact on linear targets; the mean is the training mean."""

from __future__ import annotations

import numpy as np
import pytest

from subgrid.evaluation.floors import encoded, mean_predictor, ridge_predictor
from subgrid.evaluation.offline import emulator_predictor


@pytest.fixture(scope="module")
def linear(tmp_path_factory, write_store, make_rows):
    """A store whose targets are linear in independent inputs, save for one constant channel."""
    rng = np.random.default_rng(11)
    slope, offset = rng.standard_normal((45, 44)), rng.standard_normal(44)
    splits = {}
    for name, count in (("train", 900), ("test", 200)):
        rows = make_rows(count)
        x = rng.standard_normal((count, 45)).astype(np.float32)
        y = 1e-6 * (x.astype(np.float64) @ slope + offset)
        y[:, 8] = 0.0
        splits[name] = {**rows, "inputs": x, "targets": y.astype(np.float32)}
    return write_store(tmp_path_factory.mktemp("linear") / "s.zarr", splits)


@pytest.fixture(scope="module")
def emulator(make_emulator, linear):
    return make_emulator(store=linear, inputs="raw", clip_inputs=False)


def test_ridge_is_exact_on_linear_targets(linear, emulator):
    held = emulator.variables
    predict = ridge_predictor(emulator, linear["train"])
    x, y = (linear["test"].read_variables(v, 0).astype(np.float64) for v in (held.inputs, held.targets))
    found = predict(x.astype(np.float32))
    assert found.dtype == np.float64
    spread = y.std(0)
    live = spread > 0
    assert (np.abs(found - y)[:, live] / spread[live]).max() < 2e-4
    assert (found[:, ~live] == 0).all() and (~live).sum() == 1


def test_ridge_survives_constant_inputs(tiny_emulator, tiny_store):
    x = tiny_store["test"].read_variables(tiny_emulator.variables.inputs, 0)
    assert np.isfinite(ridge_predictor(tiny_emulator, tiny_store["train"])(x)).all()


def test_encoded_inputs_are_normalised_with_a_column_of_ones(tiny_emulator, tiny_store):
    x = tiny_store["train"].read_variables(tiny_emulator.variables.inputs, 0)
    found = encoded(tiny_emulator, x)
    assert found.shape == (256, 5 * 8 + 13 + 1)
    assert (found[:, -1] == 1).all()
    assert np.abs(found[:, :-1].mean(0)).max() < 0.4 and 0.5 < found[:, 0].std() < 1.5


def test_the_mean_is_the_training_mean(tiny_emulator, tiny_store, split_rows):
    predict = mean_predictor(tiny_emulator, tiny_store["train"])
    x = tiny_store["test"].read_variables(tiny_emulator.variables.inputs, 0)
    wanted = split_rows["train"]["targets"].astype(np.float64).mean(0)
    np.testing.assert_allclose(predict(x), np.broadcast_to(wanted, (256, 44)), rtol=1e-9, atol=1e-20)


def test_the_emulators_predictor_gives_float64(tiny_emulator, tiny_store):
    x = tiny_store["test"].read_variables(tiny_emulator.variables.inputs, 0)
    found = emulator_predictor(tiny_emulator)(x)
    assert found.dtype == np.float64 and found.shape == (256, 44)
