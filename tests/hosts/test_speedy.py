"""The embedded model: what it stores, that it is memoryless, that it resumes, and that it names a departure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
import zarr
from jcm.physics_interface import verify_state

from subgrid.base.arrays import read_arrays, write_arrays
from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns import open_store
from subgrid.columns.store import ColumnStore
from subgrid.hosts import generate as generation
from subgrid.hosts.climate import ClimateWriter, open_climate
from subgrid.hosts.generate import Generator
from subgrid.hosts.sampling import Calendar, GenerateConfig, column_probability
from subgrid.hosts.speedy import perturb as perturbation
from subgrid.hosts.speedy.host import Speedy
from subgrid.hosts.speedy.model import TERM_GROUPS, Result, Situation, SpeedyModel
from subgrid.hosts.speedy.processes import PROGNOSTIC
from subgrid.hosts.speedy.settings import SpeedyConfig

SAMPLING = GenerateConfig(
    spin_up_days=1, train_days=3, evaluation_days=4, gap_days=0, fraction=0.3, evaluation_fraction=0.3
)


@pytest.fixture(scope="module")
def model() -> SpeedyModel:
    return SpeedyModel(SpeedyConfig(), record_terms=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ColumnStore:
    return Speedy().generate(tmp_path_factory.mktemp("speedy") / "store.zarr", SAMPLING)


@pytest.fixture(scope="module")
def spun_up(model: SpeedyModel):
    return model.program()(model.initial(), 30, True)


def test_physics_has_no_memory_and_runs_shortwave_at_every_step(model, spun_up):
    state = verify_state(model.model.dycore.to_physics_state(spun_up.state))
    from jcm.date import DateData

    forcing = model.forcing.select(DateData(spun_up.time, spun_up.step, model.dt))
    at = Situation(model.boundary(state, forcing), state, forcing, spun_up.step)
    once, again = (model.own_physics(at) for _ in range(2))
    for name in PROGNOSTIC:
        np.testing.assert_array_equal(once.tendencies[name], again.tendencies[name])
    advance = model.program()
    carry = spun_up
    for _ in range(4):
        carry = advance(carry, 1, True)
        assert float(carry.columns["absorbed_solar"].max()) > 100.0


def test_targets_are_what_the_dynamics_receives(model, spun_up):
    """q + dt dq never falls below zero by more than rounding: the host's water correction is in the targets."""
    carry = model.program()(spun_up, 5, True)
    q = np.asarray(carry.columns["specific_humidity"])
    dq = np.asarray(carry.columns["specific_humidity_tendency"])
    assert q.min() >= 0.0
    assert (q + model.dt * dq).min() >= -1e-9


def test_state_change_splits_into_physics_and_dynamics(model, spun_up):
    advance = model.program()
    before = advance(spun_up, 3, True)
    after = advance(before, 1, False)
    for name in PROGNOSTIC:
        change = (np.asarray(after.columns[name]) - np.asarray(before.columns[name])) / model.dt
        parts = np.asarray(after.columns[f"{name}_dyn"]) + np.asarray(after.columns[f"{name}_prvphy"])
        np.testing.assert_allclose(parts, change, rtol=0, atol=1e-5 * np.abs(change).max())
        np.testing.assert_array_equal(after.columns[f"{name}_prvphy"], before.columns[f"{name}_tendency"])
        np.testing.assert_array_equal(after.columns[f"tm_{name}_dyn"], before.columns[f"{name}_dyn"])


def test_terms_add_up_to_the_total(model, spun_up):
    carry = model.program()(spun_up, 2, True)
    for name in ("temperature", "u_wind", "v_wind"):
        total = np.asarray(carry.columns[f"{name}_tendency"])
        parts = sum(np.asarray(carry.columns[f"{name}_tendency_{group}"]) for group in TERM_GROUPS)
        np.testing.assert_allclose(parts, total, rtol=0, atol=1e-5 * np.abs(total).max())


