"""Simplified Betts-Miller: parcels by conserved energies, closed columns, and nothing where nothing rises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.physics.constants import E3SM as C
from subgrid.physics.convection import BettsMiller, betts_miller, parcel_temperature
from subgrid.physics.moisture import saturation_specific_humidity
from subgrid.physics.vertical import VerticalGrid, hydrostatic_geopotential

GRID = VerticalGrid.sigma(np.linspace(0.0, 1.0, 21).tolist())


def columns(count=200, seed=0, surface=300.0):
    """Columns near the moist adiabat of their own lowest level, some humid and warm enough below to rain."""
    rng = np.random.default_rng(seed)
    sigma, ps = np.asarray(GRID.sigma_levels), np.full(count, 1.0e5)
    pressure = GRID.mid_pressure(ps)
    low = surface + rng.normal(0.0, 1.0, (count, 1))
    humidity = np.clip(rng.uniform(0.5, 0.95, (count, 1)) + rng.normal(0.0, 0.03, (count, 20)), 0.05, 1.0)
    t = low * sigma**0.15
    for _ in range(30):
        q = humidity * saturation_specific_humidity(t, pressure)
        adiabat = parcel_temperature(t, q, ps, GRID)
        t = np.where(sigma < 0.15, 200.0, adiabat)
        t[:, -1:] = low
    t = t + rng.normal(0.0, 1.5, (count, 1)) * np.sin(np.pi * sigma)
    return t, humidity * saturation_specific_humidity(t, pressure), ps


def test_a_parcel_keeps_its_energy():
    t, q, ps = columns()
    pressure, height = GRID.mid_pressure(ps), hydrostatic_geopotential(t, q, ps, np.zeros_like(ps), GRID, C)
    parcel = parcel_temperature(t, q, ps, GRID)
    saturated = saturation_specific_humidity(parcel, pressure)
    dry = saturated > q[:, -1:]
    assert dry[:, -1].mean() > 0.9 and (~dry[:, 5]).all()
    static = C.cp * parcel + height
    np.testing.assert_allclose(static[dry], np.broadcast_to(static[:, -1:], static.shape)[dry], rtol=1e-12)
    moist = static + C.Lv * saturated
    base = (static + C.Lv * q)[:, -1:]
    np.testing.assert_allclose(moist[~dry], np.broadcast_to(base, moist.shape)[~dry], rtol=1e-11)


@pytest.mark.parametrize("settings", [BettsMiller(), BettsMiller(0.8, 3 * 3600.0)])
def test_enthalpy_and_water_close(settings):
    t, q, ps = columns()
    found = betts_miller(t, q, ps, GRID, settings)
    mass = GRID.layer_thickness(ps) / C.gravity
    heating, drying = (mass * found.heating).sum(1) * C.cp, -(mass * found.moistening).sum(1)
    rains = found.precipitation > 0
    assert 0.1 < rains.mean() < 0.9
    np.testing.assert_allclose(heating, C.Lv * found.precipitation, atol=1e-8)
    np.testing.assert_allclose(drying, found.precipitation, atol=1e-16)
    acts = (found.heating != 0).any(1)
    assert (acts & ~rains).any() and (~acts).any()  # shallow, and none
    assert (found.cape[acts] > 0).all()


def test_it_relaxes_to_a_share_of_saturation_up_to_where_parcels_stop():
    t, q, ps = columns()
    settings = BettsMiller(0.75, 5000.0)
    found = betts_miller(t, q, ps, GRID, settings)
    parcel = parcel_temperature(t, q, ps, GRID)
    rains = np.flatnonzero(found.precipitation > 0)
    for i in rains[:20]:
        acts = found.moistening[i] != 0
        top = int(np.argmax(acts))
        assert acts[top:].all() and not acts[:top].any()  # one layer, from the lowest level up
        assert parcel[i, top] > t[i, top] and not parcel[i, top - 1] > t[i, top - 1]
        wanted = 0.75 * saturation_specific_humidity(parcel[i], GRID.mid_pressure(ps[i]))
        np.testing.assert_allclose(found.moistening[i, top:], ((wanted - q[i]) / 5000.0)[top:], rtol=1e-10)
        shift = found.heating[i, top:] - ((parcel[i] - t[i]) / 5000.0)[top:]
        np.testing.assert_allclose(shift, shift[0], atol=1e-12)


def test_cape_by_hand():
    """A parcel 1 K warmer on one level alone gives Rd x 1 K x ln(p below / p above) of that layer."""
    t, q, ps = columns(1)
    parcel = parcel_temperature(t, q, ps, GRID)
    level = 12
    # the parcel depends on the heights, which depend on t: a column colder by 1 K than its own parcel on one level
    for _ in range(50):
        parcel = parcel_temperature(t, q, ps, GRID)
        t = parcel + 1.0
        t[:, level] = parcel[:, level] - 1.0
        t[:, -1] = 300.0
    found = betts_miller(t, q, ps, GRID)
    edges = GRID.interface_pressure(ps)[0]
    depth = np.log(edges[level + 1] / edges[level])
    np.testing.assert_allclose(found.cape, C.Rd * (parcel_temperature(t, q, ps, GRID) - t)[:, level] * depth, rtol=1e-9)


def test_nothing_rises_in_stable_or_dry_air():
    t, q, ps = columns()
    stable = betts_miller(np.broadcast_to(np.linspace(330.0, 280.0, 20), t.shape), np.full_like(q, 1e-3), ps, GRID)
    gentle = np.broadcast_to(290.0 * np.asarray(GRID.sigma_levels) ** 0.1, t.shape)  # 3 K/km
    dry = betts_miller(gentle, np.full_like(q, 1e-8), ps, GRID)
    for found in (stable, dry):
        assert (found.heating == 0).all() and (found.moistening == 0).all() and (found.precipitation == 0).all()


def test_warmer_columns_rain_more():
    rain = [betts_miller(*columns(500, surface=s), GRID).precipitation.mean() for s in (295.0, 300.0, 305.0)]
    assert rain[0] < rain[1] < rain[2]


def test_torch_gives_the_same_with_gradients():
    t, q, ps = columns(50)
    parts = [torch.tensor(part, requires_grad=True) for part in (t, q)]
    found = betts_miller(*parts, torch.from_numpy(ps), GRID)
    wanted = betts_miller(t, q, ps, GRID)
    for name in ("heating", "moistening", "precipitation", "cape"):
        np.testing.assert_allclose(getattr(found, name).detach().numpy(), getattr(wanted, name), rtol=1e-9, atol=1e-18)
    found.precipitation.sum().backward()
    gradients = [part.grad for part in parts]
    assert all(torch.isfinite(g).all() and (g != 0).any() for g in gradients)
    # one column that rains, by differences
    i = int(np.argmax(wanted.precipitation))
    step = np.zeros_like(q)
    step[i, -3] = 1e-7
    change = betts_miller(t, q + step, ps, GRID).precipitation[i] - betts_miller(t, q - step, ps, GRID).precipitation[i]
    assert gradients[1][i, -3].item() == pytest.approx(change / 2e-7, rel=1e-4)
