"""A page that compares any set of coupled runs: a table to sort and filter, and what tells good runs beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from subgrid.base.errors import SubgridError
from subgrid.base.files import only_writer, read_json, write_text
from subgrid.base.formats import EVALUATION, ONLINE, RUN, mark, read_record
from subgrid.report.blocks import Drawing, drawing
from subgrid.report.page import template
from subgrid.report.style import legend_above, panels, styled
from subgrid.report.words import NOTHING

Record = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One coupled run.

    Args:
        name: of it.
        values: by the keys of :data:`COLUMNS`.
        page: its own page, if there is one.
    """

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    page: Path | None = None


@dataclass(frozen=True)
class Column:
    """A column of the table: how its values are shown, from where on they are bad, and whether they are words."""

    key: str
    title: str
    show: Callable[[Any], str] = str
    bad: Callable[[Any], bool] = lambda _: False
    words: bool = False


def _fixed(digits: int, signed: bool = False) -> Callable[[Any], str]:
    return lambda value: f"{value:{'+' if signed else ''}.{digits}f}"


def _ratio(name: str, title: str) -> Column:
    return Column(f"ratio.{name}", f"{title} / floor", _fixed(2))


COLUMNS = (
    Column("name", "Run", words=True),
    Column("architecture", "Architecture", words=True),
    Column("recipe", "Recipe", words=True),
    Column("climate", "Climate", lambda v: NOTHING if v == "control" else str(v), words=True),
    Column("seed", "Seed"),
    Column("days", "Days", str),
    Column("finite", "Finite", lambda v: "yes" if v else "no", lambda v: not v),
    Column("mid_troposphere_temperature_difference_K", "ΔT mid (K)", _fixed(2, True), lambda v: abs(v) > 1.0),
    Column("lowest_level_humidity_ratio", "Humidity ratio", _fixed(3), lambda v: abs(v - 1.0) > 0.05),
    Column("precipitation_ratio", "Rain ratio", _fixed(3), lambda v: abs(v - 1.0) > 0.1),
    _ratio("temperature", "T"),
    _ratio("specific_humidity", "q"),
    _ratio("precipitation", "Rain"),
    Column("r2", "Offline R²", _fixed(4)),
    Column("parameters", "Parameters", "{:,}".format),
    Column("columns_per_second", "Columns/s", "{:,}".format),
    Column("simulated_years_per_day", "Simulated years/day", "{:,.0f}".format),
)
#: The column that the page is sorted by at first, from the least.
FIRST = "ratio.temperature"
#: Days of a run that is drawn hollow, and how long and short runs are filled.
SHORT = 30
FILLS = ((False, "full"), (True, "none"))
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#332288", "#56b4e9", "#999933")
MARKS = "osD^vP*X"


def entries(places: Sequence[Path]) -> list[Entry]:
    """Runs at ``places``: files of online scores, folders of them, run folders with a coupled run, coupled runs.

    Runs in shadow mode are left out: their climate is the host's own.

    Raises:
        SubgridError: a place holds none of these, or nothing but runs in shadow mode.
    """
    found = [entry for place in places for entry in _entries(place) if "shadow" not in entry.values]
    if not found:
        raise SubgridError("a leaderboard needs at least one coupled run whose emulator acts")
    return found


def _entries(place: Path) -> list[Entry]:
    if place.is_file():
        return [_of_scores(place)]
    files = [file for file in sorted(place.glob("*.json")) if _is_scores(file)]
    if files:
        return [_of_scores(file) for file in files]
    for folder in (place, place / "coupled"):
        if (folder / "metrics.json").exists() and "requested_days" in read_json(folder / "metrics.json"):
            return [_of_run(place, folder)]
    nested = [child for child in sorted(place.iterdir()) if child.is_dir()] if place.is_dir() else []
    found = [entry for child in nested if (child / "metrics.json").exists() for entry in _entries(child)]
    if not found:
        raise SubgridError(f"{place} holds no coupled run and no file of online scores")
    return found


def _is_scores(file: Path) -> bool:
    content = read_json(file)
    return isinstance(content, dict) and content.get("kind") == mark(ONLINE)["kind"] and "days" in content