def test_perturbed_columns_of_no_amplitude_are_the_columns_themselves(model, spun_up, monkeypatch):
    """The host's answer to a perturbed column is exact: without perturbation it is the answer that was stored."""
    carry = model.program()(spun_up, 3, True)
    for name in ("COLUMN_K", "SMOOTH_K", "LEVEL_K", "LOG_HUMIDITY", "WIND"):
        monkeypatch.setattr(perturbation, name, 0.0)
    monkeypatch.setattr(perturbation, "HUMIDITY_CEILING", 1e9)
    found = perturbation.perturber(model, seed=1)(carry)
    for name in ("temperature", "specific_humidity", "u_wind", "insolation"):
        scale = float(jnp.abs(carry.columns[name]).max())
        np.testing.assert_allclose(found[name], carry.columns[name], rtol=0, atol=1e-5 * scale)
    for name in ("temperature_tendency", "outgoing_longwave", "evaporation", "absorbed_solar"):
        gap = np.abs(np.asarray(found[name]) - np.asarray(carry.columns[name]))
        # A trigger may flip with the last bit in a few columns.
        assert np.quantile(gap, 0.99) < 1e-3 * float(jnp.std(carry.columns[name])), name


def test_perturbed_columns_differ_are_repeatable_and_carry_no_weight(model, spun_up, store):
    carry = model.program()(spun_up, 3, True)
    make = perturbation.perturber(model, seed=1)
    once, again = make(carry), make(carry)
    np.testing.assert_array_equal(once["temperature"], again["temperature"])
    apart = np.asarray(once["temperature"]) - np.asarray(carry.columns["temperature"])
    assert 1.0 < apart.std() < 10.0
    assert np.isfinite(np.asarray(once["temperature_tendency"])).all()
    assert store["perturbed"].samples > 100 and not store["perturbed"].mark("weight").any()
    assert store["train"].mark("weight").all()


def test_water_of_the_own_physics_closes(store):
    daily = open_climate(store.path / "control" / "daily")
    rain = daily["convective_precipitation"] + daily["large_scale_precipitation"]
    made = daily["column_moistening"] + rain - daily["evaporation"] - daily["host_limiter_moistening"]
    assert float(np.abs(made).max()) < 1e-3 * float(rain.max())


def test_store_holds_splits_restarts_and_control(store):
    assert store.split_names == ["perturbed", "test", "train", "validation"]
    assert [f.stem for f in sorted((store.path / "restarts").glob("*"))] == ["2000-10-07", "2000-10-09"]
    daily, monthly = (open_climate(store.path / "control" / name) for name in ("daily", "monthly"))
    assert daily.sizes["time"] == 7 and not np.isnan(daily["temperature"]).any()
    np.testing.assert_allclose(monthly["temperature"][0], daily["temperature"].mean("time"), rtol=1e-6)
    assert str(daily["time"].values[0])[:10] == "2000-10-04"
    with xr.open_zarr(store.path, group="train", consolidated=False) as train:
        assert train.sizes["sample"] == store["train"].samples
        assert set(np.unique(train["time"].dt.hour)) != {0}


def test_columns_are_drawn_with_probability_proportional_to_area(store):
    area = store.grid.area
    probability = column_probability(area, SAMPLING.fraction)
    np.testing.assert_allclose(probability.mean(), SAMPLING.fraction, rtol=1e-12)
    np.testing.assert_allclose(probability / area, probability[0] / area[0])
    drawn = np.bincount(store["train"].mark("column"), minlength=len(area))
    times = len(np.unique(store["train"].mark("time")))
    polar, tropical = np.abs(store.grid.latitude) > 60, np.abs(store.grid.latitude) < 30
    for part in (polar, tropical):
        expected = probability[part].sum() * times
        assert abs(drawn[part].sum() - expected) < 5 * np.sqrt(expected)
    weight = store["train"].mark("weight")
    np.testing.assert_allclose(weight, (area / probability)[store["train"].mark("column")], rtol=1e-6)


