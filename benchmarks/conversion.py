"""ClimSim's files to a store by one process, beside the NetCDF library reading the same variables; and its memory."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from common import emit, interleaved, measure, median_ratio, options, scratch

RATE_GOAL = 0.6
#: GB: 2 GiB
MEMORY_GOAL = 2.147
VARIABLES = ("v1", "v2_rh_mc", "v6")
#: Converts in a process of its own, and says how much memory that held at most (kB).
ALONE = """
import resource, sys
from subgrid.columns.climsim.convert import ConvertConfig, convert
convert(ConvertConfig(sys.argv[1], sys.argv[2], "train", sys.argv[3]), sys.argv[4])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def train_files(folder: Path, columns: int, levels: int, most: int) -> tuple[Path, Path]:
    """A source of ``most`` steps of the train split at most, and its grid file.

    A sample has one day of each period. Each of its steps that has two before it is linked to, with those, under the
    name of a step of the train split, of which there are ten a day; and again from the first one.
    """
    from subgrid.columns.climsim.files import SPLITS, find_files
    from subgrid.columns.climsim.names import file_name, month_name, step_time
    from subgrid.columns.climsim.sample import SampleConfig, write_sample

    write_sample(folder / "sample", SampleConfig(days=1, columns=columns, levels=levels))
    found = find_files(folder / "sample" / "train")
    whole = [number for number in found.pairs if {number - 1, number - 2} <= set(found.pairs)]
    for number, target in zip(islice(cycle(whole), most), SPLITS["train"].steps[1:], strict=False):
        for back in range(3):
            year, month, day, seconds = step_time(target - back)
            for kind in ("mli", "mlo"):
                link = folder / "source" / month_name(year, month) / file_name(kind, year, month, day, seconds)
                link.parent.mkdir(parents=True, exist_ok=True)
                os.link(found.files[kind][number - back], link)
    return folder / "source", next((folder / "sample").glob("*grid-info.nc"))


def alone(months: Path, variables: str) -> tuple[Callable[[], int], int]:
    """A function that reads all that a conversion needs with netCDF4, file by file, and returns its bytes; steps."""
    import netCDF4

    from subgrid.columns import variable_set
    from subgrid.columns.climsim.derive import needed_files, rule, scoring_variables
    from subgrid.columns.climsim.files import find_files, plan_split

    held, source = variable_set(variables), find_files(months)
    every = (*held.inputs, *held.targets, *scoring_variables(held))
    needs = needed_files(s for v in every for s in rule(v.name).sources)
    steps = plan_split(source, "train", needs).steps
    files = {"before": source.before, "after": source.files["mlo"]}

    def read() -> int:
        total = 0
        for number in steps:
            for (back, kind), names in needs.items():
                with netCDF4.Dataset(files[kind][number - back]) as file:
                    file.set_auto_maskandscale(False)
                    total += sum(file[name][...].nbytes for name in names)
        return total

    return read, len(steps)


def rate(folder: Path, months: Path, grid: Path, variables: str, rounds: int) -> dict[str, Any]:
    """Bytes that are read a second, converting and with netCDF4 alone; both from the memory of the file system."""
    from subgrid.columns.climsim.convert import ConvertConfig, convert

    read, steps = alone(months, variables)
    config, out = ConvertConfig(str(months), variables, "train", str(grid)), folder / "store"
    size = read()

    def whole() -> None:
        convert(config, out)

    walls: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for kept, (wall,) in zip(walls, interleaved(1, whole, read), strict=True):
            kept.append(wall)
        shutil.rmtree(out)
    converting, reading = walls
    return measure(
        f"{variables}, {steps} steps of {size // steps / 1e6:.2g} MB",
        size / statistics.median(converting) / 1e9,
        "GB/s",
        size / statistics.median(reading) / 1e9,
        "netCDF4 reads the same variables",
        ratio=median_ratio(reading, converting),
        at_least=RATE_GOAL,
        steps_per_second=steps / statistics.median(converting),
    )


def memory(folder: Path, months: Path, grid: Path, variables: str) -> dict[str, Any]:
    """Resident memory at its highest of a process that converts."""
    command = [sys.executable, "-W", "ignore", "-c", ALONE, str(months), variables, str(grid), str(folder / "alone")]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return measure(f"{variables}, most memory at a time", float(said) / 1e6, "GB", at_most=MEMORY_GOAL)


def main() -> None:
    """Write files, then measure."""
    chosen = options(__doc__)
    columns, levels, steps, rounds = (12, 9, 20, 1) if chosen.smoke else (384, 60, 420, 5)
    with emit("conversion", chosen.smoke) as found, scratch() as folder:
        months, grid = train_files(folder, columns, levels, steps)
        found += [rate(folder, months, grid, variables, rounds) for variables in VARIABLES]
        found.append(memory(folder, months, grid, VARIABLES[-1]))


if __name__ == "__main__":
    main()
