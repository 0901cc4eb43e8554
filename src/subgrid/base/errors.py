"""The two kinds of failure that a user meets, each one clear line: what, where, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SubgridError(Exception):
    """The work failed (exit code 1): bad data, an unfinished folder, an unwritable place. Its text is one line."""

    exit_code = 1

    def __str__(self) -> str:
        return super().__str__().replace("\n", " ").replace("\r", " ")


class UsageError(SubgridError):
    """The request itself is wrong (exit code 2): unknown names, keys or values."""

    exit_code = 2


def nearest(name: str, valid: Iterable[str], count: int = 3) -> list[str]:
    """The valid names closest to ``name``, best first; all of them if none is close and they are few."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.5)
    return close or (names if len(names) <= 8 else [])


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> UsageError:
    """A :class:`UsageError` for an unknown ``name`` of ``kind``, with the nearest valid names."""
    names = nearest(name, list(valid))
    hint = f"; did you mean {' or '.join(names)}?" if names else ""
    return UsageError(f"unknown {kind} '{name}'{hint}")


def require_seed(seed: int) -> None:
    """Refuse a seed that numpy or torch would not take."""
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed={seed} must lie in [0, 2^32)")
