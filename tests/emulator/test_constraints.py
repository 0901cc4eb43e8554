"""Constraints: what each conserves, that it changes nothing more, and that it is refused where it cannot work."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.columns import VariableSet, variable_set
from subgrid.columns.variables import profiles
from subgrid.emulator import EmulatorConfig, build_emulator
from subgrid.emulator.constraints import Condense, PositiveWater, WaterByPrecipitation
from subgrid.emulator.features import InputFeatures
from subgrid.emulator.flat import unflatten
from subgrid.physics.constants import SPEEDY as C
from subgrid.physics.moisture import saturation_specific_humidity

SET = variable_set("speedy")
SCALARS = [v.name for v in SET.targets if v.kind == "scalar"]
CONVECTIVE, STRATIFORM, EVAPORATION = (
    SCALARS.index(n) for n in ("convective_precipitation", "large_scale_precipitation", "evaporation")
)
DT = 2400.0


@pytest.fixture(scope="module")
def features(column_grid):
    return InputFeatures("raw", SET, column_grid.vertical, "murray")


def noisy_columns(make_rows, count):
    """Raw inputs and outputs, float32; the outputs are noisy, so that no budget closes by itself."""
    rows = make_rows(count, seed=4)
    rng = np.random.default_rng(4)
    noisy = rows["targets"] * (1.0 + 0.5 * rng.standard_normal(rows["targets"].shape))
    targets = torch.from_numpy(noisy.astype(np.float32))
    return (*unflatten(torch.from_numpy(rows["inputs"]), 4, 8), *unflatten(targets, 4, 8))


@pytest.fixture
def columns(make_rows):
    return noisy_columns(make_rows, 400)


def mass_of(s_in, column_grid):
    """Layer mass in float64, kg/m2."""
    return s_in[:, :1].double() * torch.tensor(np.diff(column_grid.vertical.hybi)) / C.gravity


def budget(p_out, s_out, mass):
    """Residual of the column's water and the sum of its absolute terms, float64."""
    terms = [(mass * p_out[:, :, 1].double()), *(s_out[:, [k]].double() for k in (CONVECTIVE, STRATIFORM))]
    terms = torch.cat([*terms, -s_out[:, [EVAPORATION]].double()], dim=1)
    return terms.sum(1), terms.abs().sum(1)


class TestCondense:
    @pytest.fixture
    def supersaturated(self, columns, column_grid):
        """Every other layer holds half more than saturation."""
        p_in, s_in, p_out, s_out = columns
        saturated = saturation_specific_humidity(p_in[:, :, 0], column_grid.vertical.mid_pressure(s_in[:, 0]), "murray")
        p_in[:, ::2, 1] = 1.5 * saturated[:, ::2]
        return p_in, s_in, p_out, s_out, saturated

    def test_conserves_enthalpy_and_water(self, features, supersaturated, column_grid):
        *columns, _ = supersaturated
        p_in, s_in, p_out, s_out = (c.double() for c in columns)
        p, s, condensed = Condense(features, SET, EmulatorConfig())(p_in, s_in, p_out, s_out)
        heating, moistening = (p - p_out)[:, :, 0], (p - p_out)[:, :, 1]
        scale = (C.Lv * moistening).abs().max()
        assert (C.cp * heating + C.Lv * moistening).abs().max() < 1e-12 * scale
        falling = (s - s_out)[:, STRATIFORM]
        drying = -(mass_of(columns[1], column_grid) * moistening).sum(1)
        torch.testing.assert_close(falling, drying, rtol=1e-9, atol=0)
        torch.testing.assert_close(condensed.sum(1), drying, rtol=1e-9, atol=0)
        assert (condensed.sum(1) > 0).all() and not condensed[:, 1::2].any()

    def test_takes_the_excess_over_the_time_scale(self, features, supersaturated):
        *columns, saturated = supersaturated
        config = EmulatorConfig(condense_above=1.1, condense_hours=2.0)
        p, _, _ = Condense(features, SET, config)(*columns)
        excess = columns[0][:, :, 1] - 1.1 * saturated
        wanted = -torch.relu(excess) / 7200.0
        torch.testing.assert_close(p[:, :, 1] - columns[2][:, :, 1], wanted, rtol=1e-3, atol=1e-12)

    def test_leaves_unsaturated_layers_and_other_variables_alone(self, features, supersaturated):
        *columns, _ = supersaturated
        p, s, _ = Condense(features, SET, EmulatorConfig())(*columns)
        assert torch.equal(p[:, 1::2], columns[2][:, 1::2])
        assert torch.equal(p[:, :, 2:], columns[2][:, :, 2:])
        others = [k for k in range(len(SCALARS)) if k != STRATIFORM]
        assert torch.equal(s[:, others], columns[3][:, others])


