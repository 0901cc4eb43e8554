"""Ground floor of physics: constants, moisture, vertical grids and column integrals.

Pure functions with units, on numpy arrays and torch tensors alike; importing this room imports neither
torch nor jax.
"""

from subgrid.physics.arrays import Array
from subgrid.physics.column import (
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
from subgrid.physics.constants import E3SM, SPEEDY, Constants
from subgrid.physics.moisture import (
    SaturationFormula,
    dry_static_energy,
    liquid_partition,
    moist_static_energy,
    relative_humidity,
    saturation_moist_static_energy,
    saturation_specific_humidity,
    saturation_vapour_pressure,
)
from subgrid.physics.vertical import VerticalGrid, hybrid_pressure, hydrostatic_geopotential

__all__ = [
    "E3SM",
    "SPEEDY",
    "Array",
    "Constants",
    "SaturationFormula",
    "VerticalGrid",
    "column_integral",
    "dry_static_energy",
    "hybrid_pressure",
    "hydrostatic_geopotential",
    "layer_mass",
    "liquid_partition",
    "moist_static_energy",
    "moisture_tendency_to_energy",
    "precipitation_mass_flux",
    "precipitation_mm_per_day",
    "precipitation_to_energy",
    "relative_humidity",
    "saturation_moist_static_energy",
    "saturation_specific_humidity",
    "saturation_vapour_pressure",
    "temperature_tendency_to_energy",
    "wind_speed",
    "wind_tendency_to_energy",
]
