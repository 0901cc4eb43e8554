"""Saturation, humidity and static energies of moist air, in the conventions of the hosts.

Two saturation conventions are kept whole, so that nobody pairs the vapour pressure of one model with the
specific humidity of another:

``"sam"``
    ClimSim and E3SM-MMF: mixed-phase polynomials, ``q_sat = (Rd / Rv) e / p`` with Rd / Rv = 287 / 461.
``"murray"``
    SPEEDY: Murray (1967) over water or ice, ``q_sat = 0.622 e / (p - 0.378 e)``.

Every function works on numpy and torch, keeps the dtype, has no branch on data, and stays finite on padding
rows (T = 0, p = 0) and for T from 0 to 1000 K.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import comb
from typing import Literal, TypeAlias, get_args

from subgrid.base.errors import unknown_name
from subgrid.physics.arrays import Array, namespace
from subgrid.physics.constants import E3SM, Constants

SaturationFormula: TypeAlias = Literal["sam", "murray"]

TRIPLE_POINT = 273.16
"""Temperature at which both formulas have their origin, K."""

_ICE_END, _ICE_COLD, _ALL_ICE, _RAMP = 273.15, 185.0, 253.16, 20.0
_LIQUID_RANGE = (-80.0, 100.0)  # degrees from the triple point; the polynomial turns over far above boiling
_MURRAY_COLDEST = 100.0  # K; keeps both denominators, T - 35.86 and T - 7.66, positive
_LEAST_PRESSURE = 1e-6  # Pa; far above the model tops in use
_EPSILON_SPEEDY = 0.622

# Flatau, Walko and Cotton (1992), eighth order, hPa per power of degrees from the triple point; lowest first
_LIQUID = (
    6.11239921, 0.443987641, 0.0142986287, 2.64847430e-4, 3.02950461e-6,
    2.06739458e-8, 6.40689451e-11, -9.52447341e-14, -9.76195544e-16,
)  # fmt: skip
_ICE = (
    6.11147274, 0.503160820, 0.0188439774, 4.20895665e-4, 6.15021634e-6,
    6.02588177e-8, 3.85852041e-10, 1.46898966e-12, 2.52751365e-15,
)  # fmt: skip
_ICE_COLDEST = (0.00763685, 1.51069e-4, 7.48215e-7)
_ICE_CENTRE, _ICE_COLDEST_CENTRE = -80, -100


def _recentred(coefficients: Sequence[float], centre: int) -> tuple[float, ...]:
    """The same polynomial, hPa to Pa, in powers of ``x - centre``: exact rational arithmetic, then rounded.

    About zero, the ice terms cancel to one part in 3e5 near 185 K, which costs 25 % of the value in float32
    (1e-9 in float64); about a cold centre nothing cancels and float32 keeps 6e-7.
    """
    exact = [100 * Fraction(str(c)) for c in coefficients]
    order = range(len(exact))
    return tuple(float(sum(comb(j, k) * exact[j] * Fraction(centre) ** (j - k) for j in order[k:])) for k in order)


_LIQUID_PA = _recentred(_LIQUID, 0)
_ICE_PA = _recentred(_ICE, _ICE_CENTRE)
_ICE_COLDEST_PA = _recentred(_ICE_COLDEST, _ICE_COLDEST_CENTRE)


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """Horner's rule, lowest order first."""
    result = coefficients[-2] + coefficients[-1] * x
    for coefficient in coefficients[-3::-1]:
        result = coefficient + x * result
    return result


def liquid_partition(t: Array) -> Array:
    """Liquid share of condensate, and of saturation, in the mixed phase: ``clip((T - 253.16) / 20, 0, 1)``.

    Args:
        t: temperature, any shape, K.

    Returns:
        Fraction from 0 (all ice) to 1 (all liquid), shape of ``t``.

    Raises:
        TypeError: ``t`` is not an array.

    Source: Khairoutdinov and Randall (2003), appendix (omega of the microphysics); ClimSim's
    ``liq_partition``.
    """
    return namespace(t).clip((t - _ALL_ICE) / _RAMP, 0.0, 1.0)


