"""Bands over seeds: least, mean and greatest score of each level among evaluations of networks that differ by seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from subgrid.base.errors import SubgridError
from subgrid.scores.arrays import jsonable

#: Scores by level that get a band.
SCORES = ("r2_guarded_level", "r2_pooled_level", "mae_level", "rmse_level", "bias_level")


def seed_bands(evaluations: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Bands of the literature scores over seeds.

    Args:
        evaluations: contents of ``scores.json`` of each seed, by where it lies; each made with ``metrics=climsim``.

    Returns:
        ``seeds`` (how many) and ``variables``: name to score to ``min``, ``mean`` and ``max``, each (level,) numbers;
        None at a level where a seed has no score.

    Raises:
        SubgridError: an evaluation lacks the literature scores, or differs from the first in split, variables or
            levels.
    """
    found = {where: _literature(where, scores) for where, scores in evaluations.items()}
    first_where, first = next(iter(found.items()))
    for where, result in found.items():
        if _shape(result) != _shape(first) or evaluations[where]["split"] != evaluations[first_where]["split"]:
            raise SubgridError(
                f"{where} and {first_where} are not scores of one network from two seeds: their splits, variables or "
                "levels differ"
            )
    return {
        "seeds": len(found),
        "variables": {
            name: {score: _band([result["variables"][name][score] for result in found.values()]) for score in SCORES}
            for name in first["variables"]
        },
    }


def _literature(where: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    found = scores.get("metrics", {}).get("climsim")
    if found is None:
        raise SubgridError(f"{where} has no literature scores: run subgrid evaluate RUN metrics=climsim")
    return dict(found)


def _shape(result: Mapping[str, Any]) -> dict[str, int]:
    return {name: len(entry["mae_level"]) for name, entry in result["variables"].items()}


def _band(values: list[list[float | None]]) -> dict[str, Any]:
    levels = np.array([[np.nan if v is None else v for v in one] for one in values], np.float64)
    reduced = {"min": levels.min(axis=0), "mean": levels.mean(axis=0), "max": levels.max(axis=0)}
    return {name: jsonable(value) for name, value in reduced.items()}