def test_restart_reproduces_the_control_bit_for_bit(store, tmp_path):
    host = Speedy(**store.spec.provenance["host"])
    restart = sorted((store.path / "restarts").glob("*"))[0]
    result = host.run(None, restart, 2, tmp_path / "again")
    assert result.unstable is None and result.days == 2
    again, held = open_climate(tmp_path / "again" / "daily"), open_climate(store.path / "control" / "daily")
    held = held.sel(time=again["time"])
    for name in ("temperature", "specific_humidity", "convective_precipitation"):
        np.testing.assert_array_equal(again[name].values, held[name].values)


def test_killed_generation_goes_on_to_the_same_store(store, tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "PIECE_DAYS", 2)
    path = tmp_path / "store.zarr"
    real = Generator._one_day
    calls = []

    def dying(self, *args):
        calls.append(1)
        if len(calls) > 6:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(Generator, "_one_day", dying)
    with pytest.raises(KeyboardInterrupt):
        Speedy().generate(path, SAMPLING)
    with pytest.raises(SubgridError, match="unfinished"):
        open_store(path)
    monkeypatch.setattr(Generator, "_one_day", real)
    resumed = Speedy().generate(path, SAMPLING)
    for split in store.split_names:
        for array in ("inputs", "history", "targets", "time", "column", "weight"):
            for block in range(store[split].blocks):
                np.testing.assert_array_equal(resumed[split].read(array, block), store[split].read(array, block))
    both = [open_climate(s.path / "control" / "daily")["temperature"].values for s in (resumed, store)]
    np.testing.assert_array_equal(*both)
    log = (path / "log.txt").read_text()  # moved with the store from where it was built
    at = [log.index(text) for text in ("generate: begins", "generate: interrupted", "goes on from", "generate: done")]
    assert at == sorted(at)


def test_generating_a_finished_store_again_reuses_it_or_says_what_differs(store):
    before = {p: p.stat().st_mtime_ns for p in store.path.rglob("*")}
    assert Speedy().generate(store.path, SAMPLING).spec.attributes() == store.spec.attributes()
    assert {p: p.stat().st_mtime_ns for p in store.path.rglob("*")} == before
    with pytest.raises(SubgridError, match=r"exists already, made with other settings \(generate\); remove it"):
        Speedy().generate(store.path, replace(SAMPLING, seed=1))


def test_warmer_seas_are_warmer_by_so_much_and_nothing_else_is(store):
    plain, warm = Speedy().model.forcing, Speedy(sst="+2.5K").model.forcing
    difference = np.asarray(warm.sea_surface_temperature.values) - np.asarray(plain.sea_surface_temperature.values)
    np.testing.assert_allclose(difference, 2.5, atol=1e-4)
    for name in ("stl_am", "sice_am", "soilw_am", "snowc_am"):
        for ours, theirs in zip(
            jax.tree.leaves(getattr(warm, name)), jax.tree.leaves(getattr(plain, name)), strict=True
        ):
            assert np.array_equal(ours, theirs)
    with pytest.raises(SubgridError, match=r"made with other settings \(host\)"):
        Speedy(sst="+4K").generate(store.path, SAMPLING)


def test_a_store_older_than_a_setting_of_the_host_had_its_default(store, monkeypatch):
    held = dict(store.spec.provenance)
    assert held["host"].pop("sst") == "observed"
    monkeypatch.setattr(
        store.spec.__class__, "from_attributes", lambda attributes, path: replace(store.spec, provenance=held)
    )
    Speedy().generate(store.path, SAMPLING)


def test_a_climate_cut_while_it_was_laid_out_is_laid_out_again(column_grid, tmp_path):
    def lay_out():
        settings = {"start": 0, "days": 2, "attributes": {"host": "speedy"}}
        return ClimateWriter(tmp_path / "daily", column_grid, ["temperature"], ["evaporation"], **settings)

    lay_out()
    held = zarr.open_group(tmp_path / "daily", mode="a")
    held.attrs.clear()
    del held["evaporation"]
    assert set(lay_out().group.array_keys()) >= {"temperature", "evaporation", "time", "area"}


