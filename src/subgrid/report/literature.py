"""Figures of the literature's scores: R2 by level, zonal bias, R2 of daily means, moistening by amount of rain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from subgrid.evaluation.cloud_phases import PHASES, RAMP
from subgrid.report.offline import DIVERGING, LEAST_R2, display_units
from subgrid.report.style import (
    CONTROL,
    EMULATOR,
    MEDIUM,
    RIDGE,
    WIDE,
    centred,
    colour_bar,
    extend_of,
    legend_above,
    panels,
    section,
    sigma_axis,
    sigma_edges,
    styled,
)

Floats = NDArray[np.float64]
#: R2 of daily means that get a contour.
CONTOURS = (0.7, 0.9)
#: How many panels a figure has at most.
MOST = 6


def heading(entry: Mapping[str, Any]) -> str:
    """The name of a variable as a heading."""
    name = str(entry.get("long_name") or "")
    return name[:1].upper() + name[1:]


def shown(result: Mapping[str, Any]) -> list[str]:
    """The profiles that are drawn: cloud liquid and ice rather than their sum, against the true tendencies."""
    found = [n for n, v in result["variables"].items() if v["kind"] == "profile" and not n.endswith(RAMP)]
    if set(PHASES) <= set(found):
        others = [n for n in found if n not in (*PHASES, "ptend_qn")]
        found = [*others[:2], *PHASES, *others[2:]]
    return found[:MOST]


def held(result: Mapping[str, Any], data: xr.Dataset, kind: str) -> list[str]:
    """Those of :func:`shown` that ``data`` has a section ``kind`` of."""
    return [name for name in shown(result) if f"{kind}_{name}" in data]


def by_level(values: list[float | None]) -> Floats:
    """Numbers by level, NaN for None."""
    return np.array([np.nan if v is None else v for v in values], np.float64)


@styled
def r2_profiles(result: Mapping[str, Any], seeds: Mapping[str, Any] | None = None, narrow: bool = False) -> Figure:
    """R2 of each level, mean over columns and pooled; with ``seeds`` the range over seeds as bands."""
    names = shown(result)
    across = 3 if len(names) > 4 else len(names)
    figure, axes = panels(len(names), across, 3.4, narrow, 3.0, width=WIDE if len(names) > 2 else MEDIUM)
    sigma = np.asarray(result["levels_sigma"], np.float64)
    looks = (("r2_guarded_level", EMULATOR, "-", "mean over columns"), ("r2_pooled_level", RIDGE, "--", "pooled"))
    for k, (ax, name) in enumerate(zip(axes, names, strict=True)):
        entry = result["variables"][name]
        if all(not (by_level(entry[key]) >= LEAST_R2).any() for key, *_ in looks):
            ax.text(0.5, 0.5, f"below {LEAST_R2:g} throughout".replace("-", "−"), transform=ax.transAxes, ha="center")
        for key, colour, style, label in looks:
            if seeds is not None:
                band = seeds["variables"][name][key]
                least, most = by_level(band["min"]), by_level(band["max"])
                told = f"{label}, range of seeds"
                ax.fill_betweenx(sigma, least, most, color=colour, alpha=0.25, linewidth=0, label=told)
            ax.plot(by_level(entry[key]), sigma, color=colour, linestyle=style, label=label)
        ax.axvline(0.0, color=CONTROL, linewidth=0.8)
        ax.set_xlim(LEAST_R2, 1.03)
        ax.set_xlabel("R²")
        ax.set_title(heading(entry))
        sigma_axis(ax)
        _label_first(ax, k, 1 if narrow else across)
    legend_above(figure, axes[0], 1 if narrow else 2 if seeds is None else 4)
    return figure


def _label_first(ax: Axes, k: int, across: int) -> None:
    """Only the first panel of a row names its axis."""
    if k % across:
        ax.set_ylabel("")
        ax.tick_params(labelleft=False)


@styled
def zonal_bias(result: Mapping[str, Any], data: xr.Dataset, narrow: bool = False) -> Figure:
    """Time-mean bias in bands of 10 degrees (colours) over the true mean (contours)."""
    names = held(result, data, "bias")
    across = min(3, len(names))
    figure, axes = panels(len(names), across, 3.3, narrow, 2.9, width=WIDE if len(names) > 2 else MEDIUM)
    latitude, sigma = data["latitude"].values, data["sigma"].values
    for k, (ax, name) in enumerate(zip(axes, names, strict=True)):
        entry = data[f"bias_{name}"].attrs
        factor, units = display_units(str(entry.get("units", "")))
        bias, truth = (factor * np.asarray(data[f"{kind}_{name}"].values, np.float64).T for kind in ("bias", "truth"))
        norm = centred(bias)
        mesh = section(ax, latitude, sigma, bias, DIVERGING.get(str(entry.get("units", "")), "RdBu_r"), norm)
        _contours(ax, latitude, sigma, truth, _round_levels(truth))
        ax.set_title(heading(entry))
        colour_bar(figure, mesh, ax, f"bias ({units})", extend_of(bias, norm))
        _label_first(ax, k, 1 if narrow else across)
    return figure


def _round_levels(values: Floats) -> list[float]:
    """Two round values on each side of zero that a field reaches."""
    finite = np.abs(values[np.isfinite(values)])
    if not finite.size or finite.max() == 0:
        return []
    top = float(f"{0.6 * finite.max():.1g}")
    return [-top, -top / 2, top / 2, top]


def _contours(ax: Axes, latitude: Floats, sigma: Floats, values: Floats, levels: list[float]) -> None:
    """Thin labelled contours of a (level, latitude) field, dashed below zero; none where it never gets there."""
    reached = [v for v in levels if np.nanmin(values, initial=np.inf) < v < np.nanmax(values, initial=-np.inf)]
    if not reached or values.shape[1] < 2:
        return
    drawn = ax.contour(latitude, sigma, np.ma.masked_invalid(values), reached, colors=CONTROL, linewidths=0.8)
    ax.clabel(drawn, fmt=lambda v: f"{v:g}".replace("-", "−"), fontsize=8)


@styled
def daily_r2(result: Mapping[str, Any], data: xr.Dataset, narrow: bool = False) -> Figure:
    """R2 over days of daily zonal means, with contours at 0.7 and 0.9."""
    names = held(result, data, "daily_r2")
    across = min(3, len(names))
    figure, axes = panels(len(names), across, 3.1, narrow, 2.7, width=WIDE if len(names) > 2 else MEDIUM)
    latitude, sigma = data["latitude"].values, data["sigma"].values
    mesh, norm, everything = None, Normalize(0.0, 1.0), []
    for k, (ax, name) in enumerate(zip(axes, names, strict=True)):
        values = np.asarray(data[f"daily_r2_{name}"].values, np.float64).T
        everything.append(values)
        mesh = section(ax, latitude, sigma, values, "viridis", norm)
        _contours(ax, latitude, sigma, values, [*CONTOURS])
        ax.set_title(heading(data[f"daily_r2_{name}"].attrs))
        _label_first(ax, k, 1 if narrow else across)
    colour_bar(figure, mesh, axes, "R² of daily means", extend_of(np.stack(everything), norm))
    return figure


@styled
def moistening(data: xr.Dataset, narrow: bool = False) -> Figure:
    """Mean moistening and its bias by level, for rows without rain and in ten bins of rain."""
    figure, axes = panels(2, 2, 4.0, narrow, 3.6)
    sigma = data["sigma"].values
    factor, units = display_units("kg/kg/s")
    bins = data.sizes["bin"]
    titles = {"truth": "True moistening", "bias": "Bias of moistening"}
    for k, (ax, (kind, title)) in enumerate(zip(axes, titles.items(), strict=True)):
        values = factor * np.asarray(data[f"moistening_{kind}"].values, np.float64).T
        norm = centred(values)
        mesh = ax.pcolormesh(
            np.arange(bins + 1), sigma_edges(sigma), np.ma.masked_invalid(values), cmap="BrBG", norm=norm
        )
        ax.grid(False)
        ax.set_facecolor("#e6e8eb")
        ax.axvline(1.0, color=CONTROL, linewidth=1.2)
        ax.set_xticks([0.5, *range(1, bins + 1, 2)], ["no\nrain", *(f"{10 * n}" for n in range(0, bins, 2))])
        ax.set_xlabel("percentile of rain")
        ax.set_title(title)
        sigma_axis(ax, label=False)
        _label_first(ax, k, 1 if narrow else 2)
        colour_bar(figure, mesh, ax, units, extend_of(values, norm))
    return figure


@styled
def confidence(data: xr.Dataset, narrow: bool = False) -> Figure:
    """Zonal mean of what a network says of its own errors."""
    names = [str(name) for name in data if str(name).startswith("confidence_")][:MOST]
    across = min(3, len(names))
    figure, axes = panels(len(names), across, 3.3, narrow, 2.9, width=WIDE if len(names) > 2 else MEDIUM)
    for k, (ax, name) in enumerate(zip(axes, names, strict=True)):
        values = np.asarray(data[name].values, np.float64).T
        finite = values[np.isfinite(values)]
        norm = Normalize(float(finite.min(initial=0.0)), float(finite.max(initial=0.0)) or 1.0)
        mesh = section(ax, data["latitude"].values, data["sigma"].values, values, "cividis", norm)
        ax.set_title(heading(data[name].attrs))
        colour_bar(figure, mesh, ax, "confidence")
        _label_first(ax, k, 1 if narrow else across)
    return figure
