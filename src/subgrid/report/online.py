"""Figures of a coupled run beside its control."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from subgrid.report.geography import Land, draw_map
from subgrid.report.style import (
    CONTROL,
    EMULATOR,
    LOOKS,
    MEDIUM,
    RIDGE,
    ROUND,
    centred,
    colour_bar,
    extend_of,
    few_ticks,
    largest,
    legend_above,
    panels,
    section,
    sigma_edges,
    styled,
)

#: Series of the comparison: title, units.
SERIES = {
    "temperature_mid": ("Temperature, σ ≈ 0.5", "K"),
    "temperature_lowest": ("Temperature, lowest level", "K"),
    "humidity_lowest": ("Humidity, lowest level", "g/kg"),
    "precipitation": ("Precipitation", "mm/day"),
    "outgoing_longwave": ("Outgoing longwave", "W/m²"),
    "column_water_vapour": ("Column water vapour", "kg/m²"),
}
#: Zonal means: title, factor, units, colours.
ZONAL = {
    "temperature": ("Temperature", 1.0, "K", "RdBu_r"),
    "specific_humidity": ("Specific humidity", 1e3, "g/kg", "BrBG"),
    "u_wind": ("Eastward wind", 1.0, "m/s", "PuOr_r"),
    "temperature_tendency": ("Heating by column physics", 86400.0, "K/day", "RdBu_r"),
    "specific_humidity_tendency": ("Moistening by column physics", 8.64e7, "g/kg/day", "BrBG"),
}
#: Colours of levels, from the top down.
LEVELS = ("#332288", "#44aa99", "#999933")
PARTS = {
    "dynamics": ("#69717b", "dynamics"),
    "own_physics": (CONTROL, "own physics"),
    "network": (EMULATOR, "network"),
    "coupling": ("#f0b27a", "coupling"),
}


def days_of(comparison: xr.Dataset) -> NDArray[np.float64]:
    """Middle of each day since the start of the run."""
    return np.arange(comparison.sizes["time"], dtype=np.float64) + 0.5


def first_date(comparison: xr.Dataset) -> str:
    """The date on which the run starts, if its times are dates."""
    time = comparison["time"].values
    return str(time[0].astype("datetime64[D]")) if np.issubdtype(time.dtype, np.datetime64) else ""


def of_source(comparison: xr.Dataset, name: str, source: str) -> NDArray[np.float64]:
    """The values of ``name`` for the emulator or the control."""
    sources = [str(s) for s in comparison["source"].values]
    return np.asarray(comparison[name].values[sources.index(source)], np.float64)


def rain_shares(comparison: xr.Dataset, source: str, surface: str = "globe") -> NDArray[np.float64]:
    """Share of area and days in each bin of daily precipitation."""
    surfaces = [str(s) for s in comparison["surface"].values]
    return of_source(comparison, "histogram_precipitation", source)[surfaces.index(surface)]


def _time_axis(ax: Axes, comparison: xr.Dataset, labelled: bool = True) -> None:
    start = first_date(comparison)
    few_ticks(ax)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.set_xlim(0, comparison.sizes["time"])
    ax.set_xlabel((f"days since {start}" if start else "day") if labelled else "")


def _shade_window(ax: Axes, comparison: xr.Dataset) -> None:
    days = comparison.sizes["time"]
    first = days - int(comparison.attrs.get("window_days", max(1, days // 3)))
    ax.axvspan(first, days, color="#eef1f4", zorder=0)


def _both(ax: Axes, comparison: xr.Dataset, name: str) -> None:
    marker: dict[str, Any] = {"marker": "o", "markersize": 4} if comparison.sizes["time"] < 8 else {}
    for source in ("control", "emulator"):
        ax.plot(days_of(comparison), of_source(comparison, name, source), **LOOKS[source], **marker)


@styled
def global_series(comparison: xr.Dataset, narrow: bool = False) -> Figure:
    """Global means of each day, emulator and control; the days behind the verdict are shaded."""
    names = [n for n in SERIES if f"series_{n}" in comparison]
    figure, axes = panels(len(names), 3, 2.3, narrow, narrow_height=2.1)
    across = 1 if narrow else 3
    for k, (ax, name) in enumerate(zip(axes, names, strict=True)):
        title, units = SERIES[name]
        _shade_window(ax, comparison)
        _both(ax, comparison, f"series_{name}")
        ax.set_title(title)
        ax.set_ylabel(units)
        ax.yaxis.get_major_formatter().set_useOffset(False)  # type: ignore[attr-defined]
        _time_axis(ax, comparison, labelled=k + across >= len(names))
    legend_above(figure, axes[0], 2)
    return figure


@styled
def zonal_bias(comparison: xr.Dataset, narrow: bool = False) -> Figure:
    """Latitude-sigma sections of the coupled run minus the control, with the control as contours."""
    names = [n for n in ZONAL if f"zonal_{n}" in comparison]
    figure, axes = panels(len(names), 3, 3.5, narrow, narrow_height=3.1)
    latitude, sigma = comparison["latitude"].values, comparison["sigma"].values
    for k, (ax, name) in enumerate(zip(axes, names, strict=True)):
        title, factor, units, colours = ZONAL[name]
        control = factor * of_source(comparison, f"zonal_{name}", "control")
        bias = factor * of_source(comparison, f"zonal_{name}", "emulator") - control
        norm = centred(bias)
        mesh = section(ax, latitude, sigma, bias, colours, norm)
        if sigma.size > 1 and latitude.size > 1 and np.isfinite(control).all():
            marks = np.asarray(MaxNLocator(7, steps=ROUND).tick_values(control.min(), control.max()))
            marks = marks[(marks > 0) | (control.min() < 0.1 * marks.min())]
            lines = ax.contour(latitude, sigma, control, levels=marks, colors=CONTROL, linewidths=0.7)
            ax.clabel(lines, fontsize=8, fmt="%g", inline_spacing=2)
        ax.set_title(title)
        if not narrow and k:
            ax.set_ylabel("")
        colour_bar(figure, mesh, ax, f"emulator − control ({units})", extend_of(bias, norm))
    return figure


def chosen_levels(sigma: NDArray[np.float64]) -> list[int]:
    """One level in the upper, middle and lower troposphere."""
    picked = [int(np.abs(sigma - target).argmin()) for target in (0.2, 0.5, 0.95)]
    return sorted(set(picked))


def column_rmse(values: NDArray[np.float64], sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root of the mass-weighted mean square over levels, (time, level) to (time,)."""
    mass = np.diff(sigma_edges(sigma))
    return np.asarray(np.sqrt((values**2) @ (mass / mass.sum())))


