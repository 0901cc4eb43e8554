"""The page of the matrix online, from the files of scores alone: no figure of it is typed by hand."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from subgrid.base.errors import SubgridError
from subgrid.base.files import write_text
from subgrid.base.formats import ONLINE, read_record
from subgrid.report.design import ASKED as MOST
from subgrid.report.study import MERITS
from subgrid.report.words import table
from subgrid.scores.survival import rank_correlation

Record = dict[str, Any]
NONE = "–"
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


def write_page(folder: Path, page: Path) -> Path:
    """Write ``page`` from all files of scores in ``folder``.

    Raises:
        SubgridError: there are none.
    """
    records = [read_record(path, ONLINE) for path in sorted(folder.glob("*d.json"))]
    if not records:
        raise SubgridError(f"{folder} holds no scores: run `make matrix-online`")
    floor = read_record(folder / "floor.json", ONLINE) if (folder / "floor.json").exists() else None
    write_text(page, "\n".join(_page(records, floor)).rstrip() + "\n")
    return page


def within(record: Record) -> bool:
    """Whether a run kept to what stability asks."""
    return bool(record["finite"]) and all(
        record.get(key) is not None and abs(record[key] - perfect) <= most for key, _, perfect, most in ASKED
    )


def _page(records: list[Record], floor: Record | None) -> list[str]:
    lengths = sorted({r["days"] if r["requested_days"] is None else r["requested_days"] for r in records})
    lines = [
        "# Results online",
        f"{len(records)} coupled runs of the networks of [the matrix](results.md) in place of all column physics of "
        "SPEEDY at T21, beside the control of the same dates. Means are over the last third of each run; ratios are "
        "distances between such means (RMSE by mass and area) in units of the noise floor: the median distance between "
        "members of a control ensemble. 1 is another run of the model itself. `make matrix-online` makes these numbers "
        "and this page, and goes on where it was stopped.",
        "",
    ]
    if floor is not None:
        lines += ["## Noise floor", *_floor(floor), ""]
    for days in lengths:
        chosen = [r for r in records if r["requested_days"] == days]
        lines += [f"## {days} days", "", *_runs(chosen, many=len({r["seed"] for r in chosen}) > 1), ""]
    month = [r for r in records if r["requested_days"] == lengths[0]]
    return [*lines, *_foretold(month, lengths[0])]


def _floor(floor: Record) -> list[str]:
    names = [name for name in next(iter(floor["floors"].values())) if "global" not in name and "zonal" not in name]
    rows = [[f"{days}", *(f"{values[n]:.3g}" for n in names)] for days, values in floor["floors"].items()]
    text = f"{floor['controls']} members from {floor['start']}, first temperatures perturbed by {floor['noise_K']:g} K."
    return [text, "", *table(["days", *(n.replace("_", " ") for n in names)], rows)]


def _runs(records: list[Record], many: bool) -> list[str]:
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
    asked = ", ".join(f"{title} {perfect:g} ± {most:g}" for _, title, perfect, most in ASKED)
    told = f"“Within”: finite and {asked}." + (" Means over seeds; ± is half their range." if many else "")
    return [told, "", *table(titles, rows)]


def _spread(values: Iterable[float | None], digits: int) -> str:
    found = [v for v in values if v is not None]
    if not found:
        return NONE
    mean = f"{statistics.fmean(found):.{digits}f}"
    return mean if len(found) == 1 else f"{mean} ± {(max(found) - min(found)) / 2:.{digits}f}"


def _foretold(records: list[Record], days: int) -> list[str]:
    """Does offline skill foretell the distance online?"""
    rows = []
    for name in RATIOS:
        pairs = [
            (r["r2"], r["ratio"][name]) for r in records if r.get("r2") is not None and name in (r.get("ratio") or {})
        ]
        if len(pairs) >= LEAST_RUNS:
            rho, low, high = rank_correlation([p[0] for p in pairs], [p[1] for p in pairs])
            rows.append([name.replace("_", " "), str(len(pairs)), f"{rho:+.2f} ({low:+.2f} to {high:+.2f})"])
    if not rows:
        return []
    return [
        f"## Does offline skill foretell it? ({days} days)",
        "Spearman's rank correlation of offline mean R² and the distance online, over all finite runs, with 95 % "
        "bootstrap intervals: negative where better networks stay closer.",
        "",
        *table(["distance of", "runs", "rank correlation"], rows),
    ]
