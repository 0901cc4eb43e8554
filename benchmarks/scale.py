"""What the rate of conversion means for the whole of ClimSim: sizes, hours, processes, downloads.

``--lines FILE`` takes the line of an earlier run of the conversion benchmark instead of running it; ``--docs
docs/scale.md`` also writes the tables there.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import emit, interleaved, measure, median_ratio, options, scratch
from loader import copier
from table import HEAD, machine, markdown, rows, write_page

#: Columns of the files that the conversion benchmark converts, of its full size.
BENCHMARK_COLUMNS = 384
ALL_SETS = ("v1", "v2", "v2_rh_mc", "v3", "v4", "v5", "v6")
#: Values of a column in a file before physics and in one after, and levels: of the published files.
VALUES, LEVELS = {"before": 617, "after": 368}, 60
#: Steps of ten years of 365 days, and of the published training split.
PORTIONS = {"train split": 26_280, "every step": 262_800}
PROCESSES = (1, 16, 128)
#: Gbit/s of a network, and GB/s of a file system that many processes share.
NETWORKS, FILE_SYSTEM = (0.1, 1.0, 10.0), 10.0
#: Bytes of a row beside its values: time, column, weight.
MARK_BYTES = 16


@dataclass(frozen=True)
class Published:
    """A published data set: its columns, and its size as its authors state it."""

    name: str
    columns: int
    stated: str

    def file_bytes(self, kind: str) -> int:
        """Of one file, its header left out."""
        return 8 * VALUES[kind] * self.columns


DATA = (Published("low-res", 384, "744 GB"), Published("high-res", 21_600, "41.2 TB"))


@dataclass(frozen=True)
class SetSize:
    """What a variable set takes for each row: values stored by array, bytes read, files of a step by kind."""

    stored: dict[str, int]
    read_bytes: int
    files: dict[str, int]

    @property
    def row_bytes(self) -> int:
        """Of a row in a store."""
        return 4 * sum(self.stored.values()) + MARK_BYTES


def needs_of(name: str) -> dict[tuple[int, str], list[str]]:
    """Variables to read for a step of a set, by (steps back, before or after)."""
    from subgrid.columns import variable_set
    from subgrid.columns.climsim.derive import needed_files, rule, scoring_variables

    chosen = variable_set(name)
    wanted = (*chosen.inputs, *chosen.targets, *scoring_variables(chosen))
    return needed_files(source for v in wanted for source in rule(v.name).sources)


def size_of(name: str) -> SetSize:
    """Sizes of a variable set at the levels of the published files."""
    from subgrid.columns import variable_set
    from subgrid.columns.climsim.derive import scoring_variables
    from subgrid.columns.variables import catalogue

    chosen, needs = variable_set(name), needs_of(name)
    arrays = {"inputs": chosen.inputs, "targets": chosen.targets, "scoring": scoring_variables(chosen)}
    known = catalogue("climsim").variables
    read = {v: known[v].width(LEVELS) if v in known else LEVELS for names in needs.values() for v in names}
    return SetSize(
        stored={array: sum(v.width(LEVELS) for v in group) for array, group in arrays.items()},
        read_bytes=8 * sum(read[v] for names in needs.values() for v in names),
        files={kind: sum(1 for _, k in needs if k == kind) for kind in ("before", "after")},
    )


def conversion_line(smoke: bool) -> dict[str, Any]:
    """The figures of the conversion benchmark, run now."""
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("conversion.py")), *["--smoke"] * smoke]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def rates_of(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Rows a second of one process by variable set, from the lines of the conversion benchmark."""
    figures = [m for line in lines if line["benchmark"] == "conversion" for m in line["measures"]]
    return {
        m["what"].split(",")[0]: m["steps_per_second"] * BENCHMARK_COLUMNS for m in figures if "steps_per_second" in m
    }