@styled
def rmse_series(comparison: xr.Dataset, narrow: bool = False) -> Figure:
    """RMSE of each day against the control: whole column and three levels, temperature and eastward wind."""
    names = [n for n in ("temperature", "u_wind") if f"rmse_{n}" in comparison]
    figure, axes = panels(len(names), 2, 2.9, narrow, narrow_height=2.4)
    sigma, days = np.asarray(comparison["sigma"].values, np.float64), days_of(comparison)
    for k, (ax, name) in enumerate(zip(axes, names, strict=True)):
        title, _, units, _ = ZONAL[name]
        values = np.asarray(comparison[f"rmse_{name}"].values, np.float64)
        for level, colour in zip(chosen_levels(sigma), LEVELS, strict=False):
            ax.plot(days, values[:, level], color=colour, linewidth=1.2, label=f"σ = {sigma[level]:.2f}")
        ax.plot(days, column_rmse(values, sigma), color=EMULATOR, linewidth=2.4, label="whole column")
        ax.set_title(title)
        ax.set_ylabel(f"RMSE ({units})")
        ax.set_ylim(bottom=0.0)
        _time_axis(ax, comparison, labelled=not narrow or k + 1 == len(names))
    legend_above(figure, axes[0], 2 if narrow else 4)
    return figure


@styled
def precipitation_maps(comparison: xr.Dataset, land: Land | None = None, narrow: bool = False) -> Figure:
    """Mean precipitation of emulator and control on one colour scale, and their difference."""
    figure, axes = panels(3, 3, 2.7, narrow, narrow_height=2.35)
    place = comparison["column_latitude"].values, comparison["column_longitude"].values
    found = {s: of_source(comparison, "map_precipitation", s) for s in ("emulator", "control")}
    both = np.concatenate(list(found.values()))
    norm = Normalize(0.0, largest(both))
    for ax, (source, values) in zip(axes, found.items(), strict=False):
        mesh = draw_map(ax, *place, values, "YlGnBu", norm, land)
        ax.set_title(source.capitalize())
    if narrow:
        colour_bar(figure, mesh, axes[1], "mm/day, both maps", extend_of(both, norm))
    else:
        colour_bar(figure, mesh, axes[:2], "precipitation (mm/day)", extend_of(both, norm))
    difference = found["emulator"] - found["control"]
    norm = centred(difference)
    mesh = draw_map(axes[2], *place, difference, "BrBG", norm, land)
    axes[2].set_title("Difference")
    colour_bar(figure, mesh, axes[2], "emulator − control (mm/day)", extend_of(difference, norm))
    for k, ax in enumerate(axes):
        if not narrow and k:
            ax.set_ylabel("")
        if narrow and k < 2:
            ax.set_xlabel("")
    return figure


