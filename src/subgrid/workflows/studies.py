"""Studies: sets of runs that answer one question, resumable, with a page of documentation as their result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from subgrid.base.errors import unknown_name
from subgrid.workflows.matrix import matrix
from subgrid.workflows.physics import physics
from subgrid.workflows.stability import stability

STUDIES: dict[str, Callable[[Path, Path, Path | None], Path]] = {
    "matrix": matrix,
    "physics": physics,
    "stability": stability,
}


def run_study(name: str, store: Path, out: Path, docs: Path | None = None) -> Path:
    """Run (or go on with) a study; returns the file with its results.

    Args:
        name: of the study.
        store: column store.
        out: folder of all runs.
        docs: where the study's page and figures are written (None: into ``out``).

    Raises:
        UsageError: no such study.
    """
    if name not in STUDIES:
        raise unknown_name("study", name, STUDIES)
    return STUDIES[name](store, out, docs)
