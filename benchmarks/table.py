"""Runs every benchmark, one after the other, and prints their figures as a table; writes it into a page on request."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

TOPICS = (
    "start",
    "conversion",
    "kaggle",
    "loader",
    "scores",
    "training",
    "networks",
    "generation",
    "coupling",
    "online",
)
#: Where jax and torch take turns on the same cores, threads that wait must not spin; alone, torch is faster if they do.
TAKE_TURNS = ("generation", "coupling", "online")
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
#: The same for networks of both sizes; those at paper size take longer than everything else together.
PAPER_BEGIN, PAPER_END = "<!-- paper figures -->", "<!-- end of paper figures -->"
WAYS = ("plain", "eager", "bf16", "script", "compile", "compile bf16", "graphs bf16")
HEAD = ("topic", "what", "measured", "floor", "ratio", "goal", "met")
#: Packages whose versions decide the figures.
PACKAGES = ("python", "torch", "numpy", "jax", "jcm")


def run_all(topics: dict[str, tuple[str, ...]], smoke: bool) -> list[dict[str, Any]]:
    """Each benchmark, with its options, in its own process, so that none inherits threads or memory of another."""
    found = []
    for topic, given in topics.items():
        print(f"{topic} ...", file=sys.stderr, flush=True)
        command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name(f"{topic}.py")), *given]
        waiting = {"OMP_WAIT_POLICY": "PASSIVE"} if topic in TAKE_TURNS else {}
        environment = {**os.environ, **waiting}
        words = command + ["--smoke"] * smoke
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        found.append(json.loads(done.stdout))
    return found


def rows(lines: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """One row a figure."""
    return [row(line["benchmark"], m) for line in lines for m in line["measures"]]


def row(topic: str, m: dict[str, Any]) -> tuple[str, ...]:
    """The cells of one figure."""
    goal = "" if m["met"] is None else f"≤ {m['at_most']:g}" if m["at_most"] is not None else f"≥ {m['at_least']:g}"
    if goal and m["judged"] == "value" and m["unit"] != "1":
        goal = f"{goal} {m['unit']}"
    return (
        topic,
        m["what"],
        number(m["value"], m["unit"]),
        f"{number(m['floor'], m['unit'])} ({m['floor_is']})" if "floor" in m else "",
        "" if m["ratio"] is None else f"{m['ratio']:.3g}",
        goal,
        {True: "yes", False: "no", None: ""}[m["met"]],
    )


def number(value: float, unit: str) -> str:
    """Three significant digits and the unit."""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text if unit == "1" else f"{text} {unit}"


def training_rows(lines: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Speed of each network and precision, which has no goal of its own."""
    return [
        (
            m["what"].split(":")[0],
            f"{m['columns_per_second']:,.0f}",
            f"{m['network_gflop_s']:.3g}",
            f"{m['matmul_peak_gflop_s']:.3g}",
            f"{m['network_share_of_peak']:.2f}",
            f"{m['step_share_of_peak']:.2f}",
        )
        for line in lines
        if line["benchmark"] == "training"
        for m in line["measures"]
    ]


def markdown(head: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def plain(head: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    """A table of aligned columns."""
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [head, tuple("-" * w for w in widths), *body]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(c, widths, strict=True)).rstrip() for c in lines)


def machine() -> str:
    """Cores, memory and versions: what the figures depend on, and nothing that names a machine."""
    import psutil

    from subgrid.base.provenance import versions

    held = versions()
    parts = ", ".join(f"{name} {held[name]}" for name in PACKAGES if name in held)
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, {platform.system()} on {platform.machine()}; {parts}"


def page(lines: list[dict[str, Any]]) -> str:
    """What stands between the markers."""
    load = f"load average {os.getloadavg()[1]:.1f} over the last five minutes"
    speeds = (
        "training",
        "columns/s",
        "network GFLOP/s",
        "matmul peak GFLOP/s",
        "network / peak",
        "whole step / peak",
    )
    parts = [f"Measured on {machine()}; {load}.", markdown(HEAD, rows(lines))]
    if trained := training_rows(lines):
        parts.append(markdown(speeds, trained))
    return "\n\n".join(parts)


def paper_rows(lines: list[dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heads, and a row for each network and kind of work: columns a second by way, the best beside plain, the peak."""
    measures = [
        m for line in lines for m in line["measures"] if m["what"].startswith("paper ") and "columns_per_second" in m
    ]
    ways = [way for way in WAYS if any(way in m["columns_per_second"] for m in measures)]
    body = []
    for m in measures:
        network, work, batch, *_ = (
            part.strip() for part in m["what"].removeprefix("paper ").replace(":", ",").split(",")
        )
        speeds = [f"{m['columns_per_second'][w]:.3g}" if w in m["columns_per_second"] else "" for w in ways]
        goal = "" if m["met"] is None else f"≥ {m['at_least']:g}: {'yes' if m['met'] else 'no'}"
        shares = [f"{m['eager_share_of_peak']:.2f}", f"{m['share_of_peak']:.2f}"]
        body.append((network, f"{work}, {batch.split()[0]}", *speeds, f"{m['ratio']:.2f}", goal, *shares))
    heads = ("network", "work, batch", *ways, "best / plain", "goal", "eager / peak", "best / its peak")
    return heads, body


def paper_page(lines: list[dict[str, Any]]) -> str:
    """What stands between the markers of networks: small sizes as in the table of everything, then paper sizes."""
    peaks = [m for line in lines for m in line["measures"] if "matmul_peak_gflop_s" in m]
    single, half = (max(m[key] for m in peaks) for key in ("matmul_peak_gflop_s", "matmul_peak_bf16_gflop_s"))
    told = f"Matrix products reach {single:,.0f} GFLOP/s in float32 and {half:,.0f} in bfloat16."
    small = [cells for cells in rows(lines) if cells[1].startswith("small ")]
    return "\n\n".join([f"Measured on {machine()}. {told}", markdown(HEAD, small), markdown(*paper_rows(lines))])


def write_page(path: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Replace what stands between the markers of ``path``."""
    before, _, rest = path.read_text().partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main() -> None:
    """Run or read, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument("--lines", type=Path, help="read the JSON lines of an earlier run instead of running")
    parser.add_argument("--save", type=Path, help="keep the JSON lines")
    parser.add_argument("--docs", type=Path, help=f"page whose part between {BEGIN} and {END} is replaced")
    parser.add_argument("--paper", action="store_true", help="networks alone, at paper size too: twenty minutes")
    parser.add_argument("--given", default="", help="further options of the paper sizes, such as '--batch 384'")
    chosen = parser.parse_args()
    if chosen.paper:
        topics = {"networks": tuple(chosen.given.split())}
    else:
        topics = {topic: ("--only", "small") if topic == "networks" else () for topic in TOPICS}
        if os.environ.get("FTorch_DIR"):  # noqa: SIM112 (it is CMake's)
            topics["fortran"] = ()
    if chosen.lines:
        lines = [json.loads(line) for line in chosen.lines.read_text().splitlines()]
    else:
        lines = run_all(topics, chosen.smoke)
    if chosen.save:
        chosen.save.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(plain(*paper_rows(lines)) if chosen.paper else plain(HEAD, rows(lines)))
    if chosen.docs and chosen.paper:
        write_page(chosen.docs, paper_page(lines), PAPER_BEGIN, PAPER_END)
    elif chosen.docs:
        write_page(chosen.docs, page(lines))


if __name__ == "__main__":
    main()
