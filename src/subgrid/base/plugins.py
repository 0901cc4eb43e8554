"""What other installed packages offer, by entry point: listed without importing it, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from subgrid.base.errors import SubgridError


def offered(group: str) -> dict[str, EntryPoint]:
    """Entry points of ``group`` by name, not yet imported; of two with one name the first that Python finds."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        found.setdefault(point.name, point)
    return found


def import_offer(kind: str, point: EntryPoint, registered: Callable[[], bool]) -> None:
    """Import the module behind an entry point, which must register the name that it announces.

    Args:
        kind: what is registered, for the message: ``"architecture"``.
        point: the entry point.
        registered: says whether the name is registered now.

    Raises:
        SubgridError: the import failed, or did not register the name.
    """
    try:
        point.load()
    except Exception as error:
        raise SubgridError(f"{kind} '{point.name}': importing {point.value} failed: {error}") from error
    if not registered():
        raise SubgridError(f"{kind} '{point.name}': {point.value} imported, but does not register it")
