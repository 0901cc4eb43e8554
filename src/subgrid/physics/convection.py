"""The simplified Betts-Miller scheme: moist convection as relaxation to what a lifted parcel would leave behind."""

from __future__ import annotations

from dataclasses import dataclass

from subgrid.physics.arrays import Array, namespace
from subgrid.physics.column import layer_mass
from subgrid.physics.constants import E3SM, Constants
from subgrid.physics.moisture import SaturationFormula, saturation_specific_humidity
from subgrid.physics.vertical import VerticalGrid, hydrostatic_geopotential

#: Newton steps for the temperature of a saturated parcel: beyond six they change nothing in float64.
NEWTON_STEPS = 6
#: Difference for the slope of saturation humidity in temperature, K.
_SLOPE_STEP = 0.01


@dataclass(frozen=True)
class BettsMiller:
    """Settings of the scheme.

    Args:
        relative_humidity: of the reference profile, 1.
        time_scale: of the relaxation, s.
    """

    relative_humidity: float = 0.7
    time_scale: float = 7200.0


@dataclass(frozen=True)
class Convection:
    """What the scheme does to columns.

    Args:
        heating: dT/dt, (..., level), K s-1.
        moistening: dq/dt, (..., level), kg kg-1 s-1.
        precipitation: (...), kg m-2 s-1.
        cape: convective available potential energy, (...), J kg-1.
    """

    heating: Array
    moistening: Array
    precipitation: Array
    cape: Array


def parcel_temperature(
    t: Array, q: Array, ps: Array, grid: VerticalGrid, constants: Constants = E3SM, formula: SaturationFormula = "sam"
) -> Array:
    """Temperature of air lifted from the lowest level, without mixing, shape (..., level), K.

    Below its condensation level a parcel keeps its dry static energy; above, its moist static energy at saturation,
    ``cp T + Phi + Lv q_sat(T, p) = h``, solved by Newton's method.

    Args:
        t: temperature, (..., level), K, level 0 at the top.
        q: specific humidity, (..., level), kg kg-1.
        ps: surface pressure, (...), Pa.
        grid: the levels.
        constants: constants of the host.
        formula: of saturation.

    Raises:
        TypeError: numpy and torch are mixed.

    Source: Frierson (2007), "The dynamics of idealized convection schemes and their effect on the zonally averaged
    tropical circulation", with conserved static energies for the pseudoadiabat.
    """
    xp = namespace(t, q, ps)
    pressure = grid.mid_pressure(ps)
    geopotential = hydrostatic_geopotential(t, q, ps, xp.zeros_like(ps), grid, constants)
    base_q = q[..., -1:]
    dry = t[..., -1:] + (geopotential[..., -1:] - geopotential) / constants.cp
    energy = constants.cp * dry + constants.Lv * base_q + geopotential
    found = dry
    for _ in range(NEWTON_STEPS):
        held = saturation_specific_humidity(found, pressure, formula)
        slope = (saturation_specific_humidity(found + _SLOPE_STEP, pressure, formula) - held) / _SLOPE_STEP
        wrong = constants.cp * found + geopotential + constants.Lv * held - energy
        found = found - wrong / (constants.cp + constants.Lv * slope)
    saturated = saturation_specific_humidity(dry, pressure, formula) < base_q
    return xp.where(saturated, found, dry)


def betts_miller(
    t: Array,
    q: Array,
    ps: Array,
    grid: VerticalGrid,
    settings: BettsMiller | None = None,
    constants: Constants = E3SM,
    formula: SaturationFormula = "sam",
) -> Convection:
    """Convection that relaxes columns to a lifted parcel's temperature and to a share of its saturation.

    From the lowest level to where the parcel first is no warmer than its surroundings again, ``dT = (T_ref - T) / tau``
    and ``dq = (q_ref - q) / tau`` with ``q_ref = RH q_sat(T_ref)``, where the parcel is buoyant anywhere and the column
    would be heated. Deep, if it would also be dried: T_ref is shifted alike on all these levels so that
    ``cp dT + Lv dq`` of the column vanishes, and precipitation is the drying. Shallow otherwise: T_ref is shifted and
    q_ref multiplied so that neither heat nor water of the column changes, and nothing rains. Enthalpy and water close
    either way.

    Args:
        t: temperature, (..., level), K, level 0 at the top.
        q: specific humidity, (..., level), kg kg-1.
        ps: surface pressure, (...), Pa.
        grid: the levels.
        settings: of the scheme.
        constants: constants of the host.
        formula: of saturation.

    Raises:
        TypeError: numpy and torch are mixed.

    Source: Frierson (2007), with the shallow scheme that changes q_ref.
    """
    chosen = settings or BettsMiller()
    xp = namespace(t, q, ps)
    pressure = grid.mid_pressure(ps)
    mass = layer_mass(grid.layer_thickness(ps), constants.gravity)
    parcel = parcel_temperature(t, q, ps, grid, constants, formula)
    inside = _below_top(parcel > t)
    buoyancy = xp.where(inside, xp.clip(parcel - t, 0.0), xp.zeros_like(t))
    interfaces = xp.clip(grid.interface_pressure(ps), 1.0)
    cape = (constants.Rd * buoyancy * xp.log(interfaces[..., 1:] / interfaces[..., :-1])).sum(-1)
    wanted = chosen.relative_humidity * saturation_specific_humidity(parcel, pressure, formula)
    weight = xp.where(inside, mass, xp.zeros_like(mass))
    heating = (parcel - t) / chosen.time_scale
    moistening = (wanted - q) / chosen.time_scale
    drying = -(weight * moistening).sum(-1)
    warming = (weight * heating).sum(-1)
    rises = (warming > 0.0) & (cape > 0.0)
    rains = rises & (drying > 0.0)
    nothing = xp.zeros_like(drying)
    precipitation = xp.where(rains, drying, nothing)
    depth = xp.where(rises, weight.sum(-1), xp.ones_like(drying))
    shift = (constants.Lv * precipitation - constants.cp * warming) / (constants.cp * depth)
    # Shallow: less humid a reference, so that water only moves.
    held, most = (weight * q).sum(-1), xp.where(rises, (weight * wanted).sum(-1), xp.ones_like(drying))
    share = xp.where(rains, xp.ones_like(drying), held / most)
    moistening = (share[..., None] * wanted - q) / chosen.time_scale
    acts = inside & rises[..., None]
    zeros = xp.zeros_like(t)
    return Convection(
        heating=xp.where(acts, heating + shift[..., None], zeros),
        moistening=xp.where(acts, moistening, zeros),
        precipitation=precipitation,
        cape=cape,
    )


def _below_top(buoyant: Array) -> Array:
    """Levels from the lowest to the top of the first layer of buoyant ones above it, (..., level) of truth values."""
    xp = namespace(buoyant)
    upward = xp.flip(buoyant, axis=-1)
    met = xp.zeros_like(upward[..., 0])
    left = xp.zeros_like(met)
    found = []
    for k in range(upward.shape[-1]):
        left = left | (met & ~upward[..., k])
        met = met | upward[..., k]
        found.append(~left)
    inside = xp.flip(xp.stack(found, axis=-1), axis=-1)
    # Where the parcel is nowhere buoyant there is no layer.
    return inside & met[..., None]
