"""Saturation and static energies against hand-worked values, on numpy and torch, sane input or not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from subgrid.base.errors import UsageError
from subgrid.physics import (
    E3SM,
    SPEEDY,
    dry_static_energy,
    liquid_partition,
    moist_static_energy,
    relative_humidity,
    saturation_moist_static_energy,
    saturation_specific_humidity,
    saturation_vapour_pressure,
)

SAM = {
    180.0: 0.0056859528,
    220.0: 2.6540863764,
    253.16: 103.2767305969,
    263.16: 273.2522563409,
    273.16: 611.23992100,
    300.0: 3533.3292126864,
}
MURRAY = {220.0: 2.555615685896924, 273.15: 610.2969397332175, 273.16: 610.8, 300.0: 3531.650802957722}
FORMULAS = ["sam", "murray"]


@pytest.mark.parametrize(("formula", "expected"), [("sam", SAM), ("murray", MURRAY)])
def test_vapour_pressure_has_the_reference_values(formula, expected):
    t, e = np.array(list(expected)), np.array(list(expected.values()))
    np.testing.assert_allclose(saturation_vapour_pressure(t, formula), e, rtol=1e-8)
    got = saturation_vapour_pressure(torch.from_numpy(t), formula)
    np.testing.assert_allclose(got.numpy(), e, rtol=1e-8)


def test_sam_is_the_published_polynomial_although_it_is_evaluated_about_another_centre():
    ice = [6.11147274, 0.503160820, 0.0188439774, 4.20895665e-4, 6.15021634e-6]
    ice += [6.02588177e-8, 3.85852041e-10, 1.46898966e-12, 2.52751365e-15]
    t = np.linspace(185.001, 253.16, 500)
    published = 100 * np.polynomial.polynomial.polyval(t - 273.16, ice)
    np.testing.assert_allclose(saturation_vapour_pressure(t), published, rtol=2e-9)  # it loses digits, not we


@pytest.mark.parametrize("formula", FORMULAS)
def test_float32_keeps_its_precision_down_to_the_coldest_air(formula):
    t = np.linspace(150, 320, 4001).astype(np.float32)
    exact = saturation_vapour_pressure(t.astype(np.float64), formula)
    for rounded in (
        saturation_vapour_pressure(t, formula),
        saturation_vapour_pressure(torch.from_numpy(t), formula).numpy(),
    ):
        assert rounded.dtype == np.float32
        np.testing.assert_allclose(rounded, exact, rtol=1e-5)


def test_formula_names_are_checked():
    with pytest.raises(UsageError, match="did you mean sam"):
        saturation_vapour_pressure(np.array([300.0]), "sma")
    with pytest.raises(UsageError):
        relative_humidity(np.array([0.0]), np.array([300.0]), np.array([1e5]), "tetens")


def test_liquid_partition_is_a_ramp_over_twenty_kelvin():
    t = np.array([0.0, 253.16, 258.16, 263.16, 273.16, 300.0])
    np.testing.assert_allclose(liquid_partition(t), [0, 0, 0.25, 0.5, 1, 1], atol=1e-12)


def test_saturation_specific_humidity_by_hand():
    t, p = np.array([300.0]), np.array([1e5])
    # 287 / 461 * 3533.3292126864 / 1e5, and 0.622 e / (p - 0.378 e) at 500 hPa
    np.testing.assert_allclose(saturation_specific_humidity(t, p), 0.021997082083318804, rtol=1e-10)
    cold = np.array([220.0, 250.0, 300.0])
    q = [3.1792473377595786e-05, 0.0009398338063799534, 0.04513891245448791]
    np.testing.assert_allclose(saturation_specific_humidity(cold, 0.5 * p, "murray"), q, rtol=1e-12)


def test_murray_agrees_with_the_installed_speedy():
    humidity = pytest.importorskip("jcm.physics.clouds.speedy_humidity")
    t = np.array([[200.0], [250.0], [273.16], [310.0]], np.float32)
    surface, sigma = np.ones((1, 1), np.float32), 0.5
    theirs = 1e-3 * np.asarray(humidity.get_qsat(t, surface, sigma))
    ours = saturation_specific_humidity(t, np.float32(1e5 * sigma) * surface, "murray")
    np.testing.assert_allclose(ours, theirs, rtol=2e-6)


def test_boiling_air_is_all_vapour():
    q = saturation_specific_humidity(np.array([300.0, 300.0]), np.array([3531.0, 0.0]), "murray")
    np.testing.assert_array_equal(q, 1.0)


def test_relative_humidity_by_hand():
    q, t, p = np.array([0.01, 0.0]), np.array([300.0, 300.0]), np.array([1e5, 1e5])
    np.testing.assert_allclose(relative_humidity(q, t, p), [0.45460575007734183, 0.0], rtol=1e-10)
    half = 0.5 * saturation_specific_humidity(t, p, "murray")
    np.testing.assert_allclose(relative_humidity(half, t, p, "murray"), 0.5, rtol=1e-14)


def test_static_energies_by_hand():
    t, q, phi = np.array([300.0]), np.array([0.01]), np.array([9806.16])
    assert dry_static_energy(t, phi)[0] == pytest.approx(311198.16)  # 1004.64 * 300 + 9806.16
    assert moist_static_energy(t, q, phi)[0] == pytest.approx(336208.16)  # + 2.501e6 * 0.01
    p = np.array([1e5])
    saturated = saturation_moist_static_energy(t, p, phi, SPEEDY, "murray")
    q_sat = saturation_specific_humidity(t, p, "murray")
    np.testing.assert_allclose(saturated, moist_static_energy(t, q_sat, phi, SPEEDY))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("formula", FORMULAS)
def test_everything_is_finite_on_padding_rows_and_for_absurd_temperatures(formula, dtype):
    t = np.concatenate([np.zeros(1), np.linspace(0, 1000, 2001)]).astype(dtype)
    for pressure in (0.0, 1.0, 1e5):
        p = np.full_like(t, pressure)
        for q in (np.zeros_like(t), np.full_like(t, 0.02)):
            for column in ((q, t, p), tuple(map(torch.from_numpy, (q, t, p)))):
                rh = np.asarray(relative_humidity(*column, formula))
                assert np.isfinite(rh).all() and rh.dtype == dtype
        h = saturation_moist_static_energy(t, p, np.zeros_like(t), E3SM, formula)
        assert np.isfinite(h).all() and h.dtype == dtype


@pytest.mark.parametrize("formula", FORMULAS)
def test_gradients_are_finite_everywhere(formula):
    t = torch.linspace(0, 1000, 501, requires_grad=True)
    q, p = torch.full((501,), 0.01, requires_grad=True), torch.full((501,), 1e4, requires_grad=True)
    relative_humidity(q, t, p, formula).sum().backward()
    for x in (q, t, p):
        assert torch.isfinite(x.grad).all()


@settings(max_examples=50, deadline=None)
@given(st.floats(186.0, 372.0), st.floats(1e-3, 5.0), st.sampled_from(FORMULAS))
def test_warmer_air_holds_more(t, step, formula):
    warm = np.array([t, t + step])
    low, high = saturation_vapour_pressure(warm, formula)
    assert 0 < low <= high


class _Humidity(torch.nn.Module):
    def forward(self, q, t, p):
        murray = relative_humidity(q, t, p, "murray") + saturation_specific_humidity(t, p, "murray")
        return relative_humidity(q, t, p) + murray + saturation_moist_static_energy(t, p, q)


@pytest.fixture
def columns():
    generator = torch.Generator().manual_seed(7)
    draws = torch.rand((3, 5, 4), generator=generator)
    return 0.02 * draws[0], 180 + 140 * draws[1], 1e5 * draws[2]


def test_traced_function_takes_every_branch(columns):
    traced = torch.jit.trace(_Humidity(), tuple(x[:2] for x in columns))
    torch.testing.assert_close(traced(*columns), _Humidity()(*columns))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_exported_function_takes_any_number_of_columns(columns, strict):
    n = torch.export.Dim("n", min=2)
    exported = torch.export.export(
        _Humidity(), tuple(x[:3] for x in columns), dynamic_shapes=({0: n},) * 3, strict=strict
    )
    torch.testing.assert_close(exported.module()(*columns), _Humidity()(*columns))
