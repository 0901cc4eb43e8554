"""Words for sea-surface temperatures, common to all hosts."""

from __future__ import annotations

import re

from subgrid.base.errors import UsageError

OBSERVED = "observed"
MOST_SST_CHANGE = 20.0
_WARMER = re.compile(r"[+-]\d+(\.\d+)?K")


def sst_difference(word: str) -> float:
    """What ``host.sst=word`` adds to a host's sea-surface temperatures, K.

    Raises:
        UsageError: neither ``observed`` nor a difference such as ``+4K``, or too large a one.
    """
    if word == OBSERVED:
        return 0.0
    if _WARMER.fullmatch(word) is None:
        raise UsageError(f"host.sst={word} must be {OBSERVED}, or a difference to it such as +4K or -2.5K")
    change = float(word.removesuffix("K"))
    if abs(change) > MOST_SST_CHANGE:
        raise UsageError(f"host.sst={word} is more than {MOST_SST_CHANGE:g} K from the {OBSERVED}")
    return change
