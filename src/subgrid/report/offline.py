"""Figures of an offline evaluation: skill and error by level, and zonal cross-sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from subgrid.report.style import (
    CONTROL,
    LOOKS,
    MEDIUM,
    WIDE,
    centred,
    colour_bar,
    extend_of,
    few_ticks,
    legend_above,
    panels,
    section,
    sigma_axis,
    styled,
)

#: R2 below this lies off the axis of the profiles.
LEAST_R2 = -0.25
#: What turns stored units into those that people read: factor and label.
DISPLAY = {
    "K/s": (86400.0, "K/day"),
    "kg/kg/s": (86400.0e3, "g/kg/day"),
    "m/s2": (86400.0, "m/s/day"),
    "kg/m2/s": (86400.0, "mm/day"),
}
DIVERGING = {"K/s": "RdBu_r", "kg/kg/s": "BrBG", "m/s2": "PuOr_r"}


def display_units(units: str) -> tuple[float, str]:
    """Factor and label of the units in which a quantity is shown."""
    return DISPLAY.get(units, (1.0, units.replace("W/m2", "W/m²").replace("N/m2", "N/m²")))


def profile_names(scores: Mapping[str, Any]) -> list[str]:
    """The profile variables that were scored, in order."""
    return [name for name, v in scores["variables"].items() if v.get("kind") == "profile"]


def main_profiles(scores: Mapping[str, Any], count: int = 2) -> list[str]:
    """The profiles with an energy meaning (temperature and humidity tendency) first, at most ``count``."""
    names = profile_names(scores)
    energetic = [n for n in names if scores["variables"][n].get("energy_units")]
    return (energetic + [n for n in names if n not in energetic])[:count]


def varying_profiles(scores: Mapping[str, Any]) -> list[str]:
    """Up to four profiles that vary on more than one level, so that a line can be drawn."""
    found = [
        name
        for name in main_profiles(scores, len(scores["variables"]))
        if (values := level_values(scores, "emulator", name, "r2")) is not None and np.isfinite(values).sum() > 1
    ]
    return (found or main_profiles(scores))[:4]


def title_of(scores: Mapping[str, Any], name: str) -> str:
    """A variable as a heading."""
    title = str(scores["variables"].get(name, {}).get("long_name") or name.replace("_", " "))
    return title[:1].upper() + title[1:]


def level_values(scores: Mapping[str, Any], model: str, name: str, score: str) -> NDArray[np.float64] | None:
    """One score by level, NaN where it has none."""
    values = scores["models"].get(model, {}).get(name, {}).get(f"{score}_level")
    return None if values is None else np.array([np.nan if v is None else v for v in values], np.float64)


def _profile_lines(ax: Axes, scores: Mapping[str, Any], name: str, score: str, factor: float) -> None:
    sigma = np.asarray(scores["levels_sigma"], np.float64)
    for model in ("mean", "ridge", "emulator"):
        values = level_values(scores, model, name, score)
        if values is not None:
            size = 4.5 if sigma.size <= 20 else 2.5
            ax.plot(factor * values, sigma, marker="o", markersize=size, **LOOKS[model])
    sigma_axis(ax)


@styled
def r2_profiles(scores: Mapping[str, Any], narrow: bool = False) -> Figure:
    """R2 of each level for up to four profile variables: emulator, ridge regression, training mean."""
    names = varying_profiles(scores)
    figure, axes = panels(len(names), 4, 3.8, narrow, 3.0, width=WIDE if len(names) > 2 else MEDIUM)
    for ax, name in zip(axes, names, strict=True):
        _profile_lines(ax, scores, name, "r2", 1.0)
        ax.set_xlim(LEAST_R2, 1.03)
        ax.axvline(0.0, color=CONTROL, linewidth=0.8)
        ax.set_xlabel("R²")
        ax.set_title(title_of(scores, name))
    _share_sigma_label(axes, 1 if narrow else 4)
    legend_above(figure, axes[0], 2 if narrow else 3)
    return figure


@styled
def error_profiles(scores: Mapping[str, Any], narrow: bool = False) -> Figure:
    """RMSE and bias of each level for the temperature and humidity tendency."""
    names = main_profiles(scores)
    figure, axes = panels(2 * len(names), 4, 3.8, narrow, 3.0)
    for k, name in enumerate(names):
        factor, units = display_units(str(scores["variables"][name].get("units", "")))
        for ax, score, label in ((axes[2 * k], "rmse", "RMSE"), (axes[2 * k + 1], "bias", "bias")):
            _profile_lines(ax, scores, name, score, factor)
            few_ticks(ax, x=4)
            sigma_axis(ax)
            if score == "rmse":
                ax.set_xlim(left=0.0)
            else:
                ax.axvline(0.0, color=CONTROL, linewidth=0.8)
                reach = 1.1 * max(abs(v) for v in ax.get_xlim())
                ax.set_xlim(-reach, reach)
            ax.set_xlabel(f"{label} ({units})")
            ax.set_title(title_of(scores, name))
    _share_sigma_label(axes, 1 if narrow else 4)
    legend_above(figure, axes[0], 2 if narrow else 3)
    return figure


def _share_sigma_label(axes: list[Axes], across: int) -> None:
    for k, ax in enumerate(axes):
        if k % across:
            ax.set_ylabel("")
            ax.tick_params(labelleft=False)


@styled
def cross_sections(scores: Mapping[str, Any], sections: xr.Dataset, narrow: bool = False) -> Figure:
    """Latitude-sigma sections of truth, bias and R2 of the temperature and humidity tendency."""
    names = [n for n in main_profiles(scores) if f"r2_{n}" in sections]
    figure, axes = panels(3 * len(names), 3, 3.3, narrow, narrow_height=2.9)
    latitude, sigma = sections["latitude"].values, sections["sigma"].values
    for k, name in enumerate(names):
        stored = str(scores["variables"][name].get("units", ""))
        factor, units = display_units(stored)
        colours = DIVERGING.get(stored, "RdBu_r")
        for ax, kind, label in (
            (axes[3 * k], "truth", "held-out mean"),
            (axes[3 * k + 1], "bias", "emulator − truth"),
        ):
            values = factor * np.asarray(sections[f"{kind}_{name}"].values, np.float64).T
            norm = centred(values)
            mesh = section(ax, latitude, sigma, values, colours, norm)
            ax.set_title(f"{title_of(scores, name)}: {'mean' if kind == 'truth' else 'bias'}")
            colour_bar(figure, mesh, ax, f"{label} ({units})", extend_of(values, norm))
        ax = axes[3 * k + 2]
        values = np.asarray(sections[f"r2_{name}"].values, np.float64).T
        norm = Normalize(0.0, 1.0)
        mesh = section(ax, latitude, sigma, values, "viridis", norm)
        ax.set_title(f"{title_of(scores, name)}: R²")
        colour_bar(figure, mesh, ax, "R² in time and longitude", extend_of(values, norm))
    for k, ax in enumerate(axes):
        if not narrow and k % 3:
            ax.set_ylabel("")
    return figure
