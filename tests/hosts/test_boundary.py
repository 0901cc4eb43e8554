"""Land, sea and gases of SPEEDY by the words of its settings."""

from __future__ import annotations

import numpy as np
import pytest
from jcm.physics.speedy.speedy_coords import get_speedy_coords

from subgrid.base.errors import UsageError
from subgrid.hosts.seas import Seas, parse_seas
from subgrid.hosts.speedy.boundary import terrain_and_forcing
from subgrid.hosts.speedy.settings import SEAS, SpeedyConfig


@pytest.fixture(scope="module")
def coords():
    return get_speedy_coords(layers=8, spectral_truncation=21)


def test_words_for_seas():
    assert parse_seas("observed", SEAS) == Seas("observed")
    assert parse_seas("+2.5K", SEAS) == Seas("observed", 2.5)
    assert parse_seas("aquaplanet-4K", SEAS) == Seas("aquaplanet", -4.0)
    assert parse_seas("uniform", SEAS) == Seas("uniform")
    for word in ("4K", "+4", "warm", "aqua+4K", "+40K"):
        with pytest.raises(UsageError, match=r"host\.sst="):
            parse_seas(word, SEAS)


def test_an_aquaplanet_has_neither_land_nor_ice_and_the_published_seas(coords):
    terrain, forcing = terrain_and_forcing(SpeedyConfig(sst="aquaplanet+4K"), coords)
    assert not np.asarray(terrain.fmask).any() and not np.asarray(terrain.orog).any()
    assert not np.asarray(forcing.sice_am.values).any()
    latitude = np.arcsin(np.asarray(coords.horizontal.nodal_axes[1]))
    water = np.asarray(forcing.sea_surface_temperature.values)[100, 7]
    expected = 277.15 + np.where(np.abs(latitude) < np.pi / 3, 27.0 * (1.0 - np.sin(1.5 * latitude) ** 2), 0.0)
    np.testing.assert_allclose(water, expected, rtol=1e-6)


def test_uniform_seas_are_the_same_everywhere(coords):
    _, forcing = terrain_and_forcing(SpeedyConfig(sst="uniform-2K"), coords)
    np.testing.assert_allclose(forcing.sea_surface_temperature.values, 298.15, rtol=1e-6)


def test_more_carbon_dioxide_absorbs_more(coords):
    _, plain = terrain_and_forcing(SpeedyConfig(), coords)
    _, doubled = terrain_and_forcing(SpeedyConfig(co2=720.0), coords)
    assert float(np.asarray(doubled.co2_vmr).max()) == 2.0 * float(np.asarray(plain.co2_vmr).max()) == 720.0
    with pytest.raises(UsageError, match="co2"):
        SpeedyConfig(co2=-1.0)
