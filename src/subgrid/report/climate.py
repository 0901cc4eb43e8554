"""Figures of a coupled run's climate: distances, rain by place and kind, moistening, spectra, what left training."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from subgrid.hosts.diagnostics import OUTSIDE
from subgrid.report.online import days_of, of_source, rain_shares
from subgrid.report.style import (
    EMULATOR,
    LOOKS,
    centred,
    colour_bar,
    extend_of,
    largest,
    latitude_ticks,
    legend_above,
    panels,
    sigma_axis,
    sigma_edges,
    styled,
)

#: Fields whose distances are drawn: title, factor, units.
FIELDS = {
    "temperature": ("Temperature", 1.0, "K"),
    "specific_humidity": ("Specific humidity", 1e3, "g/kg"),
    "u_wind": ("Eastward wind", 1.0, "m/s"),
    "v_wind": ("Northward wind", 1.0, "m/s"),
    "x": ("Slow variables", 1.0, "1"),
}
#: Spectra: title, units.
SPECTRA = {"temperature": ("Temperature, σ ≈ 0.5", "K²"), "u_wind": ("Eastward wind, σ ≈ 0.25", "m²/s²")}
#: Ticks of wavenumbers.
WAVENUMBERS = (1, 2, 3, 5, 10, 20, 30)
#: Lines of inputs that left training.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#332288")
PER_DAY = 86400.0


def held(comparison: xr.Dataset, prefix: str) -> list[str]:
    """Fields of :data:`FIELDS` that the comparison has ``prefix`` of."""
    return [name for name in FIELDS if f"{prefix}_{name}" in comparison]


@styled
def distances(comparison: xr.Dataset, narrow: bool = False) -> Figure:
    """RMSE between the means of run and control, by level."""
    names = held(comparison, "profile_rmse")
    figure, axes = panels(len(names), 4, 3.2, narrow, 2.6)
    sigma = np.asarray(comparison["sigma"].values, np.float64)
    for k, (ax, name) in enumerate(zip(axes, names, strict=True)):
        title, factor, units = FIELDS[name]
        ax.plot(factor * comparison[f"profile_rmse_{name}"].values, sigma, "o-", color=EMULATOR, markersize=4)
        ax.set_title(title)
        ax.set_xlabel(f"RMSE of the means ({units})")
        ax.set_xlim(left=0.0)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        sigma_axis(ax)
        if k and not narrow:
            ax.set_ylabel("")
    return figure


@styled
def months(comparison: xr.Dataset, narrow: bool = False) -> Figure:
    """RMSE between monthly means, whole column, month by month."""
    names = held(comparison, "month_rmse")
    figure, axes = panels(len(names), 4, 2.6, narrow, 2.3)
    at = np.arange(1, comparison.sizes["month"] + 1)
    for ax, name in zip(axes, names, strict=True):
        title, factor, units = FIELDS[name]
        ax.plot(at, factor * comparison[f"month_rmse_{name}"].values, "o-", color=EMULATOR, markersize=4)
        ax.set_title(title)
        ax.set_xlabel("month")
        ax.set_ylabel(f"RMSE ({units})")
        ax.set_ylim(bottom=0.0)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure


@styled
def rain_by_latitude(comparison: xr.Dataset, narrow: bool = False) -> Figure:
    """Zonal-mean precipitation of run and control."""
    figure, (ax,) = panels(1, 1, 3.0, narrow, 2.6)
    for source in ("control", "emulator"):
        ax.plot(comparison["latitude"].values, of_source(comparison, "zonal_precipitation", source), **LOOKS[source])
    latitude_ticks(ax)
    ax.set_ylim(bottom=0.0)
    ax.set_ylabel("precipitation (mm/day)")
    legend_above(figure, ax, 1 if narrow else 2)
    return figure


@styled
def rain_by_surface(comparison: xr.Dataset, narrow: bool = False) -> Figure:
    """How often each daily amount falls, on land and on sea."""
    surfaces = [str(s) for s in comparison["surface"].values if str(s) != "globe"]
    figure, axes = panels(len(surfaces), 2, 3.0, narrow, 2.5)
    left = np.asarray(comparison["bin_left"].values, np.float64)
    edges = np.append(left, left[-1] + (left[-1] - left[-2]))
    for ax, surface in zip(axes, surfaces, strict=True):
        for source in ("control", "emulator"):
            density = rain_shares(comparison, source, surface) / np.diff(edges)
            ax.stairs(np.where(density > 0, density, np.nan), edges, baseline=None, linewidth=1.8, **_solid(source))
        ax.set_yscale("log")
        ax.set_xlim(left=0.0)
        ax.set_title(surface.capitalize())
        ax.set_xlabel("daily precipitation (mm/day)")
        ax.set_ylabel("share per mm/day")
    legend_above(figure, axes[0], 1 if narrow else 2)
    return figure


def _solid(source: str) -> dict[str, Any]:
    return {key: LOOKS[source][key] for key in ("color", "label")}


@styled
def moistening(comparison: xr.Dataset, narrow: bool = False) -> Figure:
    """Moistening by the column physics where it rains so much: the control, and the run minus the control."""
    figure, axes = panels(2, 2, 3.4, narrow, 3.0)
    factor = 1e3 * PER_DAY
    found = {s: factor * of_source(comparison, "moistening_by_rain", s).T for s in ("control", "emulator")}
    sigma = np.asarray(comparison["sigma"].values, np.float64)
    drawn = (("Control", found["control"], "BrBG"), ("Difference", found["emulator"] - found["control"], "BrBG"))
    for ax, (title, values, colours) in zip(axes, drawn, strict=True):
        norm = centred(values)
        bins = np.arange(values.shape[1] + 1) - 0.5
        mesh = ax.pcolormesh(bins, sigma_edges(sigma), np.ma.masked_invalid(values), cmap=colours, norm=norm)
        ax.set_xticks(range(values.shape[1]), ["dry", *(str(k) for k in range(1, values.shape[1]))])
        ax.grid(False)
        ax.set_title(title)
        ax.set_xlabel("tenth of the rainy area, by daily rain")
        sigma_axis(ax, label=False)
        what = "moistening" if title == "Control" else "emulator − control"
        colour_bar(figure, mesh, ax, f"{what} (g/kg/day)", extend_of(values, norm))
    return figure


@styled
def spectra(comparison: xr.Dataset, narrow: bool = False) -> Figure:
    """Variance by zonal wavenumber."""
    names = [name for name in SPECTRA if f"spectrum_{name}" in comparison]
    figure, axes = panels(len(names), 2, 3.0, narrow, 2.6)
    for ax, name in zip(axes, names, strict=True):
        title, units = SPECTRA[name]
        for source in ("control", "emulator"):
            values = of_source(comparison, f"spectrum_{name}", source)[1:]
            ax.plot(np.arange(1, values.size + 1), values, **LOOKS[source])
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks(WAVENUMBERS, [str(k) for k in WAVENUMBERS])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlim(1, values.size)
        floor = largest(of_source(comparison, f"spectrum_{name}", "control")[1:], 1.0) * 1e-6
        ax.set_ylim(bottom=max(ax.get_ylim()[0], floor))
        ax.set_title(title)
        ax.set_xlabel("zonal wavenumber")
        ax.set_ylabel(f"variance ({units})")
    legend_above(figure, axes[0], 1 if narrow else 2)
    return figure


def furthest(comparison: xr.Dataset, count: int = len(COLOURS)) -> list[tuple[str, NDArray[np.float64]]]:
    """Inputs that went furthest beyond their training range, with their distances by day, the furthest first."""
    lines = []
    for name in comparison:
        if str(name).startswith(f"{OUTSIDE}_"):
            values = np.asarray(comparison[name].values, np.float64)
            label = str(name).removeprefix(f"{OUTSIDE}_").replace("_", " ")
            if values.ndim == 1:
                lines.append((label, values))
            else:
                sigma = comparison["sigma"].values
                lines += [(f"{label}, σ = {sigma[k]:.2f}", values[:, k]) for k in range(values.shape[1])]
    lines = [(label, values) for label, values in lines if np.nanmax(values, initial=0.0) > 0]
    return sorted(lines, key=lambda one: -float(np.nanmax(one[1])))[:count]


@styled
def outside(comparison: xr.Dataset, narrow: bool = False) -> Figure:
    """Distance of inputs to their training range by day, those that went furthest."""
    figure, (ax,) = panels(1, 1, 3.2, narrow, 3.0)
    for (label, values), colour in zip(furthest(comparison), COLOURS, strict=False):
        ax.plot(days_of(comparison), np.where(values > 0, values, np.nan), color=colour, label=label)
    ax.set_yscale("log")
    ax.set_xlim(0, comparison.sizes["time"])
    ax.set_xlabel("day")
    ax.set_ylabel("distance (training spreads)")
    legend_above(figure, ax, 1 if narrow else 3)
    return figure