class TestPositiveWater:
    @pytest.mark.parametrize("dt", [1.0, 60.0, 600.0, 900.0, 1200.0, 1800.0, 2400.0, 3600.0, 86400.0, 1e3 / 3, 777.7])
    def test_no_layer_is_negative_after_the_step_in_float32(self, features, dt):
        rng = np.random.default_rng(5)
        size = (20_000, 8)
        q = rng.uniform(0.0, 1.0, size) * 10.0 ** rng.uniform(-44.0, -1.5, size)
        drying = -q / dt * 10.0 ** rng.uniform(-1.0, 3.0, size)
        p_in, p_out = torch.zeros(*size, 4), torch.zeros(*size, 4)
        p_in[:, :, 1] = torch.from_numpy(q.astype(np.float32))
        p_out[:, :, 1] = torch.from_numpy(drying.astype(np.float32))
        p, _, _ = PositiveWater(features, SET, dt)(
            p_in, torch.full((size[0], 13), 1e5), p_out, torch.zeros(size[0], 12)
        )
        after = p_in[:, :, 1] + dt * p[:, :, 1]
        assert (after >= 0).all()
        step = (torch.tensor(dt) * p[:, :, 1]).numpy()  # as another language would: rounded, then added
        assert (p_in[:, :, 1].numpy() + step >= 0).all()
        held = p_in[:, :, 1] > 1e-22
        assert (after <= 1e-6 * p_in[:, :, 1])[held & (p_out[:, :, 1] < -2 * p_in[:, :, 1] / dt)].all()

    def test_creates_no_water_where_none_is_needed(self, features, columns):
        p_in, s_in, p_out, s_out = columns
        p_in[:, 3, 1] = -1e-4
        p_out[:, 3, 1] = torch.linspace(-1e-6, 1e-6, len(p_out))
        limit = -torch.relu(p_in[:, :, 1].double()) / DT
        before = p_out[:, :, 1].double()
        p, s, _ = PositiveWater(features, SET, DT)(p_in, s_in, p_out, s_out)
        after = p[:, :, 1].double()
        needless = before >= limit * (1.0 - 1e-6)
        assert torch.equal(after[needless], before[needless])
        assert (after <= torch.maximum(before, torch.zeros_like(before))).all()  # drying is at most stopped
        assert (after[:, 3] == torch.relu(before[:, 3])).all()
        assert torch.equal(s, s_out)
        assert torch.equal(p[:, :, [0, 2, 3]], p_out[:, :, [0, 2, 3]])

    def test_counts_the_water_that_it_keeps(self, features, columns, column_grid):
        p_in, s_in, p_out, s_out = columns
        p_out[:, :, 1] = -1e-3
        p, _, added = PositiveWater(features, SET, DT)(p_in, s_in, p_out, s_out)
        wanted = mass_of(s_in, column_grid) * (p - p_out)[:, :, 1].double()
        torch.testing.assert_close(added.double(), wanted, rtol=1e-5, atol=0)
        assert (added.sum(1) > 0).all()

    def test_bounds_cloud_liquid_and_ice_of_a_set_that_has_them(self, climsim_store):
        store = climsim_store("v2")
        names = [v.quantity for v in profiles(store.variable_set("v2").inputs)]
        variables, grid = store.variable_set("v2"), store.grid.vertical
        raw = InputFeatures("raw", variables, grid, "sam")
        p_in, s_in = torch.zeros(3, 6, len(names)), torch.full((3, 17), 1e5)
        held = {"specific_humidity": 1e-3, "cloud_liquid": 2e-5, "cloud_ice": 3e-6}
        for name, value in held.items():
            p_in[:, :, names.index(name)] = value
        p_out = torch.full((3, 6, 6), -1.0)
        p, _, added = PositiveWater(raw, variables, 1200.0)(p_in, s_in, p_out, torch.zeros(3, 8))
        for k, value in enumerate(held.values(), start=1):  # max(prediction, -state / 1200)
            torch.testing.assert_close(p[:, :, k], torch.full((3, 6), -value / 1200.0), rtol=1e-6, atol=0)
        assert (p[:, :, [0, 4, 5]] == -1.0).all()
        mass = s_in[:, :1].double() * torch.tensor(np.diff(grid.hybi)) / variables.physics.gravity
        wanted = (mass[:, :, None] * (p - p_out)[:, :, 1:4].double()).sum(2)
        torch.testing.assert_close(added.double(), wanted, rtol=1e-5, atol=0)