def partitioned_tendencies(
    t: Array, liquid: Array, ice: Array, heating: Array, moistening: Array, time_step: float
) -> tuple[Array, Array]:
    """Tendencies of cloud liquid and ice from that of their sum: after the step the ramp divides them.

    ``T' = T + dt dT``, ``qn' = qc + qi + dt dqn``, ``w = liquid_partition(T')``,
    ``dqc = (w qn' - qc) / dt``, ``dqi = ((1 - w) qn' - qi) / dt``.

    Args:
        t: temperature before the step, any shape, K.
        liquid: cloud liquid before the step, kg kg-1.
        ice: cloud ice before the step, kg kg-1.
        heating: tendency of temperature, K s-1.
        moistening: tendency of cloud water (liquid and ice), kg kg-1 s-1.
        time_step: s.

    Returns:
        Tendencies of cloud liquid and of cloud ice, kg kg-1 s-1; their sum is ``moistening``.

    Raises:
        TypeError: ``t`` is not an array.

    Source: Hu et al. (2025), ClimSim's microphysical constraint (``v2_rh_mc``, v5, v6).
    """
    share = liquid_partition(t + time_step * heating)
    after = liquid + ice + time_step * moistening
    return (share * after - liquid) / time_step, ((1.0 - share) * after - ice) / time_step


def _sam_pressure(t: Array) -> Array:
    xp = namespace(t)
    from_triple_point = t - TRIPLE_POINT
    liquid = _polynomial(xp.clip(from_triple_point, *_LIQUID_RANGE), _LIQUID_PA)
    # each branch sees only its own range, so that no gradient overflows in the branch not taken
    ice = _polynomial(xp.clip(t, _ICE_COLD, _ICE_END) - (TRIPLE_POINT + _ICE_CENTRE), _ICE_PA)
    coldest_start = TRIPLE_POINT + _ICE_COLDEST_CENTRE
    coldest = _polynomial(xp.clip(t, coldest_start, _ICE_COLD) - coldest_start, _ICE_COLDEST_PA)
    ice = xp.where(t > _ICE_END, liquid, xp.where(t > _ICE_COLD, ice, coldest))
    weight = liquid_partition(t)
    return weight * liquid + (1.0 - weight) * ice


def _murray_pressure(t: Array) -> Array:
    xp = namespace(t)
    t = xp.clip(t, _MURRAY_COLDEST)
    over_water = xp.exp(17.269 * (t - TRIPLE_POINT) / (t - 35.86))
    over_ice = xp.exp(21.875 * (t - TRIPLE_POINT) / (t - 7.66))
    return 610.8 * xp.where(t >= TRIPLE_POINT, over_water, over_ice)


_PRESSURES = {"sam": _sam_pressure, "murray": _murray_pressure}


def _checked(formula: str) -> str:
    if formula not in _PRESSURES:
        raise unknown_name("saturation formula", formula, get_args(SaturationFormula))
    return formula


def saturation_vapour_pressure(t: Array, formula: SaturationFormula = "sam") -> Array:
    """Vapour pressure at saturation.

    Args:
        t: temperature, any shape, K.
        formula: ``"sam"``, eighth-order polynomials for liquid (e_l) and ice (e_i) mixed as
            ``w e_l + (1 - w) e_i`` with ``w = liquid_partition(t)``, held constant above 373.16 K and below
            173.16 K; or ``"murray"``, ``610.8 exp(17.269 (T - 273.16) / (T - 35.86))`` from 273.16 K up and
            ``610.8 exp(21.875 (T - 273.16) / (T - 7.66))`` below, held constant below 100 K.

    Returns:
        Positive pressure, shape of ``t``, Pa.

    Raises:
        UsageError: unknown ``formula``.
        TypeError: ``t`` is not an array.

    Source: "sam": Flatau, Walko and Cotton (1992), J. Appl. Meteor. 31, 1507, as in the System for
    Atmospheric Modeling (Khairoutdinov and Randall 2003); "murray": Murray (1967), J. Appl. Meteor. 6, 203,
    as in SPEEDY (Molteni 2003).
    """
    return _PRESSURES[_checked(formula)](t)


