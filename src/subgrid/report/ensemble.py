"""Figures of an ensemble: growth of the distance to the control with the band of the control's own noise, survival."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subgrid.report.climate import FIELDS
from subgrid.report.style import CONTROL, few_ticks, legend_above, panels, styled
from subgrid.scores.survival import survival_curve

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#332288", "#56b4e9", "#999933")


@styled
def growth(found: xr.Dataset, groups: Mapping[str, str], narrow: bool = False) -> Figure:
    """RMSE of each day against the first control, by group, over the band of distances between controls.

    Args:
        found: see :func:`subgrid.coupling.ensemble.growth_of`.
        groups: of each member that is drawn; those of one group share a colour.
        narrow: for a phone.
    """
    names = [name for name in FIELDS if f"growth_{name}" in found]
    figure, axes = panels(len(names), 2, 2.9, narrow, 2.5)
    days = np.arange(found.sizes["time"]) + 0.5
    kinds = list(dict.fromkeys(groups.values()))
    members = [str(m) for m in found["member"].values]
    for ax, name in zip(axes, names, strict=True):
        title, factor, units = FIELDS[name]
        if f"noise_{name}" in found:
            low, middle, high = factor * found[f"noise_{name}"].values
            ax.fill_between(days, low, high, color=CONTROL, alpha=0.2, lw=0, label="between controls (10th to 90th)")
            ax.plot(days, middle, color=CONTROL, lw=1.2, label="between controls, median")
        for k, kind in enumerate(kinds):
            lines = [members.index(m) for m, g in groups.items() if g == kind and m in members]
            for j, line in enumerate(lines):
                values = factor * found[f"growth_{name}"].values[line]
                ax.plot(days, values, color=COLOURS[k % len(COLOURS)], lw=1.2, label=kind if j == 0 else "_")
        ax.set_title(title)
        ax.set_xlabel("day")
        ax.set_ylabel(f"RMSE ({units})")
        ax.set_ylim(bottom=0.0)
        few_ticks(ax)
        ax.set_xlim(0, found.sizes["time"])
    legend_above(figure, axes[0], 2 if narrow else 4)
    return figure


@styled
def survival(lives: Mapping[str, Sequence[tuple[int, bool]]], days: int, narrow: bool = False) -> Figure:
    """Share of members that are left by day, by group, with intervals.

    Args:
        lives: of each group, days that a member lasted and whether it ended by itself.
        days: length of the runs.
        narrow: for a phone.
    """
    figure, (ax,) = panels(1, 1, 3.0, narrow, 2.8)
    for k, (kind, found) in enumerate(lives.items()):
        lasted, ended = zip(*found, strict=True)
        draw_survival(ax, lasted, ended, days, COLOURS[k % len(COLOURS)], f"{kind} ({len(found)})")
    legend_above(figure, ax, 1 if narrow else 4)
    return figure


def draw_survival(ax: Axes, lasted: Sequence[int], ended: Sequence[bool], days: int, colour: str, label: str) -> None:
    """One survival curve in per cent with its interval, from day 0 to ``days``."""
    curve = survival_curve(lasted, ended)
    at = np.concatenate([[0.0], curve.time, [days]])
    share, low, high = (
        100 * np.concatenate([[1.0], part, part[-1:] if part.size else [1.0]])
        for part in (curve.share, curve.low, curve.high)
    )
    ax.step(at, share, where="post", color=colour, label=label)
    ax.fill_between(at, low, high, step="post", color=colour, alpha=0.15, lw=0)
    ax.set_xlabel("day")
    ax.set_ylabel("members left (%)")
    ax.set_ylim(-3, 103)
    ax.set_xlim(0, days)
