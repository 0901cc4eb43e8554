"""Land, sea and gases of SPEEDY: as observed, warmer, or without land."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import jcm
import numpy as np
from jcm.forcing import ForcingData
from jcm.terrain import TerrainData

from subgrid.hosts.seas import OBSERVED, UNIFORM
from subgrid.hosts.speedy.settings import SpeedyConfig

FREEZING, WARMEST = 273.15, 27.0


def terrain_and_forcing(config: SpeedyConfig, coords: Any) -> tuple[TerrainData, ForcingData]:
    """jcm's terrain and forcing on ``coords``; the forcing repeats every year."""
    data = Path(jcm.__file__).parent / "data" / "bc" / "t30" / "clim"
    forcing = ForcingData.from_file(data / "forcing.nc", coords=coords, align_mode="wrap_year")
    forcing = forcing.copy(co2_vmr=jnp.full_like(forcing.co2_vmr, config.co2))
    seas, known = config.seas, forcing.sea_surface_temperature
    if seas.kind == OBSERVED:
        changed = known.replace(values=known.values + seas.change)
        return TerrainData.from_file(data / "terrain.nc", coords), forcing.copy(sea_surface_temperature=changed)
    latitude = np.arcsin(np.asarray(coords.horizontal.nodal_axes[1], np.float64))
    shape = np.cos(1.5 * np.where(np.abs(latitude) < np.pi / 3, latitude, np.pi / 3)) ** 2
    celsius = WARMEST * (np.ones_like(shape) if seas.kind == UNIFORM else shape)
    water = jnp.asarray(FREEZING + celsius + seas.change, jnp.float32)
    ice = forcing.sice_am
    return TerrainData.aquaplanet(coords), forcing.copy(
        sea_surface_temperature=known.replace(values=jnp.broadcast_to(water, known.values.shape)),
        sice_am=ice.replace(values=jnp.zeros_like(ice.values)),
    )
