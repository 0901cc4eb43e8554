"""The page and figures of the study of populations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from subgrid.report.document import write_document
from subgrid.report.ensemble import draw_survival
from subgrid.report.style import styled
from subgrid.report.words import table
from subgrid.scores.survival import survival_curve

COLOURS = ("#d55e00", "#0072b2")


@styled
def survival_figure(cases: list[dict[str, Any]]) -> Figure:
    """Share of members that are left by day, both designs of each host, with intervals."""
    figure = Figure(figsize=(5.2 * len(cases), 3.4), layout="constrained")
    for axis, case in zip(np.atleast_1d(figure.subplots(1, len(cases))), cases, strict=True):
        for record, colour in zip(case["records"], COLOURS, strict=True):
            draw_survival(axis, record["lasted"], record["ended"], record["days"], colour, record["design"]["text"])
        axis.set_title(case["name"])
        axis.legend(loc="lower left", fontsize=9)
    return figure


@styled
def foretold_figure(cases: list[dict[str, Any]]) -> Figure:
    """Offline R2 of each member against its online error, or where it ended."""
    figure = Figure(figsize=(5.2 * len(cases), 3.6), layout="constrained")
    for axis, case in zip(np.atleast_1d(figure.subplots(1, len(cases))), cases, strict=True):
        for record, colour in zip(case["records"], COLOURS, strict=True):
            r2 = np.asarray(record["r2"])
            lived = np.asarray([v is not None for v in record["rmse"]])
            error = np.asarray([np.nan if v is None else v for v in record["rmse"]])
            axis.plot(r2[lived], error[lived], "o", ms=4, color=colour, alpha=0.7, label=record["design"]["text"])
            if (~lived).any():
                top = np.full((~lived).sum(), 1.02)
                axis.plot(r2[~lived], top, "x", ms=5, color=colour, transform=axis.get_xaxis_transform(), clip_on=False)
        axis.set_title(case["name"], pad=14)
        axis.set_xlabel("offline: mean R² of the test months")
        axis.set_ylabel(f"online: RMSE of days 1–{case['records'][0]['online_days']}")
        axis.legend(fontsize=9)
    return figure


def _interval(found: list[float] | None) -> str:
    return "–" if found is None else f"{found[0]:+.2f} ({found[1]:+.2f} to {found[2]:+.2f})"


def _left(record: dict[str, Any], day: int) -> str:
    curve = survival_curve(record["lasted"], record["ended"])
    held = np.flatnonzero(curve.time < day)
    if not held.size:
        return "100 %"
    k = held[-1]
    return f"{100 * curve.share[k]:.0f} % ({100 * curve.low[k]:.0f} to {100 * curve.high[k]:.0f})"


def population_page(cases: list[dict[str, Any]], docs: Path) -> Path:
    """Write ``population.md`` and its figures; returns the page."""
    figures = {"survival": survival_figure(cases), "foretold": foretold_figure(cases)}
    filled = {"LIVES": _lives(cases), "FORETOLD": _foretold(cases), "NEEDED": _needed(cases)}
    return write_document(docs, "population", filled, figures)


def _lives(cases: list[dict[str, Any]]) -> list[str]:
    titles = ["host", "design", "members", "R² (5th to 95th percentile)", "left at half time", "left at the end"]
    rows = []
    for case in cases:
        for record in case["records"]:
            low, middle, high = np.quantile(record["r2"], [0.05, 0.5, 0.95])
            r2, days = f"{middle:.3f} ({low:.3f} to {high:.3f})", record["days"]
            design = record["design"]["text"]
            rows.append(
                [case["name"], design, str(len(record["r2"])), r2, _left(record, days // 2), _left(record, days)]
            )
    return table(titles, rows)


def _foretold(cases: list[dict[str, Any]]) -> list[str]:
    rows = [
        [case["name"], record["design"]["text"], _interval(found["life"]), _interval(found["error"])]
        for case in cases
        for record, found in zip(case["records"], case["correlations"], strict=True)
    ]
    return table(["host", "design", "R² and days lasted", "R² and online error"], rows)


def _needed(cases: list[dict[str, Any]]) -> list[str]:
    def told(needed: int | None) -> str:
        return "more than 200" if needed is None else str(needed)

    rows = [[case["name"], told(case["needed"]["life"]), told(case["needed"]["error"])] for case in cases]
    return table(["host", "by survival (log-rank)", "by online error (rank-sum)"], rows)
