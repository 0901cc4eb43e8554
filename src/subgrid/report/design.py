"""The page and figures of the design study, from its files of scores alone."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from subgrid.base.errors import SubgridError
from subgrid.base.formats import ONLINE, read_record
from subgrid.coupling.compare import YEAR
from subgrid.report.document import write_document
from subgrid.report.study import MERITS, late, whole_periods
from subgrid.report.style import CONTROL, EMULATOR, styled
from subgrid.report.words import NOTHING, fixed, table

Record = dict[str, Any]
#: How a run of the whole design is called.
DESIGN = "the design"
#: And one of it with nothing but the closure left out.
UNCLOSED = "budgets not closed"
#: The recipe with inputs of earlier steps.
MEMORY = "expanded"
RANGE = "the training range (day, largest distance in spreads)"
#: What is asked of a design over days 60 to 90.
ASKED = dict(zip((key for key, *_ in MERITS), (1.0, 0.05, 0.10), strict=True))
#: Fields whose distances in noise floors are told of a year.
DISTANCES = ("temperature", "specific_humidity", "precipitation")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#332288", "#999999")
#: Lines of a network's runs of a year, one after the other; longer ones are dashed.
STYLES = ("-", ":", "-.", (0, (1, 4)))
#: Days from which on a run is drawn in 30-day means.
LONG = 180


def design_page(folder: Path, docs: Path) -> Path:
    """Write ``design.md`` and its figures below ``docs`` from the files of scores in ``folder``.

    Raises:
        SubgridError: there are none.
    """
    records = {file.stem: read_record(file, ONLINE) for file in sorted(folder.glob("*.json")) if file.stem != "floor"}
    if not records:
        raise SubgridError(f"{folder} holds no scores: run `subgrid study design`")
    ninety = _chosen(records, "control", lambda r: r["requested_days"] == 90)
    long = _chosen(records, "control", lambda r: r["requested_days"] > LONG)
    seasonal = [r for r in records.values() if r["climate"] == "T31" and "seasons" in r]
    figures = {"runs": runs_figure(list(ninety.values()))} if ninety else {}
    if long:
        figures["long"] = long_figure(list(long.values()))
    if seasonal:
        figures["seasons"] = seasons_figure(seasonal[0])
    filled: dict[str, str | list[str]] = {
        "RUNS": _rows(ninety.values()),
        "VERDICT": _verdict(records),
        "CONTROL": _control(ninety),
        "SHADOW": _shadow(records),
        "MEMORY": _memory(records),
        "LEFT": _left(records),
        "WARMER": _rows(_chosen(records, "warmer", lambda r: True).values()),
        "PROCESSES": _rows(_chosen(records, "terms", lambda r: True).values()),
        "LONG": _long(long),
        "FINER": _finer(seasonal),
    }
    return write_document(docs, "design", filled, figures)


def _chosen(records: dict[str, Record], climate: str, which: Any) -> dict[str, Record]:
    """Runs of one climate, those of the design first."""
    found = {k: r for k, r in records.items() if r["climate"] == climate and which(r) and "shadow" not in r}
    return dict(sorted(found.items(), key=lambda one: (one[1]["text"] != DESIGN, one[1]["text"], one[0])))


def kept(record: Record) -> bool:
    """Whether a run kept to what is asked over days 60 to 90."""
    found = late(record)
    return found is not None and all(abs(found[key] - perfect) <= ASKED[key] for key, _, perfect, _ in MERITS)


def _label(record: Record) -> str:
    return f"{record['architecture']}: {record['text']}"


@styled
def runs_figure(records: list[Record]) -> Figure:
    """Days 60 to 90 of every run: one row each, one panel per figure of merit, what is asked shaded."""
    figure = Figure(figsize=(11, 0.33 * len(records) + 1.5), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    for axis, (key, label, perfect, _), limit in zip(axes, MERITS, (4.0, 0.25, 0.5), strict=True):
        axis.axvspan(perfect - ASKED[key], perfect + ASKED[key], color="#cfe8cf", lw=0)
        axis.axvline(perfect, color="0.3", lw=1)
        for y, record in enumerate(records):
            found = late(record)
            if found is None:
                axis.text(perfect, y, f"ends on day {record['days']}", ha="center", va="center", color="#b00020")
                continue
            value = float(np.clip(found[key], perfect - limit, perfect + limit))
            marker = "<>"[int(value > perfect)] if value != found[key] else "o"
            axis.plot(value, y, marker, color="#0072b2" if record["text"] == DESIGN else "0.4", ms=7)
        axis.set_xlabel(label)
        axis.set_xlim(perfect - limit * 1.08, perfect + limit * 1.08)
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(records)), [_label(record) for record in records])
    axes[0].set_ylim(len(records) - 0.4, -0.6)
    return figure


@styled
def long_figure(records: list[Record]) -> Figure:
    """Long runs in 30-day means against the control of the same days."""
    figure = Figure(figsize=(10.4, 3.6), layout="constrained")
    axes = figure.subplots(1, 3)
    drawn = sorted({record["architecture"] for record in records})
    styles = {name: cycle(STYLES) for name in drawn}
    chosen = [next(styles[r["architecture"]]) if r["requested_days"] <= 365 else "--" for r in records]
    for axis, (key, label, perfect, _) in zip(axes, MERITS, strict=True):
        axis.axhspan(perfect - ASKED[key], perfect + ASKED[key], color="#e6f2e6", lw=0)
        axis.axhline(perfect, color="0.3", lw=0.8)
        for record, style in zip(records, chosen, strict=True):
            whole = whole_periods(record)
            colour = COLOURS[drawn.index(record["architecture"]) % len(COLOURS)]
            days = [0.5 * (p["first_day"] + p["last_day"]) / 365 for p in whole]
            told = f"{record['architecture']}, {_run_of(record)}"
            axis.plot(days, [p[key] for p in whole], style, color=colour, label=told)
        axis.set_ylabel(label)
        axis.set_xlabel("years")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


@styled
def seasons_figure(record: Record) -> Figure:
    """Monthly means of a long run beside its control's, by region."""
    seasons = record["seasons"]
    shown = (("temperature_lowest", "lowest-level temperature (K)"), ("precipitation", "precipitation (mm/day)"))
    regions = [name for name in seasons[shown[0][0]] if name != "globe"]
    figure = Figure(figsize=(10.4, 5.2), layout="constrained")
    axes = figure.subplots(2, len(regions), sharex=True)
    at = np.arange(len(seasons["months"]))
    for row, (name, label) in zip(axes, shown, strict=True):
        for axis, region in zip(row, regions, strict=True):
            for source, colour in (("control", CONTROL), ("emulator", EMULATOR)):
                axis.plot(at, seasons[name][region][source], color=colour, label=source)
            axis.set_title(region)
        row[0].set_ylabel(label)
    for axis in axes[-1]:
        axis.set_xticks(at[::6], seasons["months"][::6], rotation=30)
    axes[0, 0].legend()
    return figure


