"""Features: relative humidity and plume buoyancy equal the physics in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.columns import VariableSet, variable_set
from subgrid.emulator.features import ACCELERATION_BOUNDS, ENGINEERED, RELATIVE_HUMIDITY_CEILING, InputFeatures
from subgrid.emulator.flat import flatten, unflatten
from subgrid.physics.constants import SPEEDY as C
from subgrid.physics.moisture import (
    moist_static_energy,
    relative_humidity,
    saturation_moist_static_energy,
    saturation_specific_humidity,
)
from subgrid.physics.vertical import hydrostatic_geopotential

SET = variable_set("speedy")


@pytest.fixture(scope="module")
def columns(make_rows):
    """Raw profiles (n, 8, 4) and scalars (n, 13), float32."""
    return unflatten(torch.from_numpy(make_rows(300, seed=3)["inputs"]), 4, 8)


@pytest.fixture(scope="module")
def exact(columns):
    """Temperature, humidity and surface pressure in float64."""
    p, s = (part.double().numpy() for part in columns)
    return p[:, :, 0], p[:, :, 1], s[:, 0]


def test_flatten_is_the_inverse_of_unflatten(columns):
    flat = flatten(*columns)
    assert flat.shape == (300, 45)
    for found, part in zip(unflatten(flat, 4, 8), columns, strict=True):
        assert torch.equal(found, part)
    assert torch.equal(flat[:, 8:16], columns[0][:, :, 1])  # variable after variable


def test_raw_changes_nothing(columns, column_grid):
    features = InputFeatures("raw", SET, column_grid.vertical, "murray")
    p, s = features(*columns)
    assert torch.equal(p, columns[0]) and torch.equal(s, columns[1])
    assert features.names == ["temperature", "specific_humidity", "u_wind", "v_wind"]


def test_relative_humidity_takes_the_place_of_specific_humidity(columns, column_grid, exact):
    t, q, ps = exact
    features = InputFeatures("relative_humidity", SET, column_grid.vertical, "murray")
    p, s = features(*columns)
    wanted = relative_humidity(q, t, column_grid.vertical.mid_pressure(ps), "murray")
    np.testing.assert_allclose(p[:, :, 1].numpy(), wanted, rtol=2e-5)
    assert wanted.min() > 0.0 and wanted.max() < 1.0
    assert torch.equal(p[:, :, [0, 2, 3]], columns[0][:, :, [0, 2, 3]])
    assert torch.equal(s, columns[1])
    assert features.names[1] == "relative_humidity"


def test_the_saturation_formula_is_the_one_asked_for(columns, column_grid, exact):
    t, q, ps = exact
    features = InputFeatures("relative_humidity", SET, column_grid.vertical, "sam")
    wanted = relative_humidity(q, t, column_grid.vertical.mid_pressure(ps), "sam").clip(0.0, RELATIVE_HUMIDITY_CEILING)
    np.testing.assert_allclose(features(*columns)[0][:, :, 1].numpy(), wanted, rtol=2e-5)


@pytest.mark.parametrize(("humidity", "read"), [(-1e-3, 0.0), (0.5, RELATIVE_HUMIDITY_CEILING)])
def test_relative_humidity_is_read_within_bounds(columns, column_grid, humidity, read):
    p = columns[0].clone()
    p[:, :, 1] = humidity
    features = InputFeatures("relative_humidity", SET, column_grid.vertical, "murray")
    assert (features(p, columns[1])[0][:, :, 1] == read).all()


def test_buoyancy_is_the_difference_of_moist_static_energies(columns, column_grid, exact):
    t, q, ps = exact
    grid = column_grid.vertical
    height = hydrostatic_geopotential(t, q, ps, np.zeros_like(ps), grid, C)
    lowest = moist_static_energy(t, q, height, C)[:, -1:]
    saturated = saturation_moist_static_energy(t, grid.mid_pressure(ps), height, C, "murray")
    wanted = (lowest - saturated) / C.cp
    features = InputFeatures("relative_humidity_buoyancy", SET, grid, "murray")
    found = features(*columns)[0][:, :, 4].numpy()
    inside = np.abs(wanted) < 40.0
    assert inside.mean() > 0.5  # the bounds are for what is far off
    np.testing.assert_allclose(found, wanted.clip(-40.0, 40.0), atol=1e-3)
    assert features.names[-1] == "plume_buoyancy"


def test_buoyancy_of_one_column_by_hand(column_grid):
    """Isothermal, dry: the air above differs by its height alone, dz/cp = Rd T ln(p_low / p_k) / cp."""
    t, ps = 100.0, 1.0e5  # so cold that saturation holds no water
    p = torch.zeros(1, 8, 4)
    p[:, :, 0] = t
    s = torch.full((1, 13), ps)
    features = InputFeatures("relative_humidity_buoyancy", SET, column_grid.vertical, "murray")
    found = features(p, s)[0][0, :, 4].numpy()
    sigma = np.asarray(column_grid.vertical.sigma_levels)
    wanted = -C.Rd * t * np.log(sigma[-1] / sigma) / C.cp
    np.testing.assert_allclose(found, wanted.clip(-40.0, 40.0), atol=1e-3)
    assert found[-1] == pytest.approx(0.0, abs=1e-4)


def test_climate_invariant_features_are_those_of_the_paper(columns, column_grid, exact):
    t, q, ps = exact
    grid = column_grid.vertical
    pressure = grid.mid_pressure(ps)
    height = hydrostatic_geopotential(t, q, ps, np.zeros_like(ps), grid, C)
    lowest = moist_static_energy(t, q, height, C)[:, -1:]
    saturated = saturation_specific_humidity(t, pressure, "murray")
    kappa = 1.0 + C.Lv**2 * saturated / (C.Rv * C.cp * t**2)
    wanted = (
        C.gravity * (lowest - saturation_moist_static_energy(t, pressure, height, C, "murray")) / (kappa * C.cp * t)
    )
    features = InputFeatures("climate_invariant", SET, grid, "murray")
    assert features.names == ["plume_acceleration", "relative_humidity", "u_wind", "v_wind"]
    p, s = features(*columns)
    low, high = ACCELERATION_BOUNDS
    assert ((wanted > low) & (wanted < high)).mean() > 0.5
    np.testing.assert_allclose(p[:, :, 0].numpy(), wanted.clip(low, high), atol=5e-5)
    np.testing.assert_allclose(p[:, :, 1].numpy(), relative_humidity(q, t, pressure, "murray"), rtol=2e-5)
    for i, name in enumerate(features.scalar_names):
        raw = columns[1][:, i]
        surface = name in ("sea_surface_temperature", "land_surface_temperature")
        assert torch.equal(s[:, i], raw - columns[0][:, -1, 0] if surface else raw)


def test_a_latent_heat_flux_is_scaled_by_the_deficit_of_the_air(column_grid):
    """LHF / (Lv max(q_sat - q, 1e-4)), by hand on two columns, the second saturated."""
    found = variable_set("v2")
    names = [[v.quantity for v in found.inputs if v.kind == kind] for kind in ("profile", "scalar")]
    p, s = torch.zeros(2, 8, len(names[0])), torch.zeros(2, len(names[1]))
    p[:, :, names[0].index("temperature")] = 290.0
    p[1, :, names[0].index("specific_humidity")] = 0.1
    s[:, names[1].index("surface_pressure")] = 1.0e5
    s[:, names[1].index("pbuf_LHFLX")] = 100.0
    scaled = InputFeatures("climate_invariant", found, column_grid.vertical, "sam")(p, s)[1]
    pressure = column_grid.vertical.mid_pressure(np.array([1.0e5]))[0, -1]
    deficit = saturation_specific_humidity(np.array(290.0), pressure, "sam")
    wanted = 100.0 / found.physics.Lv / np.array([deficit, 1e-4])
    np.testing.assert_allclose(scaled[:, names[1].index("pbuf_LHFLX")].numpy(), wanted, rtol=1e-5)
    others = [i for i, name in enumerate(names[1]) if name != "pbuf_LHFLX"]
    assert torch.equal(scaled[:, others], s[:, others])


def test_a_warmer_climate_stays_in_the_range(columns, column_grid):
    """All warmer by 4 K at equal relative humidity: raw features leave their range by more than invariant ones."""
    features = InputFeatures("climate_invariant", SET, column_grid.vertical, "murray")
    p, s = (part.clone() for part in columns)
    pressure = column_grid.vertical.mid_pressure(s[:, 0])
    humidity = p[:, :, 1] / saturation_specific_humidity(p[:, :, 0], pressure, "murray")
    p[:, :, 0] += 4.0
    for name in ("sea_surface_temperature", "land_surface_temperature"):
        s[:, features.scalar_names.index(name)] += 4.0
    p[:, :, 1] = humidity * saturation_specific_humidity(p[:, :, 0], pressure, "murray")
    before, after = features(*columns), features(p, s)
    moved = (after[0] - before[0])[:, :, 0].abs().mean(0) / before[0][:, :, 0].std(0)
    raw = 4.0 / columns[0][:, :, 0].std(0)
    assert (moved[4:] < 0.7 * raw[4:]).all()
    torch.testing.assert_close(after[0][:, :, 1], before[0][:, :, 1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(after[1], before[1], rtol=1e-4, atol=1e-3)


def test_layer_mass_is_thickness_over_gravity(columns, column_grid):
    features = InputFeatures("raw", SET, column_grid.vertical, "murray")
    mass = features.mass(columns[1]).double().numpy()
    ps = columns[1][:, 0].double().numpy()
    np.testing.assert_allclose(mass, ps[:, None] * np.diff(column_grid.vertical.hybi) / C.gravity, rtol=1e-6)
    np.testing.assert_allclose(mass.sum(1), ps / C.gravity, rtol=1e-6)


@pytest.mark.parametrize("kind", ["relative_humidity", "relative_humidity_buoyancy", "climate_invariant"])
def test_a_set_without_what_the_features_need_is_refused_by_name(column_grid, kind):
    gone = ("specific_humidity", "surface_pressure")
    poor = VariableSet("poor", tuple(v for v in SET.inputs if v.name not in gone), SET.targets)
    with pytest.raises(UsageError, match=f"{kind} needs specific_humidity, surface_pressure, which .*'poor' lacks"):
        InputFeatures(kind, poor, column_grid.vertical, "murray")
    InputFeatures("raw", poor, column_grid.vertical, "murray")


@pytest.fixture(scope="module")
def kaggle():
    """The competition's set on 6 levels, and two columns of round numbers."""
    from subgrid.columns.variables import profiles
    from subgrid.physics.vertical import VerticalGrid

    found = variable_set("kaggle")
    grid = VerticalGrid.sigma(np.linspace(0.0, 1.0, 7).tolist())
    values = {
        "temperature": [200.0, 210.0, 230.0, 260.0, 280.0, 300.0],
        "specific_humidity": [0.001, 0.002, 0.0, 0.004, 0.008, 0.016],
        "cloud_liquid": [0.0, 1e-5, 0.0, 3e-5, 2e-5, 1e-5],
        "cloud_ice": [1e-5, 3e-5, 0.0, 1e-5, 0.0, 1e-5],
        "u_wind": [10.0, 20.0, 5.0, -5.0, 3.0, 2.0],
        "v_wind": [0.0, -1.0, 2.0, 4.0, 4.0, 1.0],
        "pbuf_ozone": [5e-6] * 6,
        "pbuf_CH4": [1e-6] * 6,
        "pbuf_N2O": [5e-7] * 6,
    }
    p = torch.tensor([values[v.quantity] for v in profiles(found.inputs)]).T[None].repeat(2, 1, 1)
    return found, grid, p, torch.ones(2, 16)


