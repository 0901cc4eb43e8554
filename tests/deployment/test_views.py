"""What E3SM hands over, and what it takes back, against arithmetic done by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.columns.variables import channel_labels
from subgrid.deployment.views import E3smView, HostView
from subgrid.emulator.flat import unflatten

STEP = 1200.0


@pytest.fixture(scope="module")
def stores(climsim_store):
    return {name: climsim_store(name, 60) for name in ("v2_rh", "v4", "v6")}


@pytest.fixture(scope="module")
def host_columns(stores):
    """Columns as E3SM hands them over for v2_rh: state_t, state_rh, q0002, q0003, u, v, gases, surface."""
    found = stores["v2_rh"]["test"].read("inputs", 0)[:32].copy()
    rng = np.random.default_rng(3)
    found[:, :60] = rng.uniform(220.0, 300.0, (32, 60))
    found[:, 120:240] = rng.uniform(0.0, 1e-4, (32, 120))
    return torch.from_numpy(found)


def split_by_hand(x, dt, dqn):
    """ClimSim's rule: the ramp at the temperature after the step divides cloud water after the step."""
    t, liquid, ice = (x[:, at : at + 60].double() for at in (0, 120, 180))
    share = ((t + STEP * dt - 253.16) / 20.0).clamp(0.0, 1.0)
    after = liquid + ice + STEP * dqn
    return (share * after - liquid) / STEP, ((1.0 - share) * after - ice) / STEP


@pytest.mark.parametrize("confidence", [False, True])
def test_cloud_water_is_formed_inside_and_its_tendency_divided(stores, make_emulator, host_columns, confidence):
    emulator = make_emulator(variables="v2_rh_mc", store=stores["v6"], inputs="raw", saturation="sam",
                             positive_water=False, confidence=confidence)  # fmt: skip
    view = E3smView(emulator).eval()
    assert (view.n_in, view.n_out) == (557, 676 if confidence else 368)
    x = host_columns
    with torch.inference_mode():
        y = view(x)[0]
        own = x.clone()
        own[:, 120:180] = x[:, 120:180] + x[:, 180:240]
        own[:, 180:240] = ((x[:, :60] - 253.16) / 20.0).clamp(0.0, 1.0)
        p, s, _, _ = emulator(*unflatten(own, 9, 60), x[:, :0])
    assert torch.equal(y[:, :120], torch.cat([p[:, :, 0], p[:, :, 1]], dim=1))
    liquid, ice = split_by_hand(x, p[:, :, 0].double(), p[:, :, 2].double())
    assert np.allclose(y[:, 120:180], liquid, rtol=1e-4, atol=1e-11)
    assert np.allclose(y[:, 180:240], ice, rtol=1e-4, atol=1e-11)
    assert torch.equal(y[:, 240:360], torch.cat([p[:, :, 3], p[:, :, 4]], dim=1))
    assert torch.equal(y[:, 360:368], s)
    if confidence:
        with torch.inference_mode():
            expected_p, expected_s = emulator.confidence(*unflatten(own, 9, 60))
        assert torch.equal(y[:, 368:], torch.cat([expected_p.transpose(1, 2).flatten(1), expected_s], dim=1))


@pytest.mark.parametrize(("name", "store", "n_in"), [("v2_rh", "v2_rh", 557), ("v4", "v4", 1525), ("v6", "v6", 1519)])
def test_lengths_are_those_of_the_namelist(stores, make_emulator, name, store, n_in):
    view = E3smView(make_emulator(variables=name, store=stores[store], inputs="raw", positive_water=False))
    assert (view.n_in, view.n_out) == (n_in, 368)
    assert len(channel_labels(view.inputs, 60)) == n_in
    assert [v.name for v in view.inputs[:4]] == ["state_t", "state_rh", "state_q0002", "state_q0003"]


def test_a_store_of_cloud_water_alone_gives_columns_with_the_same_sum(stores, make_emulator):
    emulator = make_emulator(variables="v2_rh_mc", store=stores["v6"], inputs="raw", positive_water=False)
    view, split = E3smView(emulator), stores["v6"]["test"]
    x = view.sample(split, 300)
    own = split.read_variables(emulator.variables.inputs, 0)
    assert x.shape == (300, 557)
    assert np.array_equal(x[:100, 120:180] + x[:100, 180:240], own[:100, 120:180])
    assert np.array_equal(x[200:], x[:100])  # 200 columns, repeated
    assert view.spread(split).shape == (368,) and (view.spread(split)[120:240] > 0).all()
    low, high = view.ranges(split)
    assert (low <= x.min(axis=0)).all() and (high >= x.max(axis=0)).all()


def test_what_e3sm_does_not_hand_over_is_refused_with_what_would_fit(tiny_emulator):
    with pytest.raises(UsageError, match=r"sets v2, v2_rh, .*reads 'speedy'.*--target ftorch"):
        E3smView(tiny_emulator)


def test_other_hosts_hand_over_the_emulators_own_variables(tiny_emulator, tiny_store):
    view = HostView(tiny_emulator)
    assert (view.inputs, view.outputs) == (tiny_emulator.variables.inputs, tiny_emulator.variables.targets)
    assert np.array_equal(view.sample(tiny_store["test"], 5), tiny_store["test"].read_variables(view.inputs, 0)[:5])