def _rows(records: Any) -> list[str]:
    """A table of runs over days 60 to 90."""
    rows = []
    for record in records:
        residuals = [
            fixed((record.get(key) or {}).get("emulator"), 1, signed=True)
            for key in ("energy_residual_W_m2", "water_residual_W_m2")
        ]
        ratio = record.get("ratio") or {}
        rows.append(
            [
                record["architecture"],
                record["text"],
                fixed(record.get("r2")),
                str(record["days"]) if record["finite"] else f"**{record['days']}**",
                *_merits(late(record) or {}),
                *residuals,
                fixed(ratio.get("temperature"), 1),
                fixed(ratio.get("precipitation"), 1),
                "yes" if kept(record) else "no",
            ]
        )
    if not rows:
        return ["Not run yet."]
    heads = ["architecture", "run", "mean R²", "days", "T (K)", "humidity", "precipitation"]
    heads += ["energy created (W/m²)", "water created (W/m²)", "T / floor", "rain / floor", "within"]
    return table(heads, rows)


def _merits(found: Record) -> list[str]:
    """The figures of merit of a period or a record (of its judged days)."""
    return [fixed(found.get(key), 2 if perfect == 0.0 else 3, signed=perfect == 0.0) for key, _, perfect, _ in MERITS]


def _verdict(records: dict[str, Record]) -> str:
    """How many architectures keep to what is asked, with and without closure."""
    said = []
    for text, what in ((DESIGN, "Under the design"), (UNCLOSED, "Without closure")):
        held = [r for r in records.values() if (r["text"], r["climate"], r["requested_days"]) == (text, "control", 90)]
        if held:
            said.append(f"{what} {sum(map(kept, held))} of {len(held)} architectures keep to what is asked.")
    return " ".join(said)


