"""Published scores of other people's networks, shipped as data with their source, beside a run's own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import yaml

#: Scores that are published, and what a table calls them.
SCORES = {"mae": "MAE (W/m2)", "r2": "R2"}


@cache
def published(name: str = "climsim_v1") -> dict[str, Any]:
    """The table ``published/<name>.yaml``: ``source``, ``data``, ``order`` of the models, and rows by score."""
    file = resources.files("subgrid.evaluation") / "published" / f"{name}.yaml"
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


def beside(variables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """A run's row in each published table; None where the run has none of its variables.

    Args:
        variables: scores of the run by variable, with ``mae`` in W/m2 and ``r2`` as published.

    Returns:
        ``source``, ``data``, and for each score variable to model to value, the run as ``this run``; None for a value
        that is not published or not finite.
    """
    table = published()
    names = [name for name in table["mae"] if name in variables]
    if not names:
        return None
    order = table["order"]
    found: dict[str, Any] = {"source": table["source"], "data": table["data"]}
    for score in SCORES:
        found[score] = {
            name: {**dict(zip(order, table[score].get(name, [None] * len(order)), strict=True))}
            | {"this run": variables[name][score]}
            for name in names
        }
    return found


def lines(table: Mapping[str, Any]) -> list[str]:
    """What a terminal shows of :func:`beside`."""
    found = []
    for score, title in SCORES.items():
        rows = table[score]
        models = list(next(iter(rows.values())))
        found.append(f"{title:18s}" + "".join(f"{model:>10s}" for model in models))
        for name, row in rows.items():
            cells = "".join(f"{'--':>10s}" if row[m] is None else f"{row[m]:10.4g}" for m in models)
            found.append(f"{name:18s}{cells}")
    return [*found, f"published on: {table['data']}", f"source: {table['source']}"]
