"""A call from Fortran, through FTorch, beside the same call of the same model from Python; needs FTorch_DIR.

FTorch_DIR is CMake's variable: the folder of FTorchConfig.cmake of an installed FTorch. The Fortran call checks shapes
and that every number is finite; Python's is that of the loaded model alone. Each is a process of its own, told its
number of threads in the same way, and both keep freed memory, as the command line of subgrid does: otherwise glibc
gives the arrays of many columns back to the system after every call, and meets each page anew at the next, which makes
a call of a small network on a grid a third slower.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import emit, measure, options, scratch, synthetic_store

from subgrid.base.memory import KEPT, LARGE

#: Median time of a Fortran call against Python's.
GOAL = 1.10
#: Columns of a chunk of a host, and of a whole grid.
PCOLS, GRID = 16, 384
NETWORKS = (("mlp", "small"), ("unet", "small"), ("mlp", "paper"))


def ftorch_folder() -> Path:
    """The folder of FTorchConfig.cmake, or the end of the benchmark."""
    folder = Path(os.environ.get("FTorch_DIR", ""))  # noqa: SIM112 (it is CMake's)
    if not (folder / "FTorchConfig.cmake").is_file():
        raise SystemExit("this benchmark needs FTorch: set FTorch_DIR to the folder of its FTorchConfig.cmake")
    return folder


def write_bundle(folder: Path, store: Any, network: str, size: str) -> None:
    """A bundle of an untrained emulator: what the weights are makes no difference to the time that they take."""
    import torch

    from subgrid.deployment import ExportConfig, export
    from subgrid.emulator import build_emulator, save_emulator
    from subgrid.training.statistics import fit_transforms

    torch.manual_seed(0)
    variables, grid = store.variable_set("speedy"), store.grid.vertical
    emulator = build_emulator(network, variables, grid, store.spec.time_step, size=size)
    fit_transforms(emulator, store["train"])
    save_emulator(emulator.eval(), folder.with_name(f"{folder.name}-emulator"))
    export(
        folder.with_name(f"{folder.name}-emulator"), folder, ExportConfig(str(store.path), name="timed", pcols=PCOLS)
    )


def build(bundle: Path, ftorch: Path) -> Path:
    """The driver of a bundle, built by CMake."""
    made = bundle / "build"
    for command in (["-S", bundle, "-B", made, f"-DFTorch_DIR={ftorch}"], ["--build", made]):
        subprocess.run(["cmake", *map(str, command)], check=True, stdout=sys.stderr, stderr=sys.stderr)
    return made / "timed_driver"


def milliseconds(command: list[Any], bundle: Path, threads: int) -> dict[int, float]:
    """Median milliseconds of a call by number of columns, as a process of so many threads prints them."""
    kept = {"MALLOC_TRIM_THRESHOLD_": str(KEPT), "MALLOC_MMAP_THRESHOLD_": str(LARGE)}
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, **kept, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": paths}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=bundle, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("time ")]
    return {int(columns): float(value) for _, _, columns, value in lines}


def time_python(calls: int) -> None:
    """Print the median milliseconds of a call of the bundle in this folder, as its driver does; three calls warm up."""
    import torch

    from subgrid.deployment.vectors import read_vectors

    module = torch.jit.load("model.pt")
    cases = {case.name: torch.from_numpy(case.x) for case in read_vectors(Path("test")).cases}
    with torch.inference_mode():
        for name in ("pcols", "grid"):
            walls = []
            for _ in range(calls + 3):
                started = time.perf_counter()
                module(cases[name])
                walls.append(time.perf_counter() - started)
            print("time", name, len(cases[name]), 1e3 * statistics.median(walls[3:]))


def compare(what: str, bundle: Path, driver: Path, threads: int, rounds: int, calls: int) -> list[dict[str, Any]]:
    """Both, in turns, for a chunk and for a grid."""
    python = [sys.executable, "-c", f"from fortran import time_python; time_python({calls})"]
    ways = ([driver, "--time", calls], python)
    turns = [[milliseconds(way, bundle, threads) for way in ways] for _ in range(rounds)]
    return [
        measure(
            f"{what}: a call of {n} columns on {threads} thread{'s' * (threads > 1)}",
            statistics.median(fortran[n] for fortran, _ in turns),
            "ms",
            statistics.median(python[n] for _, python in turns),
            "the same call in Python",
            ratio=statistics.median(fortran[n] / python[n] for fortran, python in turns),
            at_most=GOAL,
        )
        for n in turns[0][0]
    ]


def main() -> None:
    """Every network with one thread and with two."""
    smoke = options(__doc__).smoke
    ftorch = ftorch_folder()
    rounds, calls, grid = (1, 5, 48) if smoke else (9, 40, GRID)
    with emit("fortran", smoke) as found, scratch() as folder:
        store = synthetic_store(folder / "store.zarr", 1024, 512, block=512, columns=grid)
        for network, size in NETWORKS[:1] if smoke else NETWORKS:
            bundle = folder / f"{network}-{size}"
            write_bundle(bundle, store, network, size)
            driver = build(bundle, ftorch)
            for threads in (1, 2):
                found += compare(f"{size} {network}", bundle, driver, threads, rounds, calls)


if __name__ == "__main__":
    main()
