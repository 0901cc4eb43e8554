"""Studies: sets of runs that answer one question, resumable, with a page of documentation as their result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from subgrid.base.errors import UsageError, unknown_name
from subgrid.workflows.design import design
from subgrid.workflows.matrix import matrix
from subgrid.workflows.matrix_online import matrix_online
from subgrid.workflows.physics import physics
from subgrid.workflows.population import population
from subgrid.workflows.stability import stability

STUDIES: dict[str, Callable[[Any, Path, Path | None], Path]] = {
    "design": design,
    "matrix": matrix,
    "matrix-online": matrix_online,
    "physics": physics,
    "population": population,
    "stability": stability,
}
#: Studies that make their own columns.
WITHOUT_STORE = ("population",)


def run_study(name: str, store: Path | None, out: Path, docs: Path | None = None) -> Path:
    """Run (or go on with) a study; returns the file with its results.

    Args:
        name: of the study.
        store: column store; None for a study that needs none.
        out: folder of all runs.
        docs: where the study's page and figures are written (None: into ``out``).

    Raises:
        UsageError: no such study.
    """
    if name not in STUDIES:
        raise unknown_name("study", name, STUDIES)
    if store is None and name not in WITHOUT_STORE:
        raise UsageError(f"study {name} needs a column store: add --data store.zarr")
    return STUDIES[name](store, out, docs)
