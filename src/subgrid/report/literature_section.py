"""The section of the literature's scores: the run beside published networks, and what they leave out."""

from __future__ import annotations

from typing import Any

import numpy as np

from subgrid.report import literature
from subgrid.report.blocks import Drawing, Section, Table, drawing
from subgrid.report.offline import display_units
from subgrid.report.results import Record, Results
from subgrid.report.words import NOTHING, count, extreme, fixed, listed, short, skill, units

#: What a table calls the published scores.
PUBLISHED = {"mae": "MAE (W/m²)", "r2": "R²"}


def literature_section(results: Results) -> Section | None:
    """Scores as the literature defines them."""
    result = ((results.scores or {}).get("metrics") or {}).get("climsim")
    if result is None:
        return None
    about = result["about"]
    rows = result["rows_per_column"]
    lead = [
        f"Scores as in the ClimSim papers, of {count(result['columns'])} columns with {_span(rows)} rows each on "
        f"{_days(result['days'])}: {units(about['aggregation'])}.",
        "The published R² has no value where a column does not vary; the guarded one leaves such columns out; the "
        f"pooled one sums errors and variances over columns first. {about['wind'][:1].upper()}{about['wind'][1:]}.",
    ]
    blocks: list[Drawing | Table] = [score_table(result), *published_tables(result)]
    if literature.shown(result):
        blocks.append(
            drawing(
                "literature-r2",
                "R² by level, mean over columns and pooled",
                r2_caption(result, results.seeds),
                lambda n: literature.r2_profiles(result, results.seeds, narrow=n),
            )
        )
    if results.literature is not None:
        blocks += section_drawings(result, results.literature)
    return Section("literature", "The literature’s scores", lead, blocks=blocks)


def _days(number: int) -> str:
    return f"{count(number)} {'day' if number == 1 else 'days'}"


def _span(rows: Record) -> str:
    least, most = count(rows["least"]), count(rows["most"])
    return least if least == most else f"{least} to {most}"


def score_table(result: Record) -> Table:
    """Every variable with every score."""
    keys = {"mae": "MAE", "rmse": "RMSE", "bias": "Bias"}
    members = any(entry.get("crps") is not None for entry in result["variables"].values())
    if members:
        keys["crps"] = "CRPS"
    ratios = {"r2": "R²", "r2_guarded": "guarded", "r2_pooled": "pooled"}
    rows = []
    for entry in result["variables"].values():
        left_out = max(entry["n_constant_level"])
        cells = [short(entry[k]) for k in keys] + [skill(entry[k]) for k in ratios]
        rows.append([literature.heading(entry), *cells, count(left_out) if left_out else NOTHING])
    caption = (
        "Scores of every variable, in W/m² where it carries energy, plain means over columns and levels; the last "
        f"column says how many of the {count(result['columns'])} columns do not vary, at the level with most."
    )
    return Table(caption, ["Variable", *keys.values(), *ratios.values(), "Constant"], rows)


def published_tables(result: Record) -> list[Drawing | Table]:
    """The run beside the published networks."""
    table = result.get("published")
    if table is None:
        return []
    found: list[Drawing | Table] = []
    for score, title in PUBLISHED.items():
        models = list(next(iter(table[score].values())))
        rows = [
            [literature.heading(result["variables"][name]), *(_cell(row[m], score) for m in models)]
            for name, row in table[score].items()
        ]
        caption = (
            f"{title} beside six published networks, whose scores are those of {table['data']}: they compare only with "
            f"a run scored on the same split. Source: {table['source']}."
        )
        found.append(Table(caption, ["Variable", *(m if m != "this run" else "This run" for m in models)], rows))
    return found


def _cell(value: Any, score: str) -> str:
    return short(value, 4) if score == "mae" else skill(value)


def r2_caption(result: Record, seeds: Record | None) -> str:
    """What the profiles show, and where they leave the axis."""
    told = (
        "R² by level, top of the atmosphere up: the mean over columns (columns that do not vary left out) and pooled "
        "over columns"
    )
    if seeds is not None:
        told += f"; bands span {count(seeds['seeds'])} seeds"
    lines = [
        literature.by_level(result["variables"][name][key])
        for name in literature.shown(result)
        for key in ("r2_guarded_level", "r2_pooled_level")
    ]
    if any(np.nanmin(v, initial=1.0) < literature.LEAST_R2 for v in lines):
        told += f"; values below {fixed(literature.LEAST_R2, 2)} lie off the axis"
    return f"{told}."


def section_drawings(result: Record, data: Any) -> list[Drawing | Table]:
    """What is drawn from the Zarr group of zonal and binned means."""
    found: list[Drawing | Table] = []
    if literature.held(result, data, "bias"):
        found.append(
            drawing(
                "literature-bias",
                "Zonal-mean bias in bands of 10 degrees",
                bias_caption(result, data),
                lambda n: literature.zonal_bias(result, data, narrow=n),
            )
        )
    if literature.held(result, data, "daily_r2") and result["days"] > 1:  # one day has no variance
        found.append(
            drawing(
                "literature-daily",
                "R² of daily zonal means",
                f"R² over {count(result['days'])} days of daily means in bands of 10 degrees (contours 0.7 and 0.9, "
                "darkest below zero, grey where nothing varies or no column lies).",
                lambda n: literature.daily_r2(result, data, narrow=n),
            )
        )
    if "moistening_bias" in data:
        found.append(
            drawing(
                "literature-moistening",
                "Moistening and its bias by amount of rain",
                rain_caption(data),
                lambda n: literature.moistening(data, narrow=n),
            )
        )
    if any(str(name).startswith("confidence_") for name in data):
        found.append(
            drawing(
                "literature-confidence",
                "Zonal mean of the network's confidence",
                "Zonal mean of what the network says of its own errors, in its normalised units.",
                lambda n: literature.confidence(data, narrow=n),
            )
        )
    return found


def bias_caption(result: Record, data: Any) -> str:
    """The largest biases."""
    worst = []
    for name in literature.held(result, data, "bias")[:2]:
        attributes = data[f"bias_{name}"].attrs
        factor, label = display_units(str(attributes.get("units", "")))
        values = factor * np.asarray(data[f"bias_{name}"].values, np.float64).T
        if np.isfinite(values).any():
            value, where = extreme(values, data["latitude"].values, data["sigma"].values)
            worst.append(f"{attributes['long_name']} {fixed(value, 2, signed=True)} {label} ({where})")
    told = (
        "Mean error in bands of 10 degrees (colours) and the true mean in the same units (contours, dashed below zero)"
    )
    return f"{told}; largest: {listed(worst)}." if worst else f"{told}."


def rain_caption(data: Any) -> str:
    """How much rain the bins hold."""
    rows = np.asarray(data["rain_rows"].values)
    edges = 86400e3 * np.asarray(data["rain_from"].values)
    told = (
        "Mean moistening and its mean error by level: rows without rain (left of the line, "
        f"{fixed(100 * rows[0] / rows.sum(), 0)}% of them), then ten bins of equal numbers of rows with rain"
    )
    return f"{told}; the wettest begins at {short(edges[-1])} mm/day." if edges.size > 2 else f"{told}."
