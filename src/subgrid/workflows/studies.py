"""Studies: sets of runs that answer one question, resumable, with a page of documentation as their result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from subgrid.base.errors import SubgridError, unknown_name
from subgrid.base.logs import log_file
from subgrid.columns.store import open_store
from subgrid.workflows.stability import stability

STUDIES: dict[str, Callable[[Path, Path, Path | None], Path]] = {"stability": stability}


def run_study(name: str, store: Path, out: Path, docs: Path | None = None) -> Path:
    """Run (or go on with) a study; returns the file with its results.

    Args:
        name: of the study.
        store: column store.
        out: folder of all runs.
        docs: where the study's page and figures are written (None: into ``out``).

    Raises:
        UsageError: no such study.
        SubgridError: the store is unusable, or holds no restarts to couple from.
    """
    if name not in STUDIES:
        raise unknown_name("study", name, STUDIES)
    held = open_store(store)
    if not (held.path / "restarts").is_dir():
        raise SubgridError(f"{store} holds no restarts: make it with `subgrid data generate`")
    with log_file(out, name):
        return STUDIES[name](store, out, docs)
