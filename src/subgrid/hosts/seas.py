"""Words for sea-surface temperatures, common to all hosts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from subgrid.base.errors import UsageError

OBSERVED, AQUAPLANET, UNIFORM = "observed", "aquaplanet", "uniform"
MOST_SST_CHANGE = 20.0
_CHANGED = re.compile(r"([a-z]*)([+-]\d+(?:\.\d+)?)K")


@dataclass(frozen=True)
class Seas:
    """Sea-surface temperatures.

    Args:
        kind: ``observed`` (of the host itself), ``aquaplanet`` (no land; warm at the equator) or ``uniform`` (no land;
            the same everywhere).
        change: added everywhere, K.
    """

    kind: str = OBSERVED
    change: float = 0.0


def parse_seas(word: str, kinds: tuple[str, ...] = (OBSERVED,)) -> Seas:
    """What ``host.sst=word`` means: one of ``kinds``, a difference to the first such as ``+4K``, or both in one.

    Raises:
        UsageError: none of these, or too large a difference.
    """
    if word in kinds:
        return Seas(word)
    match = _CHANGED.fullmatch(word)
    if match is None or (match[1] or kinds[0]) not in kinds:
        more = f", {', '.join(kinds[1:])}" if kinds[1:] else ""
        raise UsageError(f"host.sst={word} must be {kinds[0]}{more}, or a difference such as +4K or {kinds[-1]}-2.5K")
    change = float(match[2])
    if abs(change) > MOST_SST_CHANGE:
        raise UsageError(f"host.sst={word} is more than {MOST_SST_CHANGE:g} K from the {match[1] or kinds[0]}")
    return Seas(match[1] or kinds[0], change)