def file_rates(found: list[dict[str, Any]], folder: Path, size: int, rounds: int) -> None:
    """GB/s of a file written and flushed, and read back from the file cache, against a copy of memory."""
    content, path = np.ones(size // 4, np.float32), folder / "raw"

    def write() -> None:
        with path.open("wb", buffering=0) as handle:
            handle.write(content.data)
            os.fsync(handle.fileno())

    def read() -> None:
        with path.open("rb", buffering=0) as handle:
            handle.readinto(content.data)

    copy, copied = copier(size)
    writes, reads, copies = interleaved(rounds, write, read, copy)
    floor = copied / statistics.median(copies) / 1e9
    for what, walls in (("a file written and flushed", writes), ("a file read, cache warm", reads)):
        rate = size / statistics.median(walls) / 1e9
        found.append(measure(what, rate, "GB/s", floor, "np.copyto, one thread", ratio=median_ratio(copies, walls)))


def size_table() -> str:
    """Bytes of a row and of whole stores, by variable set."""
    head = ("set", "values stored a row", "bytes a row", "inputs of a block", "values read a row")
    head += tuple(f"{d.name}, {portion}" for d in DATA for portion in PORTIONS)
    body = []
    for name in ALL_SETS:
        size = size_of(name)
        stores = [words(size.row_bytes * d.columns * steps) for d in DATA for steps in PORTIONS.values()]
        values = f"{sum(size.stored.values()):,} ({' + '.join(str(n) for n in size.stored.values() if n)})"
        block = words(4 * size.stored["inputs"] * round(16_384 / 384) * 384)
        body.append((name, values, f"{size.row_bytes:,}", block, f"{size.read_bytes // 8:,}", *stores))
    return markdown(head, body)


def download_table() -> str:
    """Files and bytes to download, and hours at some speeds."""
    head = ("data set", "portion", "history", "files", "bytes", *(f"hours at {n:g} Gbit/s" for n in NETWORKS))
    body = []
    for data in DATA:
        for portion, steps in PORTIONS.items():
            for history in (0, 2) if portion == "train split" else (0,):
                files = 2 * steps * (1 + history)
                size = steps * (1 + history) * sum(data.file_bytes(kind) for kind in VALUES)
                hours = [f"{size * 8 / (n * 1e9) / 3600:,.3g}" for n in NETWORKS]
                body.append((data.name, portion, str(history), f"{files:,}", words(size), *hours))
    return markdown(head, body)


def hours_table(rates: dict[str, float]) -> str:
    """Hours of a conversion with some numbers of processes, and how many of them a file system feeds."""
    head = ("set", "data set", "portion", "rows", "read", "written")
    head += tuple(f"hours, {n} process{'es' if n > 1 else ''}" for n in PROCESSES)
    head += (f"processes that {FILE_SYSTEM:g} GB/s feed",)
    body = []
    for name, rate in rates.items():
        size = size_of(name)
        fed = FILE_SYSTEM * 1e9 / (rate * (size.read_bytes + size.row_bytes))
        for data in DATA:
            for portion, steps in PORTIONS.items():
                count = steps * data.columns
                hours = [f"{count / rate / min(n, fed) / 3600:,.3g}" for n in PROCESSES]
                amounts = words(count * size.read_bytes), words(count * size.row_bytes)
                body.append((name, data.name, portion, f"{count:.3g}", *amounts, *hours, f"{fed:.0f}"))
    return markdown(head, body)


def words(size: float) -> str:
    """Bytes for a reader."""
    from subgrid.columns.climsim.download import size_words

    return size_words(round(size))


def page(lines: list[dict[str, Any]]) -> str:
    """What stands between the markers of the page."""
    measured = [cells for cells in rows(lines) if cells[3]]
    stated = "; ".join(
        f"{d.name}: {d.columns:,} columns, {words(PORTIONS['every step'] * sum(map(d.file_bytes, VALUES)))} "
        f"(stated: {d.stated}) in {2 * PORTIONS['every step']:,} files of {words(d.file_bytes('before'))} and "
        f"{words(d.file_bytes('after'))}"
        for d in DATA
    )
    return "\n\n".join(
        [
            f"Measured on {machine()}; load average {os.getloadavg()[1]:.1f} over the last five minutes.",
            markdown(HEAD, measured),
            f"**Data sets.** {stated}.",
            f"**Downloads**\n\n{download_table()}",
            f"**Stores**, float32\n\n{size_table()}",
            f"**Conversion**\n\n{hours_table(rates_of(lines))}",
        ]
    )


def hours(found: list[dict[str, Any]], rates: dict[str, float]) -> None:
    """Hours of one process for all of the small data set."""
    small = DATA[0]
    for name, rate in rates.items():
        needed = PORTIONS["every step"] * small.columns / rate / 3600
        found.append(measure(f"all of {small.name} to {name}, one process", needed, "h"))


def main() -> None:
    """Measure or read; print; write the page."""
    chosen = options(
        __doc__,
        lines={"type": Path, "help": "JSON lines of an earlier run of the conversion benchmark"},
        docs={"type": Path, "help": "page whose part between the markers is replaced"},
    )
    with emit("scale", chosen.smoke) as found, scratch() as folder:
        if chosen.lines:
            lines = [json.loads(line) for line in chosen.lines.read_text().splitlines()]
        else:
            lines = [conversion_line(chosen.smoke)]
        file_rates(found, folder, *((10**6, 1) if chosen.smoke else (10**8, 5)))
        hours(found, rates_of(lines))
    if chosen.docs:
        write_page(chosen.docs, page([*lines, {"benchmark": "scale", "measures": found}]))


if __name__ == "__main__":
    main()