def _control(records: dict[str, Record]) -> str:
    """What the host's own physics creates."""
    held = next((r for r in records.values() if r.get("energy_residual_W_m2")), None)
    if held is None:
        return NOTHING
    found = [held.get(key) or {} for key in ("energy_residual_W_m2", "water_residual_W_m2")]
    return " and ".join(fixed(one.get("control"), 1, signed=True) for one in found) + " W/m²"


def _shadow(records: dict[str, Record]) -> list[str]:
    """Skill along the host's own trajectory without closure, beside where the coupled run went."""
    found = [r for r in records.values() if "shadow" in r and r["constraints"]]
    if not found:
        return ["Not run yet."]
    shown = ("temperature_tendency", "specific_humidity_tendency", "convective_precipitation", "outgoing_longwave")
    rows = [
        [name.replace("_", " "), fixed(found[0]["shadow"][name]["r2"]), f"{found[0]['shadow'][name]['bias']:.2e}"]
        for name in shown
        if name in found[0]["shadow"]
    ]
    lines = table(["target", "R² in shadow mode", "mean error"], rows)
    open_run = next((r for r in records.values() if _is_open(r, found[0]["architecture"])), None)
    created = found[0].get("shadow_budgets_W_m2")
    if created and open_run is not None:
        coupled = {key: open_run[f"{key}_W_m2"] for key in created}
        told = [
            f"{fixed(created[key], 1, signed=True)} W/m² of {key.split('_')[0]} in shadow mode, "
            f"{fixed(one['emulator'] - one['control'], 1, signed=True)} W/m² in the mean of the coupled run"
            for key, one in coupled.items()
        ]
        lines += ["", f"Beyond what the host creates, this network creates {'; '.join(told)}."]
    return lines


def _is_open(record: Record, architecture: str) -> bool:
    return (record["architecture"], record["text"], record["climate"]) == (architecture, UNCLOSED, "control")


def _memory(records: dict[str, Record]) -> list[str]:
    """Runs with inputs of earlier steps: where they went, and what left the training range first."""
    rows = []
    for record in sorted(records.values(), key=lambda one: str(one["text"])):
        if record["recipe"] != MEMORY or record["requested_days"] > 90:
            continue
        shadow = "shadow" in record
        figures = [NOTHING] * len(MERITS) if shadow else _merits(late(record) or {})
        verdict = NOTHING if shadow else "yes" if kept(record) else "no"
        rows.append([record["text"], str(record["days"]), fixed(record["r2"]), *figures, verdict, _departures(record)])
    if not rows:
        return ["Not run yet."]
    return table(
        ["run", "days", "mean R²", "T (K)", "humidity", "precipitation", "within", f"first to leave {RANGE}"], rows
    )


def _left(records: dict[str, Record]) -> list[str]:
    """What left the training range first, of every other run in which anything did."""
    rows = [
        [record["architecture"], record["text"], str(record["requested_days"]), _departures(record)]
        for record in records.values()
        if record["climate"] == "control" and record["recipe"] != MEMORY and record["left_training"]
    ]
    if not rows:
        return ["Nothing left it in any other run."]
    heads = ["architecture", "run", "days", f"first to leave {RANGE}"]
    return [*table(heads, rows), "", "In all other runs nothing left it."]


def _departures(record: Record) -> str:
    return "; ".join(_departure(one) for one in record["left_training"][:3]) or "nothing"


def _departure(one: Record) -> str:
    level = "" if one["level"] is None else f", level {one['level']}"
    return f"{one['input'].replace('_', ' ')}{level} (day {one['day']}, {one['distance']:.2f})"


