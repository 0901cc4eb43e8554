"""The page and figures of the stability study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from subgrid.hosts.climate import open_climate
from subgrid.report.document import write_document

#: Figure of merit: key in the metrics, axis label, value of a perfect run, required band over days 60-90.
MERITS = (
    ("mid_troposphere_temperature_difference_K", "mid-troposphere temperature\nminus control (K)", 0.0, 1.0),
    ("lowest_level_humidity_ratio", "lowest-level humidity\n/ control", 1.0, 0.05),
    ("precipitation_ratio", "precipitation\n/ control", 1.0, 0.12),
)
YEAR_BANDS = {MERITS[0][0]: 1.5, MERITS[1][0]: 0.05, MERITS[2][0]: 0.15}
SERIES = (
    ("temperature_mid", "T at σ 0.51 minus control (K)", "difference"),
    ("humidity_lowest", "lowest-level humidity / control", "ratio"),
    ("precipitation", "precipitation / control", "ratio"),
)
SHOWN = {
    "design-s0": ("#0072B2", "-"),
    "climate": ("#56B4E9", "-"),
    "noise-free": ("#E69F00", "-"),
    "unet": ("#009E73", "-"),
    "raw-tight-condense": ("#D55E00", "-"),
    "raw-free": ("#D55E00", "--"),
}


def whole_periods(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The 30-day means of a run, without a last one of less than half that length."""
    return [p for p in row["periods"] if p["last_day"] - p["first_day"] >= 15]


def late(row: dict[str, Any]) -> dict[str, float] | None:
    """The verdict over days 60-90 of a run, or None if it did not last that long."""
    periods = [p for p in row["periods"] or [] if p["first_day"] == 60]
    return periods[0] if periods and row["days"] >= 90 else None


def ablation_figure(rows: list[dict[str, Any]]) -> Figure:
    """Days 60-90 of every run: one row each, one panel per figure of merit, the required band shaded."""
    figure = Figure(figsize=(11, 0.42 * len(rows) + 1.6), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    limits = (4.0, 0.25, 0.5)
    for axis, (key, label, perfect, band), limit in zip(axes, MERITS, limits, strict=True):
        axis.axvspan(perfect - band, perfect + band, color="#cfe8cf", lw=0)
        axis.axvline(perfect, color="0.3", lw=1)
        for y, row in enumerate(rows):
            found = late(row)
            if found is None:
                axis.text(
                    perfect,
                    y,
                    f"unstable, day {row['first_unstable_day']}",
                    ha="center",
                    va="center",
                    color="#b00020",
                    fontsize=9,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
                )
                continue
            value = float(np.clip(found[key], perfect - limit, perfect + limit))
            beyond = value != found[key]
            colour = "#0072B2" if row["name"].startswith("design") else "0.35"
            axis.plot(value, y, "<>"[int(value > perfect)] if beyond else "o", color=colour, ms=7)
        axis.set_xlabel(label)
        axis.set_xlim(perfect - limit * 1.08, perfect + limit * 1.08)
        axis.grid(axis="x", color="0.9")
        axis.set_axisbelow(True)
    axes[0].set_yticks(range(len(rows)), [row["text"] for row in rows])
    axes[0].invert_yaxis()
    return figure


def _smooth(values: np.ndarray, days: int = 5) -> np.ndarray:
    return np.convolve(values, np.ones(days) / days, mode="valid")


def series_figure(folders: dict[str, Path], rows: list[dict[str, Any]]) -> Figure:
    """Global means against the control, five-day means over the first 90 days, for the runs that tell the story."""
    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    limits = ((-2.5, 6.0), (0.9, 1.15), (0.8, 2.2))
    texts = {row["name"]: row["text"] for row in rows}
    for name, (colour, dash) in SHOWN.items():
        if name not in folders or not (folders[name] / "comparison").exists():
            continue
        target = folders[name] / "comparison"
        data = open_climate(target).isel(time=slice(0, 90))
        for axis, (key, label, kind), limit in zip(axes, SERIES, limits, strict=True):
            emulator, control = data[f"series_{key}"].values
            values = emulator - control if kind == "difference" else emulator / control
            if len(values) < 5:
                continue
            smooth = _smooth(values)
            axis.plot(np.arange(len(smooth)) + 2.5, smooth, dash, color=colour, lw=1.8, label=texts[name])
            axis.set_ylabel(label)
            axis.set_ylim(*limit)
    for axis, (_, _, perfect, band) in zip(axes, MERITS, strict=True):
        axis.axhspan(perfect - band, perfect + band, color="#e6f2e6", lw=0, zorder=0)
        axis.axhline(perfect, color="0.3", lw=0.8)
    axes[-1].set_xlabel("day of the coupled run")
    axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, 1.45), ncols=2, frameon=False, fontsize=9)
    return figure


