"""Integrals over an atmospheric column, and tendencies and fluxes as energy in W m-2."""

from __future__ import annotations

from subgrid.physics.arrays import Array, namespace
from subgrid.physics.constants import E3SM, Constants

SECONDS_PER_DAY = 86400.0


def layer_mass(dp: Array, gravity: float = E3SM.gravity) -> Array:
    """Mass of air per area in each layer, ``dp / g``.

    Args:
        dp: pressure thickness, shape (..., level), Pa.
        gravity: gravitational acceleration, m s-2.

    Returns:
        Mass, shape (..., level), kg m-2.

    Raises:
        TypeError: ``dp`` is not a number or an array.

    Source: hydrostatic balance, ``dp = rho g dz``.
    """
    return dp / gravity


def column_integral(x: Array, dp: Array, gravity: float = E3SM.gravity) -> Array:
    """Mass-weighted integral over the column, ``sum_k x[k] dp[k] / g``.

    Args:
        x: quantity per mass of air, shape (..., level), any unit U.
        dp: pressure thickness, broadcastable with ``x``, Pa.
        gravity: gravitational acceleration, m s-2.

    Returns:
        Integral over the last axis, shape (...), U kg m-2.

    Raises:
        TypeError: neither argument is an array, or numpy and torch are mixed.

    Source: hydrostatic balance, ``integral of rho x dz``.
    """
    return namespace(x, dp).sum(x * layer_mass(dp, gravity), axis=-1)


def temperature_tendency_to_energy(tendency: Array, dp: Array, constants: Constants = E3SM) -> Array:
    """Heating of each layer, ``cp dT/dt dp / g``.

    Args:
        tendency: dT/dt, shape (..., level), K s-1.
        dp: pressure thickness, broadcastable with ``tendency``, Pa.
        constants: constants of the host.

    Returns:
        Power per area, shape (..., level), W m-2.

    Raises:
        ValueError: shapes do not broadcast (RuntimeError from torch).

    Source: Yu et al. (2023, ClimSim), section 4.
    """
    return constants.cp * tendency * layer_mass(dp, constants.gravity)


def moisture_tendency_to_energy(tendency: Array, dp: Array, constants: Constants = E3SM) -> Array:
    """Latent energy gained by each layer, ``Lv dq/dt dp / g``; the same Lv for vapour, liquid and ice.

    Args:
        tendency: dq/dt, shape (..., level), kg kg-1 s-1.
        dp: pressure thickness, broadcastable with ``tendency``, Pa.
        constants: constants of the host.

    Returns:
        Power per area, shape (..., level), W m-2.

    Raises:
        ValueError: shapes do not broadcast (RuntimeError from torch).

    Source: Yu et al. (2023, ClimSim), section 4.
    """
    return constants.Lv * tendency * layer_mass(dp, constants.gravity)


def wind_speed(u: Array, v: Array) -> Array:
    """Horizontal wind speed, ``sqrt(u^2 + v^2)``.

    Args:
        u: eastward wind, any shape, m s-1.
        v: northward wind, shape of ``u``, m s-1.

    Returns:
        Speed, shape of ``u``, m s-1. Its gradient is undefined where both are zero.

    Raises:
        TypeError: neither argument is an array, or numpy and torch are mixed.

    Source: definition.
    """
    return namespace(u, v).hypot(u, v)


def wind_tendency_to_energy(tendency: Array, speed: Array, dp: Array, constants: Constants = E3SM) -> Array:
    """Scale of the kinetic energy gained by each layer, ``speed du/dt dp / g``.

    Args:
        tendency: du/dt or dv/dt, shape (..., level), m s-2.
        speed: wind speed of the input state (:func:`wind_speed`), shape of ``tendency``, m s-1. Take it
            from the state, never from the tendencies: prediction and truth must share one weight.
        dp: pressure thickness, broadcastable with ``tendency``, Pa.
        constants: constants of the host.

    Returns:
        Power per area, shape (..., level), W m-2.

    Raises:
        ValueError: shapes do not broadcast (RuntimeError from torch).

    Source: Yu et al. (2023, ClimSim), section 4, with physical input wind.
    """
    return speed * tendency * layer_mass(dp, constants.gravity)


def precipitation_mass_flux(rate: Array, constants: Constants = E3SM) -> Array:
    """Mass flux of a precipitation rate given as depth of water, ``rho_water rate``.

    Args:
        rate: water-equivalent rate (PRECC, PRECSC), any shape, m s-1.
        constants: constants of the host.

    Returns:
        Mass flux, shape of ``rate``, kg m-2 s-1.

    Raises:
        TypeError: ``rate`` is not a number or an array.

    Source: definition.
    """
    return constants.rho_water * rate


def precipitation_to_energy(flux: Array, constants: Constants = E3SM) -> Array:
    """Latent energy of precipitation, ``Lv flux``.

    Args:
        flux: mass flux, any shape, kg m-2 s-1.
        constants: constants of the host.

    Returns:
        Power per area, shape of ``flux``, W m-2.

    Raises:
        TypeError: ``flux`` is not a number or an array.

    Source: Yu et al. (2023, ClimSim), section 4.
    """
    return constants.Lv * flux


def precipitation_mm_per_day(flux: Array) -> Array:
    """Precipitation in the unit that climatologies use: 1 kg m-2 of water is 1 mm deep.

    Args:
        flux: mass flux, any shape, kg m-2 s-1.

    Returns:
        Rate, shape of ``flux``, mm day-1.

    Raises:
        TypeError: ``flux`` is not a number or an array.

    Source: definition, with water at 1000 kg m-3.
    """
    return SECONDS_PER_DAY * flux