class TestWaterByPrecipitation:
    def test_closes_the_budget(self, features, columns, column_grid):
        p_in, s_in, p_out, s_out = columns
        p, s, change = WaterByPrecipitation(features, SET)(p_in, s_in, p_out, s_out)
        residual, size = budget(p, s, mass_of(s_in, column_grid))
        moistening = (mass_of(s_in, column_grid) * p_out[:, :, 1].double()).sum(1)
        can = s_out[:, EVAPORATION].double() > moistening
        assert can.float().mean() > 0.1
        assert (residual.abs() / size)[can].max() < 1e-6
        precipitation = s[:, CONVECTIVE] + s[:, STRATIFORM]
        assert (precipitation[~can] == 0).all()
        assert (s[:, [CONVECTIVE, STRATIFORM]] >= 0).all()
        assert torch.equal(p, p_out)
        before = torch.relu(s_out[:, CONVECTIVE]) + torch.relu(s_out[:, STRATIFORM])
        torch.testing.assert_close(change, (precipitation - before).abs(), rtol=1e-4, atol=1e-10)

    def test_keeps_the_networks_proportions(self, features, columns):
        p_in, s_in, p_out, s_out = columns
        s_out[:, CONVECTIVE], s_out[:, STRATIFORM], s_out[:, EVAPORATION] = 3e-5, 1e-5, 9e-5
        p_out[:, :, 1] = 0.0
        _, s, _ = WaterByPrecipitation(features, SET)(p_in, s_in, p_out, s_out)
        torch.testing.assert_close(s[:, CONVECTIVE], torch.full((400,), 0.75 * 9e-5), rtol=1e-5, atol=0)
        torch.testing.assert_close(s[:, STRATIFORM], torch.full((400,), 0.25 * 9e-5), rtol=1e-5, atol=0)


class TestWaterByProjection:
    @pytest.fixture(scope="class")
    def constraint(self, make_emulator):
        return make_emulator(water="projection").constraints[0]

    @pytest.fixture
    def columns(self, make_rows):
        return noisy_columns(make_rows, 5000)

    def test_closes_the_budget_to_1e_6(self, constraint, columns, column_grid):
        _, s_in, p_out, s_out = columns
        mass = mass_of(s_in, column_grid)
        before, size = budget(p_out, s_out, mass)
        assert (before.abs() / size).median() > 0.01
        p, s, counted = constraint(*columns)
        after, size = budget(p, s, mass)
        assert (after.abs() / size).max() < 1e-6
        torch.testing.assert_close(counted.double(), before.abs(), rtol=1e-3, atol=1e-10)

    def test_moves_along_the_gradient_and_no_further(self, constraint, columns, column_grid):
        """In units of each output's spread the change is -r g / |g|^2: the shortest way onto the closed budget."""
        p_in, s_in, p_out, s_out = (c.double() for c in columns)
        outputs = constraint._outputs[0]
        mass = mass_of(columns[1], column_grid)
        n = len(mass)
        spread = torch.cat(
            [outputs.profile_std[:, 1], outputs.scalar_std[[CONVECTIVE, STRATIFORM, EVAPORATION]]]
        ).double()
        sign = torch.tensor([1.0, 1.0, -1.0]).double().expand(n, 3)
        gradient = torch.cat([mass, sign], dim=1) * spread
        residual, _ = budget(p_out, s_out, mass)
        p, s, _ = constraint(p_in, s_in, p_out, s_out)
        picked = [CONVECTIVE, STRATIFORM, EVAPORATION]
        moved = torch.cat([(p - p_out)[:, :, 1], (s - s_out)[:, picked]], dim=1)
        wanted = -residual[:, None] * gradient / gradient.square().sum(1, keepdim=True)
        live = spread > 0
        assert (moved[:, ~live] == 0).all() and (~live).any()  # level 0 never changes its humidity
        scale = wanted.abs().max()
        torch.testing.assert_close(moved[:, live] / spread[live], wanted[:, live], rtol=1e-5, atol=1e-7 * scale)

    def test_leaves_other_variables_and_closed_budgets_alone(self, constraint, columns):
        p, s, _ = constraint(*columns)
        others = [k for k in range(len(SCALARS)) if k not in (CONVECTIVE, STRATIFORM, EVAPORATION)]
        assert torch.equal(p[:, :, [0, 2, 3]], columns[2][:, :, [0, 2, 3]])
        assert torch.equal(s[:, others], columns[3][:, others])
        zeros = constraint(*columns[:2], torch.zeros_like(p), torch.zeros_like(s))
        assert (zeros[0] == 0).all() and (zeros[1] == 0).all()

    def test_is_not_saved_twice(self, make_emulator):
        plain, projecting = make_emulator(water="none"), make_emulator(water="projection")
        assert plain.state_dict().keys() == projecting.state_dict().keys()