@styled
def precipitation_histogram(comparison: xr.Dataset, narrow: bool = False) -> Figure:
    """Daily precipitation: shares of little rain, and the density of every amount on a logarithmic axis."""
    figure, axes = panels(2, 2, 3.2, narrow, 2.6, ratios=[1.0, 1.9])
    left = np.asarray(comparison["bin_left"].values, np.float64)
    edges = np.append(left, left[-1] + (left[-1] - left[-2]))
    shares = {s: rain_shares(comparison, s) for s in ("control", "emulator")}
    _light_rain(axes[0], edges, shares)
    held = np.flatnonzero(np.sum(list(shares.values()), axis=0) > 0)
    stop = int(held[-1]) + 1 if held.size else len(left)
    ax = axes[1]
    for source, share in shares.items():
        density = share / np.diff(edges)
        drawn = np.where(density > 0, density, np.nan)[:stop]
        ax.stairs(drawn, edges[: stop + 1], baseline=None, linewidth=1.8, **_line(source))
    ax.set_yscale("log")
    ax.set_xlim(0, edges[stop])
    ax.set_title("All amounts")
    ax.set_xlabel("daily precipitation (mm/day)")
    ax.set_ylabel("share per mm/day")
    legend_above(figure, axes[0], 1 if narrow else 2)
    return figure


def _light_rain(ax: Axes, edges: NDArray[np.float64], shares: Mapping[str, NDArray[np.float64]]) -> None:
    """Bars of the share of each bin below 2 mm/day, and of all above."""
    light = int(np.searchsorted(edges, 2.0))
    names = [f"{a:g}–{b:g}" for a, b in pairwise(edges[: light + 1])]
    at = np.arange(light + 1)
    for k, (source, share) in enumerate(shares.items()):
        heights = 100 * np.append(share[:light], share[light:].sum())
        ax.bar(at + 0.4 * k - 0.2, heights, width=0.38, **_line(source))
    ax.set_xticks(at, [*names, f"> {edges[light]:g}"])
    ax.grid(False, axis="x")
    ax.set_title("Dry to light")
    ax.set_xlabel("daily precipitation (mm/day)")
    ax.set_ylabel("share of area and days (%)")


def _line(source: str) -> dict[str, Any]:
    return {"color": LOOKS[source]["color"], "label": LOOKS[source]["label"]}


@styled
def budget_series(comparison: xr.Dataset, narrow: bool = False) -> Figure:
    """What the column physics creates of energy and water each day, global mean."""
    titles = {"energy_residual": "Energy residual", "water_residual": "Water residual (as latent heat)"}
    names = [n for n in titles if f"budget_{n}" in comparison]
    figure, axes = panels(len(names), 2, 2.7, narrow, narrow_height=2.3)
    for k, (ax, name) in enumerate(zip(axes, names, strict=True)):
        ax.axhline(0.0, color=RIDGE, linewidth=1.0)
        _both(ax, comparison, f"budget_{name}")
        ax.set_title(titles[name])
        ax.set_ylabel("W/m²")
        _time_axis(ax, comparison, labelled=not narrow or k + 1 == len(names))
    legend_above(figure, axes[0], 1 if narrow else 2)
    return figure


@styled
def step_cost(step_ms: Mapping[str, float], narrow: bool = False) -> Figure:
    """Milliseconds of one host step by part: with the host's own physics, and with the emulator."""
    dynamics = float(step_ms["dynamics"])
    bars = {
        "own physics": {"dynamics": dynamics, "own_physics": float(step_ms["own_physics"]) - dynamics},
        "emulator": {
            "dynamics": dynamics,
            "network": float(step_ms["network"]),
            "coupling": float(step_ms["coupling"]),
        },
    }
    figure, (ax,) = panels(1, 1, 2.3, narrow, 2.5, width=MEDIUM)
    widest = max(sum(max(v, 0.0) for v in parts.values()) for parts in bars.values())
    named: set[str] = set()
    for row, parts in enumerate(bars.values()):
        left = 0.0
        for part, value in parts.items():
            colour, label = PARTS[part]
            shown = max(value, 0.0)
            legend = label if part not in named else "_"
            ax.barh(row, shown, left=left, color=colour, height=0.55, label=legend, edgecolor="white")
            if shown > 0.09 * widest:
                ink = CONTROL if part == "coupling" else "white"
                ax.text(left + shown / 2, row, f"{value:.3g}", ha="center", va="center", color=ink)
            left += shown
            named.add(part)
        total = float(step_ms["own_physics" if row == 0 else "coupled"])
        ax.text(left + 0.012 * widest, row, f"{total:.3g} ms", va="center", fontweight="bold")
    ax.set_yticks([0, 1], ["own\nphysics", "emulator"] if narrow else ["host with own physics", "host with emulator"])
    ax.invert_yaxis()
    ax.set_xlim(0, widest * (1.28 if narrow else 1.12))
    ax.grid(False, axis="y")
    ax.set_xlabel("milliseconds per step")
    ax.set_ylabel("physics")
    figure.legend(loc="outside upper left", ncols=2 if narrow else 4)
    return figure
