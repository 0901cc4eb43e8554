"""Named sets of physical constants, one per host model, so that budgets close with the host's own numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Constants:
    """The physical constants that one model uses, in SI units.

    Args:
        gravity: gravitational acceleration, m s-2.
        cp: specific heat of dry air at constant pressure, J kg-1 K-1.
        Lv: latent heat of vaporisation, J kg-1.
        Lf: latent heat of fusion, J kg-1.
        Rd: gas constant of dry air, J kg-1 K-1.
        Rv: gas constant of water vapour, J kg-1 K-1.
        rho_water: density of liquid water, kg m-3.
        stefan_boltzmann: Stefan-Boltzmann constant, W m-2 K-4.
        p0: reference pressure, Pa.
    """

    gravity: float
    cp: float
    Lv: float
    Lf: float
    Rd: float
    Rv: float
    rho_water: float
    stefan_boltzmann: float
    p0: float


E3SM = Constants(
    gravity=9.80616,
    cp=1004.64,
    Lv=2.501e6,
    Lf=3.337e5,
    Rd=287.0,
    Rv=461.0,
    rho_water=1000.0,
    stefan_boltzmann=5.67e-8,
    p0=1.0e5,
)
"""E3SM-MMF as ClimSim scores it (Yu et al. 2023, appendix); Rd and Rv are the rounded values of its
relative humidity."""

SPEEDY = Constants(
    gravity=9.81,
    cp=1004.64,
    Lv=2.501e6,
    Lf=3.33e5,
    Rd=2.0 / 7.0 * 1004.64,
    Rv=461.51,
    rho_water=1000.0,
    stefan_boltzmann=5.67e-8,
    p0=1.0e5,
)
"""The SPEEDY physics of jcm 3 (``jcm.constants``): Rd is (2/7) cp, Lf is sublimation minus condensation."""