def energy_terms(p_in, s_in, p_out, s_out, mass):
    """Every term of the column's energy as jcm closes it, W/m2, written down from its code; float64."""
    flux = {name: s_out[:, k].double() for k, name in enumerate(SCALARS)}
    emitted = 5.67e-8 * p_in[:, -1, 0].double() ** 4
    lost = 0.02 * (flux["surface_downward_longwave"] / 0.98 - 0.05 * emitted)  # not absorbed, nor reflected as longwave
    insolation = s_in[:, [v.name for v in SET.inputs if v.kind == "scalar"].index("insolation")].double()
    instead = 0.02 * (insolation - flux["absorbed_solar"])  # reflected in its place
    shortwave = flux["absorbed_solar"] - flux["surface_net_shortwave"]
    longwave = flux["surface_upward_longwave"] - flux["surface_downward_longwave"] - flux["outgoing_longwave"]
    rain = C.Lv * (flux["convective_precipitation"] + flux["large_scale_precipitation"])
    gained = torch.stack([shortwave, longwave, -lost, instead, flux["sensible_heat_flux"], rain], dim=1)
    return torch.cat([C.cp * mass * p_out[:, :, 0].double(), -gained], dim=1)


class TestEnergy:
    @pytest.fixture(scope="class")
    def constraint(self, make_emulator):
        return make_emulator(energy="projection", positive_water=False).constraints[0]

    @pytest.mark.parametrize("kind", ["projection", "tendencies", "level"])
    def test_closes_the_budget_to_1e_6(self, make_emulator, kind, columns, column_grid):
        constraint = make_emulator(energy=kind, positive_water=False).constraints[0]
        p_in, s_in, p_out, s_out = columns
        mass = mass_of(s_in, column_grid)
        before = energy_terms(p_in, s_in, p_out, s_out, mass)
        assert (before.sum(1).abs() / before.abs().sum(1)).median() > 0.01
        p, s, counted = constraint(*columns)
        after = energy_terms(p_in, s_in, p, s, mass)
        assert (after.sum(1).abs() / after.abs().sum(1)).max() < 1e-6
        torch.testing.assert_close(counted.double(), before.sum(1).abs(), rtol=1e-3, atol=1e-3)

    def test_a_level_takes_all_of_the_residual(self, make_emulator, columns, column_grid):
        """That level whose heating, one spread of it, is worth most."""
        constraint = make_emulator(energy="level", positive_water=False).constraints[0]
        p, s, _ = constraint(*columns)
        worth = constraint._outputs[0].profile_std[:, 0].numpy() * np.diff(column_grid.vertical.hybi)
        others = [k for k in range(8) if k != worth.argmax()]
        assert torch.equal(s, columns[3])
        assert torch.equal(p[:, :, 1:], columns[2][:, :, 1:])
        assert torch.equal(p[:, others, 0], columns[2][:, others, 0])
        assert not torch.equal(p[:, worth.argmax(), 0], columns[2][:, worth.argmax(), 0])

    def test_tendencies_take_all_of_the_residual(self, make_emulator, columns):
        p, s, _ = make_emulator(energy="tendencies", positive_water=False).constraints[0](*columns)
        assert torch.equal(s, columns[3]) and torch.equal(p[:, :, 1:], columns[2][:, :, 1:])
        assert (p[:, :, 0] != columns[2][:, :, 0]).any(0).all()

    def test_leaves_water_and_winds_alone(self, constraint, columns):
        p, s, _ = constraint(*columns)
        assert torch.equal(p[:, :, 1:], columns[2][:, :, 1:])
        kept = [CONVECTIVE, STRATIFORM, EVAPORATION]
        assert torch.equal(s[:, kept], columns[3][:, kept])

    @pytest.mark.parametrize("kind", ["projection", "tendencies", "level"])
    def test_acts_last_and_keeps_water_closed(self, make_emulator, kind, columns, column_grid):
        emulator = make_emulator(energy=kind, water=kind)
        closing = [f"water_by_{kind}", "positive_water", "water_by_fluxes", f"energy_by_{kind}"]
        assert [c.name for c in emulator.counters[2:]] == closing
        p_in, s_in, p_out, s_out = columns
        acted = []
        for constraint in emulator.constraints:
            p_out, s_out, count = constraint(p_in, s_in, p_out, s_out)
            acted.append(count.max() > 0)
        assert all(acted)  # also the bound on drying, which opens the budget again
        mass = mass_of(s_in, column_grid)
        residual, size = budget(p_out, s_out, mass)
        assert (residual.abs() / size).max() < 1e-6
        terms = energy_terms(p_in, s_in, p_out, s_out, mass)
        assert (terms.sum(1).abs() / terms.abs().sum(1)).max() < 1e-6


