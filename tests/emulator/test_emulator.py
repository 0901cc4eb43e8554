"""The whole emulator: the same in eager mode, traced and scripted; columns apart; bounds, counters and constants."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.columns.variables import channel_labels, offsets
from subgrid.deployment.torchscript import script
from subgrid.emulator import FlatEmulator
from subgrid.emulator.emulator import network_shape
from subgrid.emulator.flat import MonitoredEmulator, unflatten

CASES = {
    "default": {},
    "raw": {"inputs": "raw", "clip_inputs": False, "clip_outputs": False},
    "humidity": {"inputs": "relative_humidity", "saturation": "sam", "condense": True},
    "projection": {"water": "projection", "condense": True},
    "precipitation": {"water": "precipitation"},
    "unet": {"architecture": "unet"},
    "expanded": {"variables": "speedy_expanded", "water": "projection"},
}


@pytest.fixture(scope="module", params=CASES)
def emulator(request, make_emulator):
    return make_emulator(**CASES[request.param])


@pytest.fixture(scope="module")
def columns(emulator, tiny_store):
    """384 raw flat columns that the transforms were not fitted on."""
    test = tiny_store["test"]
    x = np.concatenate([test.read_variables(emulator.variables.inputs, b) for b in range(2)])[:384]
    return torch.from_numpy(np.ascontiguousarray(x))


def test_sizes_and_names_of_what_comes_out(emulator, columns):
    flat = FlatEmulator(emulator)
    with torch.inference_mode():
        y, diagnostics = flat(columns)
    assert columns.shape == (384, flat.n_in)
    assert y.shape == (384, flat.n_out) == (384, 44)
    assert diagnostics.shape == (384, sum(c.width for c in emulator.counters))
    assert y.dtype == diagnostics.dtype == torch.float32
    assert torch.isfinite(y).all() and (diagnostics >= 0).all()
    assert emulator.network.shape == network_shape(emulator.variables, emulator.grid, emulator.config)
    assert emulator.memory_size == 0


def test_forward_is_encode_network_decode_constrain(emulator, columns):
    p, s = unflatten(columns, len(emulator.features.profile_names), 8)
    with torch.inference_mode():
        found = emulator(p, s, columns[:, :0])
        out_p, out_s, _ = emulator.decode(*emulator.network(*emulator.encode(p, s)))
        for constraint in emulator.constraints:
            out_p, out_s, _ = constraint(p, s, out_p, out_s)
    assert torch.equal(found[0], out_p) and torch.equal(found[1], out_s)
    assert found[2].shape == (384, 0)


@pytest.mark.parametrize("batch", [1, 7, 384])
def test_traced_core_in_scripted_shell_equals_eager(emulator, columns, batch):
    flat = FlatEmulator(emulator).eval()
    with torch.inference_mode():
        eager, _ = flat(columns[:batch])
    with torch.no_grad():
        scripted = script(FlatEmulator(emulator), columns)(columns[:batch])
    assert torch.equal(scripted, eager)


@pytest.mark.parametrize("batch", [1, 2, 5, 7, 33])
def test_a_column_does_not_depend_on_how_many_are_called_with_it(emulator, columns, batch):
    flat = FlatEmulator(emulator).eval()
    with torch.inference_mode():
        whole = flat(columns)[0]
        assert torch.equal(flat(columns[:batch])[0], whole[:batch])


def test_all_zero_columns_stay_finite(emulator, columns):
    with torch.inference_mode():
        for part in FlatEmulator(emulator)(torch.zeros_like(columns)):
            assert torch.isfinite(part).all()


def test_columns_do_not_interact(emulator, columns):
    flat = FlatEmulator(emulator)
    other = columns.clone()
    other[1:] = columns[1:].flip(0)
    with torch.inference_mode():
        y, counted = flat(columns)
        z, again = flat(other)
        alone, _ = flat(columns[:1])
    assert torch.equal(y[0], z[0]) and torch.equal(counted[0], again[0])
    spread = y.std(0)
    live = spread > 0
    assert ((alone - y[:1]).abs()[:, live] / spread[live]).max() < 1e-4


def test_training_columns_are_inside_the_range(emulator, tiny_store):
    x = torch.from_numpy(tiny_store["train"].read_variables(emulator.variables.inputs, 3))
    p, s = unflatten(x, len(emulator.features.profile_names), 8)
    with torch.inference_mode():
        assert (emulator(p, s, x[:, :0])[3][:, 0] == 0).all()


def test_untouched_outputs_come_out_as_their_constant(emulator, columns):
    """Above the lowest level SPEEDY's winds have no tendency, nor has the humidity of the top level."""
    with torch.inference_mode():
        y = FlatEmulator(emulator)(columns)[0]
    place = offsets(emulator.variables.targets, 8)
    for name in ("u_wind_tendency", "v_wind_tendency"):
        assert (y[:, place[name]][:, :7] == 0).all()
    dq = y[:, place["specific_humidity_tendency"]][:, 0]
    assert (dq == 0).all() if not emulator.config.condense else (dq <= 0).all()