def year_figure(row: dict[str, Any]) -> Figure:
    """The year run in 30-day means, with the bands that are required."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots(1, 3)
    periods = whole_periods(row)
    days = [0.5 * (p["first_day"] + p["last_day"]) for p in periods]
    for axis, (key, label, perfect, _) in zip(axes, MERITS, strict=True):
        band = YEAR_BANDS[key]
        axis.axhspan(perfect - band, perfect + band, color="#e6f2e6", lw=0)
        axis.axhline(perfect, color="0.3", lw=0.8)
        axis.plot(days, [p[key] for p in periods], "o-", color="#0072B2", lw=1.8)
        axis.set_ylabel(label)
        axis.set_xlabel("day")
        axis.set_ylim(perfect - 1.25 * band, perfect + 1.25 * band)
    return figure


def _table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| run | R² dT | R² dq | finite days | T (K) | humidity | precipitation | inputs clipped | outputs clipped | "
        "energy residual (W/m²) | water residual (W/m²) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        found = late(row)
        r2 = row["r2"]
        counters = row["counters"] or {}
        figures = (
            [f"{found[MERITS[0][0]]:+.2f}", f"{found[MERITS[1][0]]:.3f}", f"{found[MERITS[2][0]]:.3f}"]
            if found
            else ["–"] * 3
        )
        clipped = [
            f"{100 * counters[k]:.3f} %" if k in counters else "–" for k in ("inputs_clipped", "outputs_clipped")
        ]
        residuals = [
            f"{row[key]['emulator']:+.2f}".replace("-0.00", "+0.00") if row.get(key) else "–"
            for key in ("energy_residual_W_m2", "water_residual_W_m2")
        ]
        days = str(row["days"]) if row["finite"] else f"**{row['days']}, then unstable**"
        lines.append(
            f"| {row['text']} | {r2['temperature_tendency']:.3f} | {r2['specific_humidity_tendency']:.3f} | {days} | "
            + " | ".join([*figures, *clipped, *residuals])
            + " |"
        )
    return lines


def _departures(rows: list[dict[str, Any]]) -> list[str]:
    lines = []
    for row in rows:
        gone = row["unstable"]
        if not gone:
            continue
        where = (
            f": {gone['variable']} {gone['value'] if isinstance(gone['value'], str) else format(gone['value'], '.4g')} "
            f"at level {gone['level']} (σ {gone['sigma']}), {gone['latitude']}° N {gone['longitude']}° E"
            if "variable" in gone
            else f": {gone['reason']}"
        )
        lines.append(f"- *{row['text']}* left the bounds on {gone['time'][:16].replace('T', ' ')}{where}.")
    return lines or ["- No run left the bounds."]


def _year_line(row: dict[str, Any]) -> str:
    periods = whole_periods(row)
    temperature = max((p[MERITS[0][0]] for p in periods), key=abs)
    humidity = max((p[MERITS[1][0]] - 1 for p in periods), key=abs)
    rain = [p[MERITS[2][0]] - 1 for p in periods]
    return (
        f"Over {row['days']} days the 30-day means stay within {abs(temperature):.2f} K (mid-troposphere), "
        f"{100 * abs(humidity):.1f} % (lowest-level humidity) and {100 * min(rain):+.1f} to {100 * max(rain):+.1f} % "
        "(precipitation) of the control."
    )


def _zonal_line(folder: Path) -> str:
    """Where the zonal-mean temperature of the last third departs most from the control."""
    data = open_climate(folder / "comparison")
    emulator, control = data["zonal_temperature"].values
    departure = emulator - control
    level, row = np.unravel_index(int(np.nanargmax(np.abs(departure))), departure.shape)
    latitude = float(data["latitude"][row])
    return (
        f"Over its last third the zonal-mean temperature departs most by {departure[level, row]:+.1f} K, at "
        f"σ {float(data['sigma'][level]):.2f} and {abs(latitude):.0f}° {'N' if latitude > 0 else 'S'}."
    )


def _control_residuals(row: dict[str, Any]) -> str:
    energy, water = (row[f"{name}_residual_W_m2"]["control"] for name in ("energy", "water"))
    return f"{energy:+.2f} and {water:+.2f} W/m²"


def _rollout_line(found: dict[str, Any] | None) -> str:
    if found is None:
        return "some steps (not run yet)."
    return (
        f"{found['steps']} coupled steps, beside its usual loss ({found['iterations']} iterations, "
        f"{found['seconds'] / 60:.0f} min with the host's trajectories). The squared error of the coupled state, in "
        f"units of what physics changes meanwhile, goes from {found['first']:.3f} to {found['last']:.3f}."
    )


def stability_page(results: dict[str, Any], folders: dict[str, Path], docs: Path) -> Path:
    """Write ``stability.md`` and its figures below ``docs``; every figure in it comes from the runs.

    Args:
        results: ``rows`` with the metrics of each coupled run, and ``start``.
        folders: the coupled run of each row.
        docs: where to write.
    """
    rows = results["rows"]
    figures = {
        "ablation": ablation_figure(rows),
        "series": series_figure(folders, rows),
        "year": year_figure(rows[0]),
    }
    filled = {
        "START": results["start"],
        "TABLE": _table(rows),
        "DEPARTURES": _departures(rows),
        "YEAR": _year_line(rows[0]),
        "LONG": [
            f"- *{row['text']}*: {_year_line(row)} {_zonal_line(folders[row['name']])}"
            for row in rows
            if row["days"] > 180
        ],
        "CONTROL": _control_residuals(rows[0]),
        "ROLLOUT": _rollout_line(results.get("rollout")),
    }
    return write_document(docs, "stability", filled, figures)