def test_the_engineered_profiles_of_the_fifth_place_by_hand(kaggle):
    found, grid, p, s = kaggle
    features = InputFeatures("fifth_place", found, grid, "sam")
    q, t = features(p, s)
    assert features.names == [*features.profile_names, *ENGINEERED] and q.shape == (2, 6, 18)
    assert torch.equal(q[..., :9], p) and torch.equal(t, s)
    wanted = {
        "temp_diff1": [-10.0, -20.0, -30.0, -20.0, -20.0, 0.0],
        "temp_diff2": [-0.001, 0.002, -0.004, -0.004, -0.008, 0.0],
        "wind_diff1": [-10.0, 15.0, 10.0, -8.0, 1.0, 0.0],
        "wind_diff2": [1.0, -3.0, -2.0, 0.0, 3.0, 0.0],
        "temp_humid": [200e3, 105e3, 0.0, 65e3, 35e3, 18750.0],  # 230 / 0 is not finite
        "air_total": [6.5e-6] * 6,
        "moisture": [1e-6 * 100, 4e-6 * 401, 0.0, 16e-6 * 41, 64e-6 * 25, 256e-6 * 5],
        "liq_partition": [0.0, 0.25, 0.0, 0.75, 1.0, 0.5],
        "imbalance": [-1.0, -0.5, 0.0, 0.5, 1.0, 0.0],
    }
    assert list(wanted) == list(ENGINEERED)
    for k, (name, values) in enumerate(wanted.items(), start=9):
        np.testing.assert_allclose(q[1, :, k].numpy(), values, rtol=2e-5, atol=1e-9, err_msg=name)


def test_the_fifth_place_needs_cloud_and_gases(column_grid):
    with pytest.raises(UsageError, match="fifth_place needs cloud_liquid, cloud_ice, pbuf_ozone, pbuf_CH4, pbuf_N2O,"):
        InputFeatures("fifth_place", SET, column_grid.vertical, "murray")
