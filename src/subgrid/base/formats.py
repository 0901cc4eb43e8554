"""The format of each kind of result on disk: marked in its first file, and compared before it is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subgrid.base.errors import SubgridError
from subgrid.base.files import read_json, write_json
from subgrid.base.places import Place

STORE, EMULATOR, RUN = "column store", "emulator", "training run"
EVALUATION, COUPLED, BUNDLE = "evaluation", "coupled run", "bundle"
SWEEP, SCORES, SHARED = "sweep", "scores of a run", "pushed run"
ENSEMBLE, ONLINE = "ensemble", "online scores"
#: The version of each kind of result that this package writes and reads.
_KINDS = (STORE, EMULATOR, RUN, EVALUATION, COUPLED, BUNDLE, SWEEP, SCORES, SHARED, ENSEMBLE, ONLINE)
VERSIONS = dict.fromkeys(_KINDS, 1)
_MARKS = ("kind", "format_version")


def mark(kind: str) -> dict[str, Any]:
    """What says in a description that it is of a ``kind`` of :data:`VERSIONS`, and of which version."""
    return {"kind": f"subgrid {kind}", "format_version": VERSIONS[kind]}


def require_format(found: Any, kind: str, path: Place) -> dict[str, Any]:
    """``found``, read at ``path``, if it describes a ``kind`` of our version.

    Raises:
        SubgridError: it does not, or is of another version; both versions are named.
    """
    wanted = mark(kind)
    if not isinstance(found, Mapping) or found.get("kind") != wanted["kind"]:
        article = "an" if kind[0] in "aeiou" else "a"
        raise SubgridError(f"{path} does not describe {article} {kind}")
    if found.get("format_version") != wanted["format_version"]:
        raise SubgridError(
            f"{path} has {kind} format version {found.get('format_version')}, this subgrid reads version "
            f"{wanted['format_version']}: make it again or install the matching version"
        )
    return dict(found)


def write_record(path: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Write ``content`` as JSON, marked as a ``kind``."""
    write_json(path, {**mark(kind), **content})


def read_record(path: Path, kind: str) -> dict[str, Any]:
    """What :func:`write_record` wrote, without the marks.

    Raises:
        SubgridError: no such file, damaged, of another kind or version.
    """
    found = require_format(read_json(path), kind, path)
    return {name: value for name, value in found.items() if name not in _MARKS}