def parts(emulator, x):
    """Distances to the training range of each input that is watched."""
    with torch.inference_mode():
        _, _, distances = MonitoredEmulator(emulator)(x)
    return torch.split(distances, [w.width for w in emulator.watched], dim=1)


def test_inputs_outside_the_range_are_counted_and_kept_within(make_emulator, tiny_store):
    emulator = make_emulator(clip_margin=0.0)
    x = torch.from_numpy(tiny_store["train"].read_variables(emulator.variables.inputs, 0)[:3].copy())
    place = offsets(emulator.variables.inputs, 8)
    x[1, place["albedo"]] = 50.0
    x[1, place["u_wind"].start + 2] = -900.0
    x[2, place["albedo"]] = 5000.0
    x[2, place["u_wind"].start + 2] = -1e6
    p, s = unflatten(x, 4, 8)
    with torch.inference_mode():
        out = emulator(p, s, x[:, :0])
        encoded = emulator.encode(p, s)
    inverse = emulator.inputs.scalar_inverse[5]
    live = int((emulator.inputs.profile_std > 0).sum() + (emulator.inputs.scalar_std > 0).sum())
    assert 45 < live < 5 * 8 + 13  # snow cover is constant
    np.testing.assert_allclose(out[3][:, 0].numpy(), [0.0, 2.0 / live, 2.0 / live])
    assert emulator.counters[0].name == "inputs_clipped"
    # the monitor tells by how many spreads, variable by variable and level by level
    distances = dict(zip([w.name for w in emulator.watched], parts(emulator, x), strict=True))
    far = (emulator.inputs.scalar_high[5] - (x[1, place["albedo"]] - emulator.inputs.scalar_mean[5]) * inverse).abs()
    torch.testing.assert_close(distances["albedo"][1], far)
    assert (
        distances["u_wind"][1, 2] > 10 and not distances["u_wind"][:, :2].any() and not distances["temperature"].any()
    )
    assert encoded[1][1, 5] == encoded[1][2, 5] == emulator.inputs.scalar_high[5]
    assert encoded[0][1, 2, 2] == encoded[0][2, 2, 2] == emulator.inputs.profile_low[2, 2]


def test_outputs_outside_the_range_are_counted_and_kept_within(make_emulator, columns_of):
    emulator = make_emulator(clip_margin=0.0)
    with torch.no_grad():
        emulator.network.output.bias.fill_(1e4)
    flat = FlatEmulator(emulator)
    with torch.inference_mode():
        y, counted = flat(columns_of(emulator, 20))
    assert (counted[:, 1] == 1.0).all()
    high = emulator.outputs.inverse(emulator.outputs.profile_high[None], emulator.outputs.scalar_high[None])
    torch.testing.assert_close(y[0, :8], high[0][0, :, 0])


def test_without_clipping_the_network_reads_and_says_what_it_likes(make_emulator, columns_of):
    free = make_emulator(clip_inputs=False, clip_outputs=False)
    with torch.no_grad():
        free.network.output.bias.fill_(1e4)
    x = columns_of(free, 20)
    x[:, offsets(free.variables.inputs, 8)["albedo"]] = 5.0
    p, s = unflatten(x, 4, 8)
    with torch.inference_mode():
        y, counted = FlatEmulator(free)(x)
        assert (free.encode(p, s)[1][:, 5] > free.inputs.scalar_high[5] + 1).all()
    assert (counted[:, :2] > 0).all()  # still counted
    assert (y[:, 0] > 1e3 * free.outputs.profile_std[0, 0]).all()


@pytest.fixture(scope="module")
def columns_of(tiny_store):
    def read(emulator, count):
        return torch.from_numpy(tiny_store["test"].read_variables(emulator.variables.inputs, 0)[:count].copy())

    return read


def test_normalised_targets_are_what_decode_takes_back(tiny_emulator, tiny_store):
    y = torch.from_numpy(tiny_store["train"].read_variables(tiny_emulator.variables.targets, 0))
    p, s = unflatten(y, 4, 8)
    back = tiny_emulator.decode(*tiny_emulator.normalise_targets(p, s))
    assert (back[2] == 0).all()
    for found, wanted, std in (
        (back[0], p, tiny_emulator.outputs.profile_std),
        (back[1], s, tiny_emulator.outputs.scalar_std),
    ):
        live = std > 0
        assert ((found - wanted).abs()[:, live] / std[live]).max() < 1e-3
        assert torch.equal(found[:, ~live], wanted[:, ~live])


def test_labels_match_the_flat_layout(tiny_emulator):
    assert len(channel_labels(tiny_emulator.variables.inputs, 8)) == FlatEmulator(tiny_emulator).n_in
    assert len(channel_labels(tiny_emulator.variables.targets, 8)) == FlatEmulator(tiny_emulator).n_out
