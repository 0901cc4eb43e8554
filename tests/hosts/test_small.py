"""Hosts in torch: budgets that close, the own system reproduced, restarts, shares, shadows, and every process apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns import variable_set
from subgrid.coupling import CoupleConfig, couple
from subgrid.emulator import EmulatorConfig, build_emulator
from subgrid.emulator.budgets import known_budgets
from subgrid.hosts import stepping
from subgrid.hosts.base import Noise, host, host_names
from subgrid.hosts.climate import open_climate
from subgrid.hosts.column.model import MoistColumns
from subgrid.hosts.column.settings import ColumnConfig
from subgrid.hosts.driving import Drive
from subgrid.hosts.lorenz96.model import Rings, rk4
from subgrid.hosts.lorenz96.settings import Lorenz96Config
from subgrid.hosts.sampling import GenerateConfig
from subgrid.hosts.small import Answer, Situation
from subgrid.physics.constants import E3SM as C
from subgrid.training.statistics import fit_transforms

SAMPLING = GenerateConfig(
    spin_up_days=2, train_days=4, evaluation_days=4, gap_days=0, fraction=0.5, evaluation_fraction=0.5, terms=True
)
SMALL = {"column": {"columns": 16, "levels": 12}, "lorenz96": {"columns": 8, "slow": 8, "fast": 8}}


@pytest.fixture(scope="module", params=sorted(SMALL))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def made(name):
    return host(name, **SMALL[name])


@pytest.fixture(scope="module")
def store(name, made, tmp_path_factory):
    return made.generate(tmp_path_factory.mktemp(name) / "store.zarr", SAMPLING)


@pytest.fixture(scope="module")
def restart(store):
    return sorted((store.path / "restarts").iterdir())[0]


def own_targets(model, carry):
    at = Situation(model.inputs(carry.state, carry.step), carry.state, 0)
    return at, model.own_physics(at).targets


def test_they_are_known_by_name_and_need_no_model_to_be_checked(name, made):
    assert name in host_names()
    assert made.parameters["columns"] == SMALL[name]["columns"]


def test_what_it_stores_fits_its_variables(name, store, made):
    assert set(store.split_names) == {"train", "validation", "test", "perturbed"}
    for variables in (made.variables.inputs, made.variables.targets):
        values = store["train"].read_variables(variables, 0)
        assert np.isfinite(values).all()
    assert store.own_set() == made.variables.name
    assert store["perturbed"].samples > 0


def test_terms_add_up_to_the_total(store, made):
    for variable in (v for v in made.variables.targets if v.kind == "profile"):
        terms = [v for v in made.build(True).term_variables() if v.name.startswith(f"{variable.name}_")]
        total = store["train"].read_variables((variable,), 0)
        parts = sum(store["train"].read_variables((v,), 0) for v in terms)
        np.testing.assert_allclose(parts, total, rtol=0, atol=1e-6 * np.abs(total).max())


def test_a_restart_goes_on_bit_for_bit(store, made, restart, tmp_path):
    made.run(None, restart, 3, tmp_path / "again")
    again, held = open_climate(tmp_path / "again" / "daily"), open_climate(store.path / "control" / "daily")
    first = made.variables.inputs[0].name
    np.testing.assert_array_equal(again[first].values, held[first].sel(time=again["time"]).values)


def test_a_cut_run_goes_on_bit_for_bit_with_a_ramp_and_safeguards(made, store, restart, tmp_path, monkeypatch):
    """The ramp goes on where it stood, across the cut; the limits act, and what they did is the same."""
    monkeypatch.setattr(stepping, "PIECE_DAYS", 1)
    settings = EmulatorConfig.from_dict(made.variables.emulator)
    emulator = build_emulator("mlp", made.variables, made.grid.vertical, made.time_step, settings)
    fit_transforms(emulator, store["train"])
    with torch.no_grad():
        for weights in emulator.parameters():
            weights.mul_(3.0)  # so wild that its limits act
    steps = made.config.steps_per_day
    drive = Drive(spin_up_steps=steps // 2, ramp="linear", ramp_steps=2 * steps, mix=0.8)

    def cut(day, means):
        if day == 1:
            raise KeyboardInterrupt

    made.run(emulator, restart, 3, tmp_path / "whole", drive)
    with pytest.raises(KeyboardInterrupt):
        made.run(emulator, restart, 3, tmp_path / "cut", drive, on_day=cut)
    assert (tmp_path / "cut" / "checkpoint.safetensors").exists()
    made.run(emulator, restart, 3, tmp_path / "cut", drive)
    whole, again = (open_climate(tmp_path / name / "daily") for name in ("whole", "cut"))
    assert set(whole) == set(again)
    assert any(float(whole[counter.name].sum()) > 0 for counter in emulator.counters)
    for name in whole:
        np.testing.assert_array_equal(again[name].values, whole[name].values, err_msg=str(name))


def test_noise_is_as_large_as_asked_and_depends_on_the_member(made, restart):
    carry = made.start(restart)
    first = next(iter(made.model.bounds))
    pushed = [made.model.nudged(carry, Noise(0.5, k)).state[first] - carry.state[first] for k in (1, 1, 2)]
    assert abs(float(pushed[0].std()) - 0.5) < 0.1
    assert torch.equal(pushed[0], pushed[1]) and not torch.equal(pushed[0], pushed[2])


def test_an_exact_emulator_is_the_host_itself(made, restart):
    model = made.model
    carry = made.start(restart)
    plain = model.program()(carry, 20, True)

    def exact(at: Situation) -> Answer:
        return Answer(model.own_physics(at).targets, {})

    other = model.program(exact)(carry, 20, True)
    for key, values in plain.state.items():
        assert torch.equal(other.state[key], values), key


def test_a_share_of_an_emulator_is_that_share(made, restart):
    model, carry = made.model, made.start(restart)
    at, own = own_targets(model, carry)
    emulator = build_emulator("mlp", made.variables, made.grid.vertical, made.time_step, raw(made))
    sample = made.flat_columns(carry, emulator)
    whole, _ = made.emulator_physics(emulator, sample)
    half, used = made.emulator_physics(emulator, sample, Drive(mix=0.5))
    assert used == "torch"
    name = made.variables.targets[0].name
    expected = 0.5 * whole(at).targets[name] + 0.5 * own[name]
    torch.testing.assert_close(half(at).targets[name], expected)
    some, _ = made.emulator_physics(emulator, sample, Drive(act_on=(name,)))
    for target in made.variables.targets:
        source = whole(at).targets if target.name == name else own
        assert torch.equal(some(at).targets[target.name], source[target.name])


def raw(made):
    return EmulatorConfig(inputs="raw", positive_water=False, clip_inputs=False, clip_outputs=False)


def test_a_shadow_leaves_the_run_as_it_is_and_is_scored(made, store, restart, tmp_path):
    emulator = build_emulator("mlp", made.variables, made.grid.vertical, made.time_step, raw(made))
    made.run(emulator, restart, 2, tmp_path / "shadow", Drive(shadow=True))
    shadow, held = open_climate(tmp_path / "shadow" / "daily"), open_climate(store.path / "control" / "daily")
    first, target = made.variables.inputs[0].name, made.variables.targets[0].name
    np.testing.assert_array_equal(shadow[first].values, held[first].sel(time=shadow["time"]).values)
    assert shadow[f"shadow_square_error_{target}"].dims == ("time", "level")
    assert f"outside_{first}" in shadow


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"keep": "surface"}, "no surface of its own"), ({"bridge": "jax"}, "runs in torch")],
)
def test_what_it_cannot_do_is_refused(made, restart, settings, says):
    emulator = build_emulator("mlp", made.variables, made.grid.vertical, made.time_step, raw(made))
    with pytest.raises(UsageError, match=says):
        made.emulator_physics(emulator, made.flat_columns(made.start(restart), emulator), Drive(**settings))


def test_a_state_beyond_its_bounds_is_named(made, restart):
    model, carry = made.model, made.start(restart)
    first = next(iter(model.bounds))
    broken = carry.state[first].clone()
    broken[3, 5] = float("nan")
    bad = model.program()(carry._replace(state={**carry.state, first: broken}), 5, True)
    assert not bad.stable and bad.step == carry.step
    found = model.departure(bad)
    assert found["variable"] == first and found["level"] == 3


def test_a_restart_of_other_columns_is_refused(name, restart):
    other = host(name, **{**SMALL[name], "columns": 4})
    with pytest.raises(SubgridError, match="of other columns"):
        other.start(restart)


def test_it_couples_and_is_compared(made, store, tmp_path):
    """An untrained emulator is a result, whatever becomes of it."""
    from subgrid.emulator import save_emulator

    emulator = build_emulator(
        "mlp", made.variables, made.grid.vertical, made.time_step, EmulatorConfig.from_dict(made.variables.emulator)
    )
    fit_transforms(emulator, store["train"])
    save_emulator(emulator, tmp_path / "emulator")
    run = couple(CoupleConfig(str(tmp_path / "emulator"), str(store.path), days=2), tmp_path / "run")
    assert run.metrics["bridge"] == "torch" and {"own_physics", "network", "coupled"} <= set(run.metrics["step_ms"])
    own = couple(CoupleConfig("own", str(store.path), days=2, perturb=0.1, member=1), tmp_path / "own")
    assert own.metrics["finite"] and own.metrics["answer"] == "the host's own physics"
    assert float(own.comparison[f"rmse_{made.variables.inputs[0].name}"][-1].mean()) > 0


class TestColumns:
    @pytest.fixture(scope="class")
    def model(self):
        return MoistColumns(ColumnConfig(**SMALL["column"]))

    @pytest.fixture(scope="class")
    def stirred(self, model):
        return model.program()(model.initial(), 15 * 72, True)

    def test_enthalpy_and_water_of_the_column_physics_close(self, model, stirred):
        _, found = own_targets(model, stirred)
        heating = C.cp * (model.mass * found["temperature_tendency"]).sum(0)
        rain = found["convective_precipitation"] + found["large_scale_precipitation"]
        assert float(rain.max()) * 86400 > 1.0
        torch.testing.assert_close(heating, C.Lv * rain, rtol=1e-9, atol=1e-9)
        drying = -(model.mass * found["specific_humidity_tendency"]).sum(0)
        torch.testing.assert_close(drying, rain, rtol=1e-9, atol=1e-15)

    def test_its_budgets_are_declared(self):
        assert {b.name for b in known_budgets(variable_set("column"))} == {"energy", "water"}

    def test_rain_is_that_of_the_tropics(self, stirred, model):
        long = model.program()(stirred, 20 * 72, True)
        rain = (
            (long.sums["convective_precipitation"] + long.sums["large_scale_precipitation"]).mean() / (20 * 72) * 86400
        )
        assert 3.0 < rain < 10.0

    def test_one_process_may_be_replaced(self, model, stirred):
        at, own = own_targets(model, stirred)
        convection = model.process("convection", at, model.nothing())
        found = model.own_physics(at, {"convection"}, convection).targets
        for name, values in own.items():
            assert torch.equal(found[name], values), name
        none = model.own_physics(at, {"convection"}, {}).targets
        assert float(none["large_scale_precipitation"].sum()) > float(own["large_scale_precipitation"].sum())

    def test_mixing_keeps_enthalpy_and_water(self, model, stirred):
        t, q = stirred.state["temperature"], stirred.state["specific_humidity"]
        after_t, after_q = model._mix(t, q)
        for before, after in ((t, after_t), (q, after_q)):
            torch.testing.assert_close((model.mass * after).sum(0), (model.mass * before).sum(0), rtol=1e-9, atol=0)
        assert float((after_t - t).abs().max()) > 0

    def test_seas_may_be_warmer(self):
        warm, plain = (MoistColumns(ColumnConfig(sst=sst)) for sst in ("+4K", "observed"))
        torch.testing.assert_close(warm.sea - plain.sea, torch.full_like(plain.sea, 4.0))

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"columns": 1}, "at least 2"),
            ({"time_step_minutes": 7}, "divide a day"),
            ({"warmest_sea": 250.0}, "must rise"),
            ({"sst": "4K"}, r"\+4K"),
            ({"sst": "aquaplanet"}, "must be observed"),
            ({"relative_humidity": 0.0}, "relative_humidity"),
            ({"forcing": -1.0}, "forcing"),
            ({"forcing_hours": 0.0}, "positive"),
        ],
    )
    def test_wrong_settings_are_refused(self, settings, says):
        with pytest.raises(UsageError, match=says):
            ColumnConfig(**settings)


class TestRings:
    def test_the_column_physics_added_to_a_step_without_it_is_the_full_system(self):
        config = Lorenz96Config(**SMALL["lorenz96"])
        model = Rings(config)
        carry = model.program()(model.initial(), 400, True)
        x, y = carry.state["x"], carry.state["y"]
        for _ in range(10):
            x, y = rk4(model._full, (x, y), config.step)
        after = model.program()(carry, 10, True).state
        torch.testing.assert_close(after["x"], x, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(after["y"], y, rtol=1e-12, atol=1e-12)

    def test_without_fast_variables_it_is_damping_and_forcing(self):
        model = Rings(Lorenz96Config(scales=1, forcing=8.0, columns=4, slow=40))
        carry = model.program()(model.initial(), 2000, True)
        assert 1.5 < float(carry.state["x"].mean()) < 3.2  # 2.3 for K = 40 and F = 8
        assert 3.0 < float(carry.state["x"].std()) < 4.3  # 3.6

    def test_advection_keeps_energy(self):
        model = Rings(Lorenz96Config(**SMALL["lorenz96"], scales=1, forcing=0.0))
        x = model.first_state()["x"]
        (rate,) = model._alone(x)
        torch.testing.assert_close((x * rate).sum(0), torch.zeros(8, dtype=torch.float64), rtol=0, atol=1e-10)

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"slow": 3}, "slow"),
            ({"scales": 3}, "scales"),
            ({"steps_per_day": 41}, "whole seconds"),
            ({"amplitude": 0.0}, "amplitude"),
        ],
    )
    def test_wrong_settings_are_refused(self, settings, says):
        with pytest.raises(UsageError, match=says):
            Lorenz96Config(**settings)