@pytest.mark.parametrize(
    ("settings", "counter", "gone"),
    [
        ({"condense": True, "positive_water": False}, "condensed_water", "large_scale_precipitation"),
        ({"condense": False, "positive_water": True}, "positive_water", "specific_humidity_tendency"),
        (
            {"condense": False, "positive_water": False, "water": "precipitation"},
            "water_by_precipitation",
            "evaporation",
        ),
    ],
)
def test_a_set_without_what_a_constraint_needs_is_refused_by_name(column_grid, settings, counter, gone):
    poor = VariableSet("poor", SET.inputs, tuple(v for v in SET.targets if v.name != gone))
    with pytest.raises(UsageError, match=f"constraint '{counter}' needs {gone}, which variable set 'poor' lacks"):
        build_emulator("mlp", poor, column_grid.vertical, DT, EmulatorConfig(**settings))
    off = {"condense": False, "positive_water": False, "water": "none"}
    build_emulator("mlp", poor, column_grid.vertical, DT, EmulatorConfig(**off))


@pytest.mark.parametrize("how", ["projection", "tendencies", "level"])
@pytest.mark.parametrize(("name", "gone"), [("water", "evaporation"), ("energy", "absorbed_solar")])
def test_a_set_without_a_term_of_a_budget_is_refused_by_name(column_grid, how, name, gone):
    poor = VariableSet("poor", SET.inputs, tuple(v for v in SET.targets if v.name != gone))
    with pytest.raises(UsageError, match=f"the {name} budget needs {gone}, which variable set 'poor' lacks"):
        build_emulator("mlp", poor, column_grid.vertical, DT, EmulatorConfig(positive_water=False, **{name: how}))


def test_constraints_act_in_order_and_name_their_counters(make_emulator):
    def named(**settings):
        return [c.name for c in make_emulator(**settings).counters]

    assert named(water="projection", condense=True) == [
        "inputs_clipped",
        "outputs_clipped",
        "water_by_projection",
        "condensed_water",
        "positive_water",
        "water_by_fluxes",
    ]
    assert named(water="precipitation", condense=True)[2:] == [
        "condensed_water",
        "positive_water",
        "water_by_precipitation",
    ]
    assert named(condense=False, positive_water=False) == ["inputs_clipped", "outputs_clipped"]
