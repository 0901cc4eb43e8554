"""Figures of what an emulator says of its own errors: skill on the rows of which it is surest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from subgrid.report.style import CONTROL, EMULATOR, MEAN, few_ticks, legend_above, panels, styled

#: How many variables are drawn at most.
MOST = 2


def shown(result: Mapping[str, Any]) -> list[str]:
    """The variables that are drawn: profiles first, of those with a curve."""
    found = [name for name, v in result["variables"].items() if v["mse_kept"] is not None]
    return sorted(found, key=lambda name: result["variables"][name]["kind"] != "profile")[:MOST]


def heading(entry: Mapping[str, Any], name: str) -> str:
    """A variable as a heading."""
    title = str(entry.get("long_name") or name.replace("_", " "))
    return title[:1].upper() + title[1:]


def curve(values: list[float | None]) -> NDArray[np.float64]:
    """Numbers by share of rows kept, NaN for None."""
    return np.array([np.nan if v is None else v for v in values], np.float64)


@styled
def kept_skill(result: Mapping[str, Any], narrow: bool = False) -> Figure:
    """R2 and mean squared error of the surest rows, by the share that is kept."""
    names = shown(result)
    figure, axes = panels(2 * len(names), 4, 3.4, narrow, 2.8)
    kept = np.asarray(result["kept"], np.float64)
    for k, name in enumerate(names):
        entry = result["variables"][name]
        skill, error = axes[2 * k], axes[2 * k + 1]
        skill.plot(kept, curve(entry["r2_kept"]), color=EMULATOR, marker="o", markersize=4)
        skill.set_ylabel("R² of rows kept")
        error.plot(kept, curve(entry["mse_kept"]), color=EMULATOR, marker="o", markersize=4, label="surest rows kept")
        error.plot(kept, curve(entry["mse_best_kept"]), color=CONTROL, linestyle="--", label="best possible order")
        error.axhline(1.0, color=MEAN, linestyle=":", label="confidence worth nothing")
        error.set_ylim(0.0, 1.1)
        error.set_ylabel("squared error / that of all")
        for ax in (skill, error):
            few_ticks(ax)
            ax.set_xlim(1.03, 0.07)
            ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            ax.set_xlabel("rows kept, surest")
            ax.set_title(heading(entry, name))
    legend_above(figure, axes[1], 1 if narrow else 3)
    return figure