def saturation_specific_humidity(t: Array, p: Array, formula: SaturationFormula = "sam") -> Array:
    """Specific humidity at saturation.

    Args:
        t: temperature, any shape, K.
        p: pressure, an array broadcastable with ``t``, Pa.
        formula: ``"sam"``, ``(287 / 461) e / p`` with p at least 1e-6 Pa; or ``"murray"``,
            ``0.622 e / max(p - 0.378 e, 0.622 e)``. The guard acts where p < e, that is where water boils:
            there the air is all vapour and the value is 1.

    Returns:
        Specific humidity, broadcast shape, kg kg-1. With ``"sam"`` it exceeds 1 where p is small.

    Raises:
        UsageError: unknown ``formula``.
        TypeError: neither ``t`` nor ``p`` is an array.

    Source: "sam": relative humidity of ClimSim (Yu et al. 2023); "murray": SPEEDY (Molteni 2003), appendix.
    """
    e = saturation_vapour_pressure(t, formula)
    xp = namespace(t, p)
    if formula == "sam":
        return (E3SM.Rd / E3SM.Rv) * e / xp.clip(p, _LEAST_PRESSURE)
    vapour = _EPSILON_SPEEDY * e
    return vapour / xp.maximum(p - (1.0 - _EPSILON_SPEEDY) * e, vapour)


def relative_humidity(q: Array, t: Array, p: Array, formula: SaturationFormula = "sam") -> Array:
    """Relative humidity, ``q / q_sat(T, p)``.

    Args:
        q: specific humidity, any shape, kg kg-1.
        t: temperature, broadcastable with ``q``, K.
        p: pressure, broadcastable with ``q``, Pa.
        formula: saturation convention; ``"sam"`` evaluates ``461 q p / (287 e)``, which is 0 at p = 0.

    Returns:
        Relative humidity, broadcast shape, 1 (not percent); not clipped.

    Raises:
        UsageError: unknown ``formula``.
        TypeError: no argument is an array.

    Source: "sam": ClimSim (Yu et al. 2023); "murray": SPEEDY (Molteni 2003), appendix.
    """
    if _checked(formula) == "sam":
        return (E3SM.Rv / E3SM.Rd) * q * p / saturation_vapour_pressure(t, formula)
    return q / saturation_specific_humidity(t, p, formula)


def dry_static_energy(t: Array, geopotential: Array, constants: Constants = E3SM) -> Array:
    """Dry static energy, ``s = cp T + Phi``.

    Args:
        t: temperature, any shape, K.
        geopotential: g z, broadcastable with ``t``, m2 s-2.
        constants: constants of the host.

    Returns:
        Energy, broadcast shape, J kg-1.

    Raises:
        ValueError: shapes do not broadcast (RuntimeError from torch).

    Source: Emanuel (1994), section 4.5.
    """
    return constants.cp * t + geopotential


def moist_static_energy(t: Array, q: Array, geopotential: Array, constants: Constants = E3SM) -> Array:
    """Moist static energy, ``h = cp T + Phi + Lv q``.

    Args:
        t: temperature, any shape, K.
        q: specific humidity, broadcastable with ``t``, kg kg-1.
        geopotential: g z, broadcastable with ``t``, m2 s-2.
        constants: constants of the host.

    Returns:
        Energy, broadcast shape, J kg-1.

    Raises:
        ValueError: shapes do not broadcast (RuntimeError from torch).

    Source: Emanuel (1994), section 4.5 (heat capacity of dry air throughout).
    """
    return dry_static_energy(t, geopotential, constants) + constants.Lv * q


def saturation_moist_static_energy(
    t: Array,
    p: Array,
    geopotential: Array,
    constants: Constants = E3SM,
    formula: SaturationFormula = "sam",
) -> Array:
    """Moist static energy of the air were it saturated, ``h* = cp T + Phi + Lv q_sat(T, p)``.

    Args:
        t: temperature, any shape, K.
        p: pressure, an array broadcastable with ``t``, Pa.
        geopotential: g z, broadcastable with ``t``, m2 s-2.
        constants: constants of the host.
        formula: saturation convention.

    Returns:
        Energy, broadcast shape, J kg-1.

    Raises:
        UsageError: unknown ``formula``.
        TypeError: neither ``t`` nor ``p`` is an array.

    Source: Emanuel (1994), section 4.5.
    """
    q_sat = saturation_specific_humidity(t, p, formula)
    return moist_static_energy(t, q_sat, geopotential, constants)
