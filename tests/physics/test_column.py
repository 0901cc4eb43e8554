"""Column integrals and energy units by hand, on numpy and torch."""

import numpy as np
import pytest
import torch

from subgrid.physics import (
    column_integral,
    layer_mass,
    moisture_tendency_to_energy,
    precipitation_mass_flux,
    precipitation_mm_per_day,
    precipitation_to_energy,
    temperature_tendency_to_energy,
    wind_speed,
    wind_tendency_to_energy,
)

DP = np.array([[9806.16, 19612.32]])  # 1000 and 2000 kg m-2


@pytest.fixture(params=["numpy", "torch"])
def make(request):
    def array(values):
        return torch.tensor(values) if request.param == "torch" else np.array(values)

    return array


def test_layer_mass_and_integral(make):
    dp = make(DP.tolist())
    np.testing.assert_allclose(layer_mass(dp), [[1000, 2000]], rtol=1e-6)
    np.testing.assert_allclose(column_integral(make([[0.01, 0.02]]), dp), [50.0], rtol=1e-6)
    np.testing.assert_allclose(column_integral(make([[1.0, 1.0]]), dp, gravity=9.81), [29418.48 / 9.81], 1e-6)


def test_tendencies_as_energy(make):
    dp = make(DP.tolist())
    heating = temperature_tendency_to_energy(make([[1e-5, -1e-5]]), dp)
    np.testing.assert_allclose(heating, [[10.0464, -20.0928]], rtol=1e-6)
    latent = moisture_tendency_to_energy(make([[1e-8, 2e-8]]), dp)
    np.testing.assert_allclose(latent, [[25.01, 100.04]], rtol=1e-6)
    speed = wind_speed(make([[3.0, 0.0]]), make([[-4.0, 0.0]]))
    np.testing.assert_allclose(speed, [[5.0, 0.0]], rtol=1e-6)
    kinetic = wind_tendency_to_energy(make([[1e-4, 1e-4]]), speed, dp)
    np.testing.assert_allclose(kinetic, [[0.5, 0.0]], rtol=1e-6)


def test_precipitation(make):
    flux = precipitation_mass_flux(make([4e-8]))  # m/s
    np.testing.assert_allclose(flux, [4e-5], rtol=1e-6)
    np.testing.assert_allclose(precipitation_to_energy(flux), [100.04], rtol=1e-6)
    np.testing.assert_allclose(precipitation_mm_per_day(flux), [3.456], rtol=1e-6)


def test_dtype_is_kept():
    x, dp = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    for result in (
        layer_mass(dp),
        column_integral(x, dp),
        temperature_tendency_to_energy(x, dp),
        moisture_tendency_to_energy(x, dp),
        wind_tendency_to_energy(x, wind_speed(x, x), dp),
        precipitation_to_energy(precipitation_mass_flux(x)),
        precipitation_mm_per_day(x),
    ):
        assert result.dtype == np.float32


def test_mixing_numpy_and_torch_is_refused():
    with pytest.raises(TypeError):
        column_integral(np.ones(3), torch.ones(3))
