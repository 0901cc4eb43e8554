"""Vertical grids: validation, pressures and thickness by hand, the real ClimSim grid, geopotential."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from subgrid.base.errors import SubgridError
from subgrid.physics import E3SM, SPEEDY, VerticalGrid, hybrid_pressure, hydrostatic_geopotential

SPEEDY_BOUNDARIES = [0.0, 0.05, 0.14, 0.26, 0.42, 0.6, 0.77, 0.9, 1.0]
REFERENCE = Path(__file__).parents[2].parent / "shared" / "reference" / "climsim"
GRID_INFO = REFERENCE / "grid_info" / "ClimSim_low-res_grid-info.nc"


@pytest.fixture
def hybrid():
    return VerticalGrid.hybrid(hyai=[0.01, 0.1, 0.0], hybi=[0.0, 0.2, 1.0])


@pytest.fixture
def climsim():
    if not GRID_INFO.exists():
        pytest.skip(f"reference data absent: {GRID_INFO}")
    xarray = pytest.importorskip("xarray")
    with xarray.open_dataset(GRID_INFO, decode_times=False) as info:
        coefficients = {name: info[name].values for name in ("hyam", "hybm", "hyai", "hybi")}
        return VerticalGrid.hybrid(**coefficients, p0=float(info["P0"]))


def test_sigma_middles_lie_halfway():
    grid = VerticalGrid.sigma(SPEEDY_BOUNDARIES)
    assert grid.n_levels == 8
    np.testing.assert_allclose(grid.sigma_levels, [0.025, 0.095, 0.2, 0.34, 0.51, 0.685, 0.835, 0.95], rtol=1e-12)
    assert grid.hyam == (0.0,) * 8


def test_hybrid_pressures_by_hand(hybrid):
    ps = np.array([[1e5], [5e4]])
    interfaces = [[[1e3, 3e4, 1e5]], [[1e3, 2e4, 5e4]]]
    np.testing.assert_allclose(hybrid.interface_pressure(ps), interfaces)
    np.testing.assert_allclose(hybrid.mid_pressure(ps), [[[15500, 65000]], [[10500, 35000]]])
    np.testing.assert_allclose(hybrid.layer_thickness(ps), [[[29000, 70000]], [[19000, 30000]]])


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_dtype_and_kind_are_kept_and_padding_is_harmless(hybrid, kind):
    ps = kind(np.array([1e5, 0.0], np.float32))
    for method in (hybrid.interface_pressure, hybrid.mid_pressure, hybrid.layer_thickness):
        p = method(ps)
        assert type(p) is type(ps) and p.dtype == ps.dtype and np.isfinite(np.asarray(p)).all()


def test_surface_pressure_may_be_a_scalar_array(hybrid):
    assert hybrid.layer_thickness(np.array(1e5)).shape == (2,)
    assert hybrid.layer_thickness(torch.tensor(1e5)).shape == (2,)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0.01, 1.0), min_size=1, max_size=40),
    st.floats(4e4, 1.1e5),
)
def test_layers_fill_the_column(weights, ps):
    boundaries = np.concatenate([[0.0], np.cumsum(weights) / np.sum(weights)]).clip(max=1.0)
    grid = VerticalGrid.sigma(boundaries.tolist())
    dp = grid.layer_thickness(np.array([ps]))
    assert (dp > 0).all()
    np.testing.assert_allclose(dp.sum(-1), ps, rtol=1e-12)
    np.testing.assert_allclose(dp, np.diff(grid.interface_pressure(np.array([ps]))), rtol=1e-9)


def test_climsim_grid_has_its_reference_values(climsim):
    assert climsim.n_levels == 60
    dp = climsim.layer_thickness(np.array(1e5))
    assert dp.sum() == pytest.approx(99_994.4119, abs=5e-5)
    np.testing.assert_allclose(dp, np.diff(climsim.interface_pressure(np.array(1e5))), rtol=1e-9)
    low = climsim.layer_thickness(np.array(5e4, np.float32))
    assert low.dtype == np.float32 and (low > 0).all()
    assert VerticalGrid.from_dict(json.loads(json.dumps(climsim.to_dict()))) == climsim


def test_round_trip_through_json_is_exact(hybrid):
    again = VerticalGrid.from_dict(json.loads(json.dumps(hybrid.to_dict())))
    assert again == hybrid and hash(again) == hash(hybrid)


def test_from_dict_names_missing_and_unknown_keys(hybrid):
    values = hybrid.to_dict()
    values["P0"] = values.pop("p0")
    with pytest.raises(SubgridError, match=r"missing keys \['p0'\], unknown keys \['P0'\]"):
        VerticalGrid.from_dict(values)


@pytest.mark.parametrize(
    ("hyai", "hybi", "message"),
    [
        ([0.0, 0.0, 0.0], [1.0, 0.5, 0.0], "level 0 must be the top"),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 1.0], "increase downwards across layer 0"),
        ([0.0, 0.0, 0.0], [0.0, 0.7, 0.6], "increase downwards across layer 1"),
        ([0.0, 0.0], [0.0, 1.1], "within 0..1"),
        ([0.0, 0.5, 1.0], [0.1, 0.05, 0.0], "within 0..1"),
        ([0.0, 0.0], [0.0, 0.5, 1.0], "lengths"),
        ([0.0], [1.0], "lengths"),
        ([0.0, float("nan")], [0.0, 1.0], "not finite"),
        ([0.0, "top"], [0.0, 1.0], "list of numbers"),
    ],
)
def test_unfit_coefficients_are_refused(hyai, hybi, message):
    with pytest.raises(SubgridError, match=message):
        VerticalGrid.hybrid(hyai, hybi)


def test_unfit_middles_and_reference_pressure_are_refused():
    with pytest.raises(SubgridError, match="middle of layer 0"):
        VerticalGrid.hybrid([0.0, 0.0], [0.0, 1.0], hyam=[0.0], hybm=[1.5])
    with pytest.raises(SubgridError, match="p0 must be a positive"):
        VerticalGrid.sigma([0.0, 1.0], p0=0.0)
    with pytest.raises(SubgridError, match="p0 must be a list of numbers"):
        VerticalGrid.sigma([0.0, 1.0], p0="high")  # type: ignore[arg-type]


def test_nearest_level():
    grid = VerticalGrid.sigma(SPEEDY_BOUNDARIES)
    assert [grid.nearest_level(s) for s in (0.0, 0.2, 0.5, 1.0)] == [0, 2, 4, 7]
    with pytest.raises(SubgridError, match="not 500"):
        grid.nearest_level(500.0)


def test_geopotential_of_an_isothermal_dry_column_is_exact(hybrid):
    ps, phis = np.array([1e5, 6e4]), np.array([0.0, 3e4])
    t = np.full((2, 2), 250.0)
    expected = phis[:, None] + 287.0 * 250.0 * np.log(ps[:, None] / hybrid.mid_pressure(ps))
    np.testing.assert_allclose(hydrostatic_geopotential(t, 0 * t, ps, phis, hybrid), expected, rtol=1e-13)


def test_geopotential_by_hand_with_moisture():
    grid = VerticalGrid.sigma([0.0, 0.5, 1.0])
    t, q = np.array([[200.0, 300.0]]), np.array([[0.0, 0.01]])
    tv = 300.0 * (1 + (461 / 287 - 1) * 0.01)
    lower = 287 * tv * np.log(1 / 0.75)
    upper = 287 * tv * np.log(2) + 287 * 200.0 * np.log(0.5 / 0.25)
    got = hydrostatic_geopotential(t, q, np.array([1e5]), np.array([0.0]), grid, E3SM)
    np.testing.assert_allclose(got, [[upper, lower]], rtol=1e-13)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_geopotential_of_a_padding_row_is_finite(kind):
    grid = VerticalGrid.sigma(SPEEDY_BOUNDARIES)
    zeros, surface = kind(np.zeros((2, 8), np.float32)), kind(np.zeros(2, np.float32))
    phi = hydrostatic_geopotential(zeros, zeros, surface, surface, grid, SPEEDY)
    assert phi.dtype == zeros.dtype and (np.asarray(phi) == 0).all()


class _Column(torch.nn.Module):
    def forward(self, t, q, ps):
        grid = VerticalGrid.sigma(SPEEDY_BOUNDARIES)
        return hydrostatic_geopotential(t, q, ps, 0 * ps, grid) + grid.layer_thickness(ps)


def test_traces_and_exports():
    t, q, ps = torch.full((4, 8), 250.0), torch.zeros(4, 8), torch.linspace(5e4, 1e5, 4)
    expected = _Column()(t, q, ps)
    traced = torch.jit.trace(_Column(), (t[:2], q[:2], ps[:2]))
    torch.testing.assert_close(traced(t, q, ps), expected)
    n = torch.export.Dim("n", min=2)
    exported = torch.export.export(_Column(), (t[:3], q[:3], ps[:3]), dynamic_shapes=({0: n},) * 3)
    torch.testing.assert_close(exported.module()(t, q, ps), expected)


def test_coefficients_in_buffers_give_the_same_pressure(hybrid):
    ps = torch.tensor([1e5, 7e4])
    a, b = torch.tensor(hybrid.hyai), torch.tensor(hybrid.hybi)
    torch.testing.assert_close(hybrid_pressure(ps, a, b, hybrid.p0), hybrid.interface_pressure(ps))
