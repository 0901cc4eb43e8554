"""The page of the matrix online, from the files of scores alone: no figure of it is typed by hand."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from subgrid.base.errors import SubgridError
from subgrid.base.formats import ONLINE, read_record
from subgrid.report.design import ASKED as MOST
from subgrid.report.document import write_document
from subgrid.report.study import MERITS
from subgrid.report.style import WIDE, styled
from subgrid.report.words import NOTHING, table
from subgrid.scores.survival import rank_correlation

Record = dict[str, Any]
#: What the design study asks, here of the last third of a run: key, title, perfect value, most departure.
ASKED = tuple(
    (key, title, perfect, MOST[key])
    for (key, _, perfect, _), title in zip(
        MERITS, ("T mid-troposphere (K)", "humidity, lowest level", "precipitation"), strict=True
    )
)
#: Fewer runs say nothing of a correlation.
LEAST_RUNS = 10
RATIOS = ("temperature", "specific_humidity", "u_wind", "precipitation")
#: What the figure shows; its colours end at these ratios.
DRAWN = "temperature"
NEAR, FAR = 1.0, 100.0


def results_online_page(folder: Path, docs: Path) -> Path:
    """Write ``results_online.md`` and its figure from all files of scores in ``folder``; returns the page.

    Raises:
        SubgridError: there are none.
    """
    records = [read_record(path, ONLINE) for path in sorted(folder.glob("*d.json"))]
    if not records:
        raise SubgridError(f"{folder} holds no scores: run `make matrix-online`")
    floor = read_record(folder / "floor.json", ONLINE) if (folder / "floor.json").exists() else None
    lengths = sorted({r["requested_days"] for r in records})
    chosen = {days: [r for r in records if r["requested_days"] == days] for days in lengths}
    runs = []
    for days, held in chosen.items():
        runs += [f"## {days} days", *_runs(held), ""]
    filled: dict[str, str | Sequence[str]] = {
        "COUNT": str(len(records)),
        "DAYS": str(lengths[0]),
        "RECIPES": _recipes(chosen),
        "RUNS": runs[:-1],
        "FORETOLD": _foretold(chosen[lengths[0]]),
        "FLOOR": ["Not run yet."] if floor is None else _floor(floor),
    }
    return write_document(docs, "results_online", filled, {"distance": distance_figure(chosen)})


def within(record: Record) -> bool:
    """Whether a run kept to what stability asks."""
    return bool(record["finite"]) and all(
        record.get(key) is not None and abs(record[key] - perfect) <= most for key, _, perfect, most in ASKED
    )


@styled
def distance_figure(chosen: dict[int, list[Record]]) -> Figure:
    """The distance of temperature from the control, in noise floors, by architecture and recipe: means over the seeds
    that lasted, a panel for each length of run (the key of ``chosen``, days)."""
    every = [r for held in chosen.values() for r in held]
    architectures = sorted({r["architecture"] for r in every})
    recipes = _recipe_names(every)
    figure = Figure(figsize=(WIDE, 0.5 * len(architectures) + 1.6), layout="constrained")
    axes = figure.subplots(1, len(chosen), sharey=True, squeeze=False)[0]
    norm = LogNorm(NEAR, FAR)
    for axis, (days, held) in zip(axes, chosen.items(), strict=True):
        values = np.full((len(architectures), len(recipes)), np.nan)
        for i, architecture in enumerate(architectures):
            for j, recipe in enumerate(recipes):
                cell = [r for r in held if (r["architecture"], r["recipe"]) == (architecture, recipe)]
                found = [r["ratio"][DRAWN] for r in cell if r["finite"] and DRAWN in (r.get("ratio") or {})]
                ended = [r["days"] for r in cell if not r["finite"]]
                lines = []
                if found:
                    values[i, j] = statistics.fmean(found)
                    lines.append(f"{values[i, j]:.1f}")
                if ended:
                    lines.append(f"ends day {min(ended)}" if len(cell) == 1 else f"{len(ended)} of {len(cell)} end")
                dark = values[i, j] > np.sqrt(NEAR * FAR)
                axis.text(j, i, "\n".join(lines), ha="center", va="center", fontsize=8, color="w" if dark else "k")
        axis.imshow(values, norm=norm, cmap="viridis_r", aspect="auto")
        axis.set_xticks(range(len(recipes)), recipes, rotation=20, ha="right")
        axis.set_yticks(range(len(architectures)), architectures)
        axis.set_title(f"{days} days")
        axis.grid(visible=False)
    title = f"{DRAWN}: distance / noise floor"
    figure.colorbar(ScalarMappable(norm, "viridis_r"), ax=axes, label=title, extend="both")
    return figure


def _recipe_names(records: Iterable[Record]) -> list[str]:
    return sorted({r["recipe"] for r in records}, key=lambda name: (name != "standard", name))


def _recipes(chosen: dict[int, list[Record]]) -> list[str]:
    """How many runs of each recipe keep to what is asked."""
    rows = []
    for recipe in _recipe_names(r for held in chosen.values() for r in held):
        cells = [recipe]
        for held in chosen.values():
            runs = [r for r in held if r["recipe"] == recipe]
            cells += [f"{sum(bool(r['finite']) for r in runs)} of {len(runs)}", f"{sum(map(within, runs))}"]
        rows.append(cells)
    heads = [head for days in chosen for head in (f"{days} days: finite", "within")]
    asked = ", ".join(f"{title} {perfect:g} ± {most:g}" for _, title, perfect, most in ASKED)
    return [*table(["recipe", *heads], rows), "", f"“Within”: finite and {asked}."]


def _floor(floor: Record) -> list[str]:
    names = [name for name in next(iter(floor["floors"].values())) if "global" not in name and "zonal" not in name]
    rows = [[f"{days}", *(f"{values[n]:.3g}" for n in names)] for days, values in floor["floors"].items()]
    text = f"{floor['controls']} members from {floor['start']}, first temperatures perturbed by {floor['noise_K']:g} K."
    return [text, "", *table(["days", *(n.replace("_", " ") for n in names)], rows)]


def _runs(records: list[Record]) -> list[str]:
    kinds = sorted({(r["architecture"], r["recipe"]) for r in records}, key=lambda k: (k[0], k[1] != "standard", k[1]))
    rows = []
    for architecture, recipe in kinds:
        held = [r for r in records if (r["architecture"], r["recipe"]) == (architecture, recipe)]
        lived = [r for r in held if r["finite"]]
        cells = [architecture, recipe, f"{len(lived)} of {len(held)}", f"{sum(map(within, held))} of {len(held)}"]
        cells += [_spread((r[key] for r in lived), 2 if perfect == 0.0 else 3) for key, _, perfect, _ in ASKED]
        cells += [_spread(((r.get("ratio") or {}).get(name) for r in lived), 1) for name in RATIOS]
        rows.append(cells)
    titles = ["architecture", "recipe", "finite", "within", *(title for _, title, _, _ in ASKED)]
    titles += [f"{name.replace('_', ' ')} / floor" for name in RATIOS]
    many = len({r["seed"] for r in records}) > 1
    told = ["Means over the seeds that lasted; ± is half their range.", ""] if many else []
    return [*told, *table(titles, rows)]


def _spread(values: Iterable[float | None], digits: int) -> str:
    found = [v for v in values if v is not None]
    if not found:
        return NOTHING
    mean = f"{statistics.fmean(found):.{digits}f}"
    return mean if len(found) == 1 else f"{mean} ± {(max(found) - min(found)) / 2:.{digits}f}"


def _foretold(records: list[Record]) -> list[str]:
    """Does offline skill foretell the distance online?"""
    rows = []
    for name in RATIOS:
        pairs = [
            (r["r2"], r["ratio"][name]) for r in records if r.get("r2") is not None and name in (r.get("ratio") or {})
        ]
        if len(pairs) >= LEAST_RUNS:
            rho, low, high = rank_correlation([p[0] for p in pairs], [p[1] for p in pairs])
            rows.append([name.replace("_", " "), str(len(pairs)), f"{rho:+.2f} ({low:+.2f} to {high:+.2f})"])
    return table(["distance of", "runs", "rank correlation"], rows) if rows else ["Too few runs to say."]
