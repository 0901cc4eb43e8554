"""Hill climbing to weights of an ensemble, whose error is a quadratic form: exact, without another look at the data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: A step goes at most this far towards, or away from, one member.
LONGEST = 0.5
#: Steps are multiples of this.
STEP = 0.01
MOST_STEPS = 10_000


def climb(form: Floats, negative: bool = True) -> Floats:
    """Weights (member,) that sum to 1 and make ``w' form w`` small.

    From the best member alone, each step is ``w <- (1 - s) w + s e_m`` with the member m and the s in multiples of
    0.01 within +-0.5 that lower the error most, until none lowers it (the first and second places of LEAP's
    competition blended so; s may be negative). The error is quadratic in s, hence the best multiple is the one next
    to its minimum.

    Args:
        form: (member, member), symmetric and positive semidefinite: weighted sums of products of the members' errors.
        negative: whether steps away from a member are allowed, and weights may become negative.
    """
    members = len(form)
    weights = np.zeros(members)
    weights[np.argmin(np.diag(form))] = 1.0
    own, least = np.diag(form), -LONGEST if negative else 0.0
    for _ in range(MOST_STEPS):
        towards = form @ weights
        here = float(weights @ towards)
        curvature = here - 2.0 * towards + own
        best = np.divide(here - towards, curvature, out=np.zeros(members), where=curvature > 0)
        steps = np.round(np.clip(best, least, LONGEST) / STEP) * STEP
        gain = here - ((1 - steps) ** 2 * here + 2 * steps * (1 - steps) * towards + steps**2 * own)
        member = int(np.argmax(gain))
        if gain[member] <= 1e-12 * here:
            break
        weights *= 1.0 - steps[member]
        weights[member] += steps[member]
    return weights / weights.sum()