def test_departure_is_named_and_the_last_good_state_kept(store, tmp_path, monkeypatch):
    host = Speedy()
    restart = sorted((store.path / "restarts").glob("*"))[0]
    heated = 1000

    def blazing(at):
        nothing = host.null_physics(at)
        heat = jnp.zeros_like(at.columns["temperature"]).at[5, heated].set(0.05)
        return Result({**nothing.tendencies, "temperature": heat}, nothing.fluxes, {})

    carry = host.start(restart)
    bad = jax.block_until_ready(host.model.program(blazing)(carry, 48, True))
    assert not bool(bad.stable) and int(bad.step) - int(carry.step) < 48
    found = host.model.departure(bad)
    assert found["variable"] == "temperature" and found["level"] == 5
    assert abs(found["latitude"] - host.grid.latitude[heated]) < 12
    good = np.asarray(host.model.model.dycore.to_physics_state(bad.last_good).temperature)
    assert np.isfinite(good).all() and good.max() < 350.0


def test_calendar_alternates_months_with_gaps():
    days = Calendar(SpeedyConfig(start="2000-10-03"), GenerateConfig())
    splits = {}
    for day in range(days.days):
        splits.setdefault((days.date(day).year, days.date(day).month), []).append(days.split(day))
    assert set(splits[(2000, 11)]) == {None} and set(splits[(2001, 5)]) == {"train"}
    for month in range(1, 13):
        found = splits[(2002, month)]
        assert found[:3] == [None] * 3 and set(found[3:]) == {("validation", "test")[(month - 1) % 2]}
    assert [str(days.date(d)) for d in range(days.days) if days.restart_here(d)][:2] == ["2002-01-01", "2002-02-01"]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"stride": 12}, "shares a factor"),
        ({"fraction": 0.9}, "fraction"),
        ({"train_days": 0}, "train_days"),
        ({"gap_days": -1}, "gap_days"),
    ],
)
def test_wrong_sampling_is_refused(settings, text):
    with pytest.raises(UsageError, match=text):
        GenerateConfig(**settings).check(SpeedyConfig())


@pytest.mark.parametrize(
    "settings",
    [{"truncation": 42}, {"levels": 3}, {"time_step_minutes": 7}, {"sst": "4K"}, {"sst": "+4"}, {"sst": "+40K"}],
)
def test_wrong_host_is_refused(settings):
    with pytest.raises(UsageError):
        SpeedyConfig(**settings)


def test_unknown_start_date_is_refused():
    with pytest.raises(UsageError, match="ISO date"):
        Calendar(SpeedyConfig(start="october"), GenerateConfig())


def test_damaged_and_missing_restarts_are_named(tmp_path: Path):
    with pytest.raises(SubgridError, match="does not exist"):
        Speedy().start(tmp_path / "nope.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"rubbish")
    with pytest.raises(SubgridError, match="damaged"):
        Speedy().start(tmp_path / "bad.safetensors")


def test_a_damaged_checkpoint_of_a_run_is_one_clear_error(store, tmp_path):
    restart = sorted((store.path / "restarts").glob("*"))[0]
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    checkpoint.parent.mkdir()
    again = "remove .*run and run the same command again"
    for content in (b"rubbish", restart.read_bytes()[:-1] + b"~"):
        checkpoint.write_bytes(content)
        with pytest.raises(SubgridError, match=rf"checkpoint.safetensors is damaged .*: {again}"):
            Speedy().run(None, restart, 1, tmp_path / "run")
    held = read_arrays(restart)
    write_arrays(checkpoint, {**held, "day": np.zeros(2)})
    with pytest.raises(SubgridError, match=rf"another state than this host's .*: {again}"):
        Speedy().run(None, restart, 1, tmp_path / "run")
    with pytest.raises(UsageError, match="another resolution: choose a date"):
        Speedy(truncation=31).start(restart)


@pytest.mark.slow
def test_t31_has_its_own_grid():
    host = Speedy(truncation=31)
    assert host.grid.columns == 96 * 48
    np.testing.assert_allclose(host.grid.area.sum(), 4 * np.pi)
    stepped = host.model.program()(host.model.initial(), 2, True)
    assert bool(stepped.stable)
