"""How well an emulator knows its own errors: rank correlation of told and true error, skill on the surest rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.columns.store import Split
from subgrid.columns.variables import Variable, offsets
from subgrid.emulator.base import ColumnEmulator
from subgrid.evaluation.confidence import Confidence, confidence_of
from subgrid.evaluation.predict import emulator_predictor
from subgrid.scores.arrays import constant, jsonable
from subgrid.scores.sureness import KEPT, kept_scores, spearman

Floats = NDArray[np.float64]
#: About so many rows are looked at, evenly from all blocks: ranks need them all at once.
ROWS = 20_000
#: Shares of rows that a terminal shows.
SHOWN = (1.0, 0.9, 0.5, 0.1)
#: Losses below this, in spreads squared, count as this where errors are drawn.
LEAST = 1e-6
#: Cloud water, of which a published network tells the error and gives liquid and ice.
SUMS = {"ptend_qn": ("ptend_q0002", "ptend_q0003")}


def confidence_scores(emulator: ColumnEmulator, split: Split, rows: int = ROWS) -> dict[str, Any] | None:
    """What an emulator's confidence is worth on ``split``: rank correlation, and skill where it is surest.

    Errors are those of the emulator's answer, squared, in the network's normalised units (of a published network: in
    units of the truth's spread in these rows). Of one output, the order of absolute errors, of their squares and of
    any loss that rises with them is the same. Outputs that do not vary take no part.

    Returns:
        None where the emulator has no confidence; else ``rows`` and ``n_nonfinite`` (left out);
        ``rank_correlation``, Spearman's: ``channels``, the mean over outputs, each correlated over rows, ``pooled``, of
        all outputs and rows together, ``columns``, of each row's mean over outputs, and ``expected``, what
        ``channels`` would be if every error were normal with the variance that is told; ``kept``, shares of rows;
        ``variables``: for each the mean rank correlation and ``*_level``, and by share of rows kept the R2 and the
        mean squared error (see :func:`subgrid.scores.sureness.kept_scores`). None where a score is undefined.

    Raises:
        UsageError: the store lacks a variable.

    Source: Rasmussen et al. (2023), J. Cheminform. 15, 121 (rank correlations beside what they could be at best).
    """
    confidence = confidence_of(emulator)
    if confidence is None:
        return None
    told, error, truth = _rows(emulator, confidence, split, rows)
    finite = np.isfinite(told).all(axis=1) & np.isfinite(error).all(axis=1)
    told, error, truth = told[finite], error[finite], truth[finite]
    unit = _unit(truth) if confidence.unit is None else confidence.unit
    error, truth = error * unit, truth * unit
    live = (np.ptp(error, axis=0) > 0) & (np.ptp(told, axis=0) > 0) if len(told) else np.zeros(len(unit), bool)
    place = offsets(confidence.variables, emulator.levels)
    ranks = np.full(len(unit), np.nan)
    ranks[live] = _by_channel(told[:, live], error[:, live] ** 2)
    return {
        "rows": len(told),
        "n_nonfinite": int((~finite).sum()),
        "rank_correlation": _together(told[:, live], error[:, live] ** 2, ranks[live]),
        "kept": list(KEPT),
        "variables": {
            v.name: _variable(v, live[place[v.name]], *(a[..., place[v.name]] for a in (ranks, told, error, truth)))
            for v in confidence.variables
        },
    }


def _unit(truth: Floats) -> Floats:
    """1 / spread of each channel, 0 where it does not vary."""
    rows = np.full(truth.shape[1], len(truth), np.float64)
    mean = truth.mean(axis=0)
    deviation = ((truth - mean) ** 2).sum(axis=0)
    still = constant(deviation, rows, mean)
    return np.where(still, 0.0, 1.0 / np.sqrt(np.where(still, 1.0, deviation / rows)))


def _by_channel(told: Floats, square: Floats) -> list[float]:
    return [spearman(one, other) for one, other in zip(told.T, square.T, strict=True)]


def _together(told: Floats, square: Floats, ranks: Floats) -> dict[str, float | None]:
    """Rank correlations of all channels that vary."""
    if not ranks.size:
        return dict.fromkeys(("channels", "pooled", "columns", "expected"))
    normal = np.random.default_rng(0).standard_normal(told.shape)
    ideal = _by_channel(told, np.maximum(told, LEAST) * normal**2)
    found = {
        "channels": float(ranks.mean()),
        "pooled": spearman(told.ravel(), square.ravel()),
        "columns": spearman(told.mean(axis=1), square.mean(axis=1)),
        "expected": float(np.mean(ideal)),
    }
    return {name: jsonable(value) for name, value in found.items()}


def _variable(variable: Variable, live: NDArray[np.bool_], ranks: Floats, *values: Floats) -> dict[str, Any]:
    told: dict[str, Any] = {
        "kind": variable.kind,
        "long_name": variable.long_name,
        "rank_correlation": jsonable(float(ranks[live].mean())) if live.any() else None,
        "rank_correlation_level": jsonable(ranks),
    }
    kept = kept_scores(*(a[:, live] for a in values)) if live.any() else None
    for name in ("r2", "mse", "mse_best"):
        told[f"{name}_kept"] = None if kept is None else jsonable(getattr(kept, name))
    return told


def _rows(emulator: ColumnEmulator, confidence: Confidence, split: Split, rows: int) -> tuple[Floats, Floats, Floats]:
    """Told loss, raw error and raw truth of rows from all over the split, (row, channel)."""
    every = max(1, -(-split.samples // rows))
    predict = emulator_predictor(emulator)
    parts: list[tuple[Floats, Floats, Floats]] = []
    for block in range(split.blocks):
        x = np.ascontiguousarray(split.read_variables(emulator.variables.inputs, block)[::every])
        y = split.read_variables(emulator.variables.targets, block)[::every].astype(np.float64)
        found = predict(x)
        error, truth = (_named(confidence, emulator, values) for values in (found - y, y))
        parts.append((confidence.predict(x), error, truth))
    told, error, truth = (np.concatenate(one) for one in zip(*parts, strict=True))
    return told, error, truth


def _named(confidence: Confidence, emulator: ColumnEmulator, values: Floats) -> Floats:
    """Channels of the emulator's targets as those of the confidence's; cloud water is the sum of its phases."""
    place = offsets(emulator.variables.targets, emulator.levels)
    parts = []
    for variable in confidence.variables:
        names = (variable.name,) if variable.name in place else SUMS[variable.name]
        parts.append(np.sum([values[:, place[name]] for name in names], axis=0))
    return np.concatenate(parts, axis=1)


def confidence_lines(result: dict[str, Any]) -> list[str]:
    """What a terminal shows."""
    at = [KEPT.index(share) for share in SHOWN]
    heads = ["rank corr.", *(f"R2 of {share:.0%}" for share in SHOWN)]
    ranks = result["rank_correlation"]
    words = "pooled {pooled}, columns {columns}, mean over outputs {channels} ({expected} if errors were normal)"
    lines = ["rank correlation of told and true error: " + words.format(**{k: _cell(v) for k, v in ranks.items()})]
    lines.append(f"{'confidence, surest rows':32s}" + "".join(f"{head:>12s}" for head in heads))
    for name, entry in result["variables"].items():
        kept = entry["r2_kept"]
        values = [entry["rank_correlation"], *([None] * len(at) if kept is None else [kept[k] for k in at])]
        lines.append(f"{name:32s}" + "".join(f"{_cell(value):>12s}" for value in values))
    return lines


def _cell(value: float | None) -> str:
    if value is None:
        return "--"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.2g}"