def _of_scores(file: Path) -> Entry:
    return Entry(file.stem, read_record(file, ONLINE))


def _of_run(place: Path, folder: Path) -> Entry:
    """A coupled run, with what its training run and its evaluation say."""
    values = dict(read_json(folder / "metrics.json"))
    run = place if (place / "config.json").exists() and folder != place else None
    if run is not None:
        config, training = read_record(run / "config.json", RUN), read_json(run / "metrics.json")
        values |= {key: config.get(key) for key in ("architecture", "recipe", "seed")}
        values["parameters"] = training.get("parameters")
        scored = run / "evaluation" / "scores.json"
        if scored.exists():
            r2 = [v["r2"] for v in read_record(scored, EVALUATION)["models"]["emulator"].values()]
            values["r2"] = float(np.mean([v for v in r2 if v is not None]))
    page = next((p for p in (place / "report.html", folder / "report.html") if p.exists()), None)
    return Entry(place.name, values, page)


def _value(entry: Entry, key: str) -> Any:
    if key == "name":
        return entry.name
    found: Any = entry.values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def rows(found: Sequence[Entry], target: Path) -> tuple[list[Column], list[list[Record]]]:
    """Columns in which some run has something to show, and the cells of each run."""
    shown = [{c.key: NOTHING if (v := _value(e, c.key)) is None else c.show(v) for c in COLUMNS} for e in found]
    columns = [c for c in COLUMNS if any(row[c.key] != NOTHING for row in shown)]
    made = []
    for entry, told in zip(found, shown, strict=True):
        cells = []
        for column in columns:
            value = _value(entry, column.key)
            kind = "off" if value is not None and column.bad(value) else ""
            plain = "" if value is None else str(int(value)) if isinstance(value, bool) else str(value)
            kind = kind or ("text" if column.words else "")
            cells.append({"text": told[column.key], "value": plain, "kind": kind, "link": ""})
        cells[0]["link"] = _link(entry, target)
        made.append(cells)
    return columns, made


def _link(entry: Entry, target: Path) -> str:
    """Address of a run's page, relative to the leaderboard where that is possible."""
    if entry.page is None:
        return ""
    page, base = entry.page.resolve(), target.resolve().parent
    return page.relative_to(base).as_posix() if page.is_relative_to(base) else page.as_uri()


def _is_short(entry: Entry) -> bool:
    """Whether it is of so few days that the members of a control ensemble have hardly parted: a small noise floor."""
    return (_value(entry, "requested_days") or _value(entry, "days") or 0) <= SHORT


@styled
def foretold(found: Sequence[Entry], narrow: bool = False) -> Figure:
    """Distance online against offline skill, parameters, and speed, by architecture."""
    axes_of = [(k, t, s) for k, t, s in BESIDE if any(_value(entry, k) is not None for entry in found)]
    figure, axes = panels(len(axes_of), 3, 3.4, narrow, 2.8)
    names = sorted({str(_value(entry, "architecture")) for entry in found})
    for ax, (key, title, scale) in zip(axes, axes_of, strict=True):
        for k, name in enumerate(names):
            held = [entry for entry in found if str(_value(entry, "architecture")) == name]
            look: dict[str, Any] = {"ms": 5, "color": COLOURS[k % len(COLOURS)], "alpha": 0.8}
            for short, fill in FILLS:
                part = [entry for entry in held if _is_short(entry) == short]
                pairs = [(_value(entry, key), _value(entry, FIRST)) for entry in part]
                pairs = [pair for pair in pairs if None not in pair]
                x, y = zip(*pairs, strict=True) if pairs else ((), ())
                ax.plot(x, y, MARKS[k % len(MARKS)], fillstyle=fill, label=name if fill == "full" else None, **look)
        ax.set_xscale(scale)
        if scale == "log":  # often less than a decade
            ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            ax.xaxis.set_major_formatter(EngFormatter(sep=" "))
            ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_yscale("log")
        ax.axhline(1.0, color="0.5", lw=1)
        ax.set_xlabel(title)
        ax.set_ylabel("distance of T / noise floor")
    legend_above(figure, axes[0], 2 if narrow else 6)
    return figure


