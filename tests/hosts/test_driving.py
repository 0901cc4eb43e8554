"""The weight of an emulator step by step, and requests that make no sense."""

from __future__ import annotations

import numpy as np
import pytest

from subgrid.base.errors import UsageError
from subgrid.hosts.driving import Drive


def weights(drive, steps):
    return [float(drive.weight(np.int64(step), np)) for step in range(steps)]


def test_alone_it_acts_from_the_first_step():
    assert weights(Drive(), 3) == [1.0, 1.0, 1.0] and not Drive().needs_own


def test_the_host_spins_up_alone_and_then_shares():
    drive = Drive(spin_up_steps=2, mix=0.25)
    assert weights(drive, 4) == [0.0, 0.0, 0.25, 0.25] and drive.needs_own


def test_a_linear_ramp_ends_at_the_mix():
    assert weights(Drive(ramp="linear", ramp_steps=4, mix=0.8, spin_up_steps=1), 7) == pytest.approx(
        [0.0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8]
    )


def test_steps_alternate():
    assert weights(Drive(ramp="step", ramp_off_steps=2, ramp_on_steps=3), 8) == [0, 0, 1, 1, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"mix": 0.0}, "couple.shadow=true lets nothing act"),
        ({"mix": 1.5}, r"\(0, 1\]"),
        ({"ramp": "lineal"}, "did you mean linear"),
        ({"ramp": "linear"}, "needs its steps"),
        ({"ramp_steps": 5}, "no other ramp has any"),
        ({"spin_up_steps": -1}, "at least 0"),
        ({"ramp": "step", "ramp_on_steps": 0}, "at least 1"),
        ({"shadow": True, "mix": 0.5}, "leave out couple.mix"),
        ({"shadow": True, "act_on": ["evaporation"]}, "leave out couple.act_on"),
        ({"keep": "surface", "mix": 0.5}, "cannot be mixed"),
        ({"act_on": "evaporation"}, "must be a list"),
    ],
)
def test_wrong_requests_are_refused(settings, text):
    with pytest.raises(UsageError, match=text):
        Drive(**settings)


def test_an_unknown_target_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean evaporation"):
        Drive(act_on=("evaporatoin",)).require_known(("evaporation", "outgoing_longwave"))
