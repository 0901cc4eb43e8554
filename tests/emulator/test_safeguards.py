"""Safeguards: what each bounds or takes away, that it touches nothing else, and what it counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.columns import variable_set
from subgrid.emulator import EmulatorConfig, build_emulator
from subgrid.emulator.constraints.safeguards import Night, RateLimit, Top, Tropopause
from subgrid.emulator.features import InputFeatures
from subgrid.emulator.flat import unflatten
from subgrid.physics.vertical import VerticalGrid

SET = variable_set("speedy")
SCALARS = [v.name for v in SET.targets if v.kind == "scalar"]
INSOLATION = [v.name for v in SET.inputs if v.kind == "scalar"].index("insolation")


@pytest.fixture(scope="module")
def features(column_grid):
    return InputFeatures("raw", SET, column_grid.vertical, "murray")


@pytest.fixture
def columns(make_rows):
    rows = make_rows(300, seed=5)
    targets = torch.from_numpy(rows["targets"])
    return (*unflatten(torch.from_numpy(rows["inputs"]), 4, 8), *unflatten(targets, 4, 8))


@pytest.mark.parametrize(("name", "channels", "unit"), [("limit_heating", [0], 1.0), ("limit_acceleration", [2, 3], 1)])
def test_rates_stay_within_the_limit_and_others_as_they_are(features, columns, name, channels, unit):
    p_in, s_in, p_out, s_out = columns
    most = float(p_out[:, :, channels].abs().max()) * 86400.0 / 3.0
    p, s, cut = RateLimit(name, most, features, SET)(p_in, s_in, p_out, s_out)
    limit = most / 86400.0
    assert float(p[:, :, channels].abs().max()) <= limit * (1 + 1e-6)
    within = p_out.abs() <= limit
    torch.testing.assert_close(p[within], p_out[within], rtol=0, atol=0)
    others = [k for k in range(4) if k not in channels]
    torch.testing.assert_close(p[:, :, others], p_out[:, :, others], rtol=0, atol=0)
    torch.testing.assert_close(s, s_out, rtol=0, atol=0)
    torch.testing.assert_close(cut, (p_out - p).abs().sum(2))
    assert cut.shape == (300, 8) and float(cut.max()) > 0


def test_no_sun_at_night(features, columns):
    p_in, s_in, p_out, s_out = columns
    s_in[::2, INSOLATION], s_in[1::2, INSOLATION] = 0.0, 400.0
    solar = [SCALARS.index(n) for n in ("absorbed_solar", "surface_net_shortwave")]
    p, s, taken = Night(features, SET)(p_in, s_in, p_out, s_out)
    assert not s[::2, solar].any()
    torch.testing.assert_close(s[1::2], s_out[1::2], rtol=0, atol=0)
    rest = [k for k in range(len(SCALARS)) if k not in solar]
    torch.testing.assert_close(s[:, rest], s_out[:, rest], rtol=0, atol=0)
    torch.testing.assert_close(p, p_out, rtol=0, atol=0)
    torch.testing.assert_close(taken[::2], s_out[::2][:, solar].abs().sum(1))
    assert not taken[1::2].any()


class TestTropopause:
    @pytest.fixture
    def atmosphere(self):
        """20 levels: 6.5 K/km below 200 hPa, isothermal above; with an inversion near the ground."""
        grid = VerticalGrid.sigma(np.linspace(0.0, 1.0, 21).tolist())
        features = InputFeatures("raw", SET, grid, "murray")
        sigma = torch.tensor(grid.sigma_levels)
        t = 288.0 * torch.clamp(sigma, min=0.2) ** 0.19
        t[-1] = t[-2] - 8.0
        p_in = torch.zeros(3, 20, 4)
        p_in[:, :, 0], p_in[:, :, 1] = t, 1e-6
        s_in = torch.zeros(3, len(SET.inputs) - 4)
        s_in[:, 0] = 1e5
        return features, p_in, s_in, sigma

    def test_water_stays_where_it_is_above_and_moves_below(self, atmosphere):
        features, p_in, s_in, sigma = atmosphere
        p_out, s_out = torch.ones(3, 20, 4), torch.ones(3, len(SCALARS))
        p, s, taken = Tropopause(10.0, features, SET)(p_in, s_in, p_out, s_out)
        above = sigma < 0.2
        assert not p[:, above, 1].any() and (p[:, ~above, 1] == 1.0).all()
        assert (p[:, :, [0, 2, 3]] == 1.0).all() and (s == 1.0).all()
        torch.testing.assert_close(taken[:, above], features.mass(s_in)[:, above])
        assert not taken[:, ~above].any()

    def test_a_steeper_threshold_finds_none(self, atmosphere):
        features, p_in, s_in, _ = atmosphere
        assert not Tropopause(100.0, features, SET).above(p_in, s_in).any()


def test_the_top_is_left_to_the_dynamics(features, columns):
    p_in, s_in, p_out, s_out = columns
    p_out[:, 0, 1], p_out[:, 0, 2:] = 0.0, 1.0
    p, _, share = Top(2, features, SET)(p_in, s_in, p_out, s_out)
    assert not p[:, :2, 1:].any()
    torch.testing.assert_close(p[:, 2:], p_out[:, 2:], rtol=0, atol=0)
    torch.testing.assert_close(p[:, :, 0], p_out[:, :, 0], rtol=0, atol=0)
    torch.testing.assert_close(share[:, 0], torch.full((300,), 2.0 / 3.0))
    assert not share[:, 2:].any()


def test_an_emulator_has_those_that_are_asked_for_and_counts_them(column_grid):
    config = EmulatorConfig(night=True, tropopause=10.0, top=1, limit_heating=50.0, limit_moistening=20.0)
    emulator = build_emulator("mlp", SET, column_grid.vertical, 1800.0, config)
    counters = {c.name: c for c in emulator.counters}
    assert set(counters) >= {"night", "tropopause", "top", "limit_heating", "limit_moistening", "positive_water"}
    assert "limit_acceleration" not in counters
    assert counters["limit_moistening"].units == "kg/kg/s" and counters["night"].width == 1
    p_in, s_in = torch.zeros(8, 8, 4), torch.zeros(8, len(SET.inputs) - 4)
    *_, diagnostics, distances = emulator.monitored(p_in, s_in, p_in[:, 0, :0])
    assert diagnostics.shape == (8, sum(c.width for c in emulator.counters))
    assert distances.shape == (8, sum(c.width for c in emulator.watched))
    assert torch.isfinite(diagnostics).all()


def test_what_a_set_lacks_is_named(column_grid):
    radiation = variable_set("speedy_radiation")
    config = EmulatorConfig(inputs="raw", positive_water=False, tropopause=10.0)
    with pytest.raises(UsageError, match="constraint 'tropopause' needs specific_humidity_tendency"):
        build_emulator("mlp", radiation, column_grid.vertical, 1800.0, config)


@pytest.mark.parametrize("name", ["top", "tropopause", "limit_heating", "limit_moistening", "limit_acceleration"])
def test_negative_settings_are_refused(name):
    with pytest.raises(UsageError, match=f"emulator.{name}=-1 must be at least 0"):
        EmulatorConfig(**{name: -1})
