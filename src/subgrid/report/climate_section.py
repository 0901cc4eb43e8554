"""What the page says of a coupled run's climate, of its inputs, and of a shadow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from subgrid.report import climate
from subgrid.report.blocks import Drawing, Table, drawing
from subgrid.report.words import fixed, short

Record = Mapping[str, Any]
#: Rows of a table of regions: title, units, digits.
REGIONAL = {
    "temperature_lowest": ("Temperature, lowest level", "K", 2),
    "column_water_vapour": ("Column water vapour", "kg/m²", 2),
    "precipitation": ("Precipitation", "mm/day", 3),
}
#: Inputs that a table of what left training names.
SHOWN = 8


def climate_drawings(data: xr.Dataset, window: str) -> list[Drawing | Table]:
    """Figures and tables of the climate, of what the comparison has."""
    found: list[Drawing | Table] = []
    regions = region_table(data, window)
    if regions is not None:
        found.append(regions)
    if climate.held(data, "profile_rmse"):
        caption = (
            f"Distance of the climates: RMSE between the means of the last {window} days, by level; two runs of the "
            "host itself are not at zero either."
        )
        alt = "RMSE between the means of emulator and control by level"
        found.append(drawing("distances", alt, caption, lambda n: climate.distances(data, narrow=n)))
    if data.sizes.get("month", 0) > 1:
        caption = "RMSE between monthly means, whole column by mass and area: a run that drifts rises."
        alt = "RMSE between monthly means by month"
        found.append(drawing("months", alt, caption, lambda n: climate.months(data, narrow=n)))
    if "zonal_precipitation" in data:
        caption = f"Zonal-mean precipitation of the last {window} days."
        alt = "Zonal-mean precipitation of emulator and control"
        found.append(drawing("rain-latitude", alt, caption, lambda n: climate.rain_by_latitude(data, narrow=n)))
    if data.sizes.get("surface", 0) > 1:
        caption = "How often each daily amount of rain falls on land and on sea (logarithmic)."
        alt = "Histograms of daily precipitation on land and on sea"
        found.append(drawing("rain-surface", alt, caption, lambda n: climate.rain_by_surface(data, narrow=n)))
    if "moistening_by_rain" in data:
        caption = (
            "Moistening by the column physics where it does not rain and in tenths of the rainy area from the lightest "
            "to the heaviest rain of the control; the difference is centred at zero."
        )
        alt = "Moistening by level and daily rain"
        found.append(drawing("moistening", alt, caption, lambda n: climate.moistening(data, narrow=n)))
    if any(f"spectrum_{name}" in data for name in climate.SPECTRA):
        caption = (
            "Variance along latitude circles by wavenumber, mean over days and area: an emulator that blurs loses "
            "variance at high wavenumbers, one that is noisy gains some."
        )
        alt = "Variance spectra of emulator and control"
        found.append(drawing("spectra", alt, caption, lambda n: climate.spectra(data, narrow=n)))
    if climate.furthest(data):
        caption = (
            "How far inputs were beyond the range of the training columns, mean over the globe in training spreads "
            "(logarithmic): those that went furthest."
        )
        alt = "Distance of inputs to their training range by day"
        found.append(drawing("outside", alt, caption, lambda n: climate.outside(data, narrow=n)))
    return found


def region_table(data: xr.Dataset, window: str) -> Table | None:
    """Means and standard deviations from day to day by region, emulator beside control."""
    rows = []
    for name, (title, units, digits) in REGIONAL.items():
        if f"region_{name}" not in data:
            continue
        values = np.asarray(data[f"region_{name}"].values, np.float64)
        for k, region in enumerate(data["region"].values):
            if np.isfinite(values[:, k]).all():
                cells = [f"{fixed(v[0], digits)} ± {fixed(v[1], digits)}" for v in values[:, k]]
                rows.append([f"{title} ({units}), {region}", *cells])
    caption = f"Area means of the last {window} days and their standard deviations from day to day."
    return Table(caption, ["Quantity and region", "Emulator", "Control"], rows) if rows else None


def left_table(metrics: Record) -> Table | None:
    """Which inputs left the training range first."""
    left = metrics.get("left_training") or []
    rows = [
        [
            one["input"].replace("_", " ") + ("" if one["level"] is None else f", level {one['level']}"),
            str(one["day"] + 1),
            short(one["distance"], 2),
        ]
        for one in left[:SHOWN]
    ]
    caption = (
        "Inputs that left the range of the training columns (by more than 0.01 training spreads in the mean over the "
        f"globe and a day), the first of them first{f'; {len(left)} in all' if len(left) > SHOWN else ''}."
    )
    return Table(caption, ["Input", "Day", "Largest distance"], rows) if rows else None


def shadow_table(metrics: Record) -> Table | None:
    """Skill of a shadow along the host's own trajectory."""
    rows = [
        [name.replace("_", " "), fixed(one["r2"]), short(one["bias"], 2)]
        for name, one in (metrics.get("shadow") or {}).items()
    ]
    caption = "Skill along the host's own trajectory, on which the emulator did not act: R² over all days and columns."
    return Table(caption, ["Target", "R²", "Mean error (SI)"], rows) if rows else None
