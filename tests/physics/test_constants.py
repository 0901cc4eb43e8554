"""The constants are those of their hosts."""

import dataclasses

import pytest

from subgrid.physics import E3SM, SPEEDY


def test_e3sm_holds_the_constants_of_climsim():
    assert (E3SM.gravity, E3SM.cp, E3SM.Lv, E3SM.Lf) == (9.80616, 1004.64, 2.501e6, 3.337e5)
    assert (E3SM.Rd, E3SM.Rv, E3SM.rho_water, E3SM.p0) == (287.0, 461.0, 1000.0, 1e5)


def test_speedy_agrees_with_jcm():
    jcm = pytest.importorskip("jcm.constants").PhysicalConstants()
    theirs = (jcm.grav, jcm.cpd, jcm.alhc, jcm.alhf, jcm.rd, jcm.rv, jcm.rhow, jcm.sbc, jcm.p0)
    assert dataclasses.astuple(SPEEDY) == pytest.approx(theirs, rel=1e-15)


def test_constants_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        E3SM.gravity = 9.81  # type: ignore[misc]