def _of_its_last_third(record: Record) -> str:
    """What is known of a run whose file has no mean of its last year."""
    ratio = record.get("ratio") or {}
    floors = (f"{fixed(ratio[name], 2)} ({name.replace('_', ' ')})" for name in DISTANCES if name in ratio)
    return f"{record['architecture']}, {_run_of(record)}: {_told(record)}; noise floors: {', '.join(floors)}"


def _long(records: dict[str, Record]) -> list[str]:
    """Two tables of long runs: the 30-day mean that departs most, and the last year's mean."""
    if not records:
        return ["Not run yet."]
    months, years, thirds = [], [], []
    for record in records.values():
        head = [
            record["architecture"],
            _run_of(record),
            str(record["days"]) if record["finite"] else f"**{record['days']}**",
        ]
        months.append(head + [_most(record, key, perfect, 3 if perfect else 2) for key, _, perfect, _ in MERITS])
        first, last = record.get("judged_days", (0, 0))
        worst = record.get("worst_zonal_temperature")
        if record["finite"] and last - first < YEAR:
            thirds.append(_of_its_last_third(record))
        if last - first < YEAR or not worst:
            continue
        ratio = record.get("ratio") or {}
        most = fixed(worst["difference_K"], 2, signed=True)
        years.append(
            [
                *head,
                *_merits(record),
                f"{most} K at σ {worst['sigma']:.2f}, {_latitude(worst['latitude'])}",
                fixed(worst.get("between_controls_K"), 2),
                fixed(worst.get("offline_error_K_per_day"), 2, signed=True),
                fixed(worst.get("rank_correlation"), 2, signed=True),
                *(fixed(ratio.get(name), 2) for name in DISTANCES),
            ]
        )
    heads = ["architecture", "recipe", "days", "T (K)", "humidity", "precipitation"]
    lines = table(heads, months)
    if not years:
        return lines
    lines += [
        "",
        "The mean of the last year against the control's of the same days; “zonal T”: the largest departure of "
        "zonal-mean temperature below 100 hPa; beside it how far a member of the control ensemble departs somewhere "
        "from the others, the mean error of the heating at that place offline, and over the latitudes of that level "
        "the rank correlation of this mean error and the departure:",
        "",
    ]
    heads += ["zonal T", "of a control (K)", "offline error (K/day)", "rank correlation"]
    lines += table([*heads, "T / floor", "q / floor", "rain / floor"], years)
    if thirds:
        lines += ["", f"Scored by its last third alone: {'. '.join(thirds)}."]
    return lines


def _latitude(degrees: float) -> str:
    return f"{abs(degrees):.0f}° {'N' if degrees >= 0 else 'S'}"


def _run_of(record: Record) -> str:
    """The recipe of a run, and its text where this says more than architecture and recipe."""
    plain = (DESIGN, f"{record['architecture']}, {record['recipe']}")
    return record["recipe"] if record["text"] in plain else f"{record['recipe']}: {record['text']}"


def _most(record: Record, key: str, perfect: float, digits: int) -> str:
    """The 30-day mean that departs most."""
    whole = [p[key] for p in whole_periods(record)]
    return fixed(max(whole, key=lambda v: abs(v - perfect)), digits, signed=perfect == 0.0) if whole else NOTHING


def _told(record: Record) -> str:
    """The figures of merit of the judged days in words."""
    labels = (label.replace("\n", " ") for _, label, *_ in MERITS)
    return ", ".join(f"{label} {merit}" for label, merit in zip(labels, _merits(record), strict=True))


def _finer(seasonal: list[Record]) -> list[str]:
    if not seasonal:
        return ["Not run yet."]
    record = seasonal[0]
    cycle = record["seasons"]["temperature_lowest"]["northern extratropics"]
    swing = [max(cycle[s]) - min(cycle[s]) for s in ("emulator", "control")]
    return [
        f"{record['architecture']}, {record['recipe']}, trained on columns of T31: {record['days']} days. The lowest "
        f"level of the northern extratropics goes through {swing[0]:.1f} K from month to month, the control's through "
        f"{swing[1]:.1f} K. In the mean of the last year: {_told(record)}.",
        "",
        "![Monthly means of the run at T31 and of its control](images/design_seasons.png)",
    ]