#: What the distance online is drawn against.
BESIDE = (
    ("r2", "offline mean R²", "linear"),
    ("parameters", "parameters", "log"),
    ("columns_per_second", "columns/s", "log"),
)


@styled
def groups(found: Sequence[Entry], narrow: bool = False) -> Figure:
    """Distance online of every run, by architecture and by recipe; runs that ended early above the frame."""
    figure, axes = panels(2, 2, 3.2, narrow, 2.8)
    for ax, key in zip(axes, ("architecture", "recipe"), strict=True):
        names = sorted({str(_value(entry, key)) for entry in found})
        for k, name in enumerate(names):
            held = [entry for entry in found if str(_value(entry, key)) == name]
            for short, fill in FILLS:
                part = [entry for entry in held if _is_short(entry) == short]
                lived = [v for entry in part if (v := _value(entry, FIRST)) is not None]
                spread = np.linspace(-0.2, 0.2, len(lived)) if len(lived) > 1 else np.zeros(len(lived))
                ax.plot(k + spread, lived, "o", ms=4, color=COLOURS[k % len(COLOURS)], fillstyle=fill, alpha=0.8)
                if lived:
                    style = "-" if fill == "full" else ":"
                    ax.plot([k - 0.3, k + 0.3], [np.median(lived)] * 2, style, color="0.2", lw=1.5)
            ended = sum(not _value(entry, "finite") for entry in held)
            if ended:
                ax.text(k, 1.01, f"{ended} ended", transform=ax.get_xaxis_transform(), ha="center", fontsize=9)
        ax.axhline(1.0, color="0.5", lw=1)
        ax.set_yscale("log")
        ax.set_xticks(range(len(names)), names, rotation=20, ha="right")
        ax.set_xlabel(key)
        ax.set_ylabel("distance of T / noise floor")
    return figure


def drawings(found: Sequence[Entry]) -> list[Drawing]:
    """The figures of a leaderboard, if some run has a distance in units of the noise floor."""
    if not any(_value(entry, FIRST) is not None for entry in found):
        return []
    made = []
    if any(_value(entry, "architecture") is not None for entry in found):
        told = "Distance of the mean temperature to the control's in noise floors (1: another run of the model itself)"
        hollow = (
            f" Hollow: runs of {SHORT} days or less, whose noise floor is small." if any(map(_is_short, found)) else ""
        )
        made.append(
            drawing(
                "groups",
                "Distance online by architecture and by recipe",
                f"{told}, each run a dot, medians as bars.{hollow}",
                lambda n: groups(found, narrow=n),
            )
        )
        if any(_value(entry, key) is not None for entry in found for key, _, _ in BESIDE):
            made.append(
                drawing(
                    "foretold",
                    "Distance online against offline skill, size and speed",
                    f"{told} against offline skill, size and speed.{hollow}",
                    lambda n: foretold(found, narrow=n),
                )
            )
    return made


def write_leaderboard(places: Sequence[Path | str], out: Path | str, title: str = "Coupled runs") -> Path:
    """Write a leaderboard of the runs at ``places``.

    Args:
        places: see :func:`entries`.
        out: the file to write, or a folder for ``leaderboard.html``.
        title: of the page.

    Raises:
        SubgridError: no runs there, or ``out`` cannot be written.
    """
    found = entries([Path(place) for place in places])
    target = Path(out)
    if target.is_dir():
        target = target / "leaderboard.html"
    columns, cells = rows(found, target)
    keys = [column.key for column in columns]
    page = template("leaderboard.html").render(
        title=title,
        lead=(
            f"{len(found)} coupled runs. Click a heading to sort, click again to turn the order round. Red: not "
            "finite, or further from the control than 1 K, 5 % of humidity or 10 % of rain over its last third (in "
            "a study: over the last year, where it has one). "
            "“/ floor”: distance to the control in noise floors; 1 is another run of the model itself."
        ),
        columns=columns,
        rows=cells,
        first=keys.index(FIRST) if FIRST in keys else 0,
        drawings=drawings(found),
    )
    with only_writer(target):
        write_text(target, page)
    return target
