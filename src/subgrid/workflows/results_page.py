"""The page of the matrix's results, from the files of scores alone: no figure of it is typed by hand."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from subgrid.base.errors import SubgridError
from subgrid.base.files import write_text
from subgrid.base.formats import SCORES, read_record
from subgrid.report.words import table

Record = dict[str, Any]
STANDARD = "standard"
#: What stands where there is no number.
NONE = "–"
#: Rank correlations by key, and what a table calls them.
SURENESS = {
    "pooled": "pooled",
    "columns": "columns",
    "channels": "mean over outputs",
    "expected": "if errors were normal",
}


def write_page(folder: Path, page: Path, planned: int) -> Path:
    """Write ``page`` from all ``folder/*.json``.

    Raises:
        SubgridError: the folder has no scores, or a file of another kind.
    """
    records = [read_record(path, SCORES) for path in sorted(folder.glob("*.json"))]
    if not records:
        raise SubgridError(f"{folder} holds no scores: run `make matrix-small`")
    write_text(page, "\n".join(_page(records, planned)).rstrip() + "\n")
    return page


def mean_r2(record: Record, key: str = "r2") -> float:
    """Mean R2 over the targets that vary."""
    return statistics.fmean(v for v in record[key].values() if v is not None)


def _page(records: list[Record], planned: int) -> list[str]:
    first = records[0]
    architectures, recipes = (_seen(records, key) for key in ("architecture", "recipe"))
    settings, samples = first["train"]["recipe_settings"], first["samples"]
    lines = [
        "# Results",
        f"{len(records)} of {planned} runs: {', '.join(architectures)}; recipes {', '.join(recipes)}; seeds "
        f"{', '.join(map(str, _seen(records, 'seed')))}. Size {first['size']}, {settings['epochs']} epochs of "
        f"{samples['train']:,} columns of SPEEDY, scored on {samples[first['split']]:,} columns of its "
        f"{first['split']} months. R² is pooled over columns, times and levels; means are over the targets that vary; "
        "± is half the range over seeds. `make matrix-small` makes these numbers and this page, and goes on where it "
        "was stopped.",
        "",
        "## Mean R²",
    ]
    by = _by(records, "architecture", "recipe")
    lines += table(
        ["architecture", *recipes],
        [
            *([a, *(_spread(mean_r2(r) for r in by.get((a, c), [])) for c in recipes)] for a in architectures),
            ["ridge, same inputs", *(_ridge([r for r in records if r["recipe"] == c]) for c in recipes)],
        ],
    )
    lines += ["", _margin(records)]
    lines += ["", "## What a recipe changes", "Mean R² minus that of `standard` with the same seed.", ""]
    others = [c for c in recipes if c != STANDARD]
    lines += table(
        ["architecture", *others], [[a, *(_change(by, a, c, mean_r2) for c in others)] for a in architectures]
    )
    lines += ["", *_sureness(by, architectures), "", *_sizes(by, architectures, recipes)]
    for recipe in recipes:
        lines += ["", f"## R² by variable, {recipe}", *_variables(by, architectures, recipe)]
    return lines


def _sureness(by: dict[tuple[Any, ...], list[Record]], architectures: list[Any]) -> list[str]:
    rows = []
    for a in architectures:
        found = [r["rank_correlation"] for r in by.get((a, "confidence"), []) if r["rank_correlation"]]
        rows.append([a, *(_spread(one.get(key) for one in found) for key in SURENESS)])
    return [
        "## What a confidence is worth",
        "Spearman's rank correlation of the loss that recipe `confidence` predicts and the true squared error: of all "
        "outputs and columns together; of each column's mean over outputs; the mean over outputs, each over columns; "
        "and what that mean would be if errors were normal with the variance that is told.",
        "",
        *table(["architecture", *SURENESS.values()], rows),
    ]


def _sizes(by: dict[tuple[Any, ...], list[Record]], architectures: list[Any], recipes: list[Any]) -> list[str]:
    rows = []
    for a in architectures:
        for c in recipes:
            held = by.get((a, c), [])
            if held:
                best = max(held, key=lambda r: r["columns_per_second"])
                share = f"{best['matmul_share']:.0%}"
                rows.append([a, c, f"{best['parameters']:,}", f"{best['columns_per_second']:,.0f}", share])
    titles = ["architecture", "recipe", "parameters", "columns/s", "of matrix multiply"]
    return [
        "## Size and speed",
        "Columns per second on one thread in calls of 2,048, raw SI in and out, the fastest of many calls; and its "
        "operations per second as a share of a matrix product's, timed beside it.",
        "",
        *table(titles, rows),
    ]


def _variables(by: dict[tuple[Any, ...], list[Record]], architectures: list[Any], recipe: str) -> list[str]:
    held = {a: by.get((a, recipe), []) for a in architectures}
    some = [r for records in held.values() for r in records]
    rows = [
        [
            name,
            *(_spread(r["r2"][name] for r in held[a]) for a in architectures),
            _spread(r["ridge_r2"][name] for r in some),
        ]
        for name in some[0]["r2"]
    ]
    return table(["variable", *architectures, "ridge"], rows)


def _margin(records: list[Record]) -> str:
    """How far the runs are above ridge regression on the same inputs."""
    margins = {
        f"{r['architecture']}, {r['recipe']}, seed {r['seed']}": mean_r2(r) - mean_r2(r, "ridge_r2") for r in records
    }
    least = min(margins, key=margins.__getitem__)
    above = sum(margin > 0 for margin in margins.values())
    return (
        f"{above} of {len(records)} runs are above ridge regression on their own inputs, the closest of them "
        f"({least}) by {margins[least]:.3f}."
    )


def _ridge(records: list[Record]) -> str:
    return _spread(mean_r2(r, "ridge_r2") for r in records)


def _change(
    by: dict[tuple[Any, ...], list[Record]], architecture: str, recipe: str, score: Callable[[Record], float]
) -> str:
    plain = {r["seed"]: score(r) for r in by.get((architecture, STANDARD), [])}
    return _spread((score(r) - plain[r["seed"]] for r in by.get((architecture, recipe), []) if r["seed"] in plain), "+")


def _spread(values: Iterable[float | None], sign: str = "") -> str:
    """Mean, and half the range where there is more than one value."""
    found = [v for v in values if v is not None]
    if not found:
        return NONE
    mean = f"{statistics.fmean(found):{sign}.4f}"
    return mean if len(found) == 1 else f"{mean} ± {(max(found) - min(found)) / 2:.4f}"


def _seen(records: list[Record], key: str) -> list[Any]:
    return sorted({record[key] for record in records}, key=lambda v: (v != STANDARD, v))


def _by(records: list[Record], *keys: str) -> dict[tuple[Any, ...], list[Record]]:
    found: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        found.setdefault(tuple(record[key] for key in keys), []).append(record)
    return found
