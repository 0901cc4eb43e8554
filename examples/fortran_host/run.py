"""Builds the mini-host with a bundle, runs it, and compares its tendencies with Python's to the last bit.

    python examples/fortran_host/run.py                    a small network of ClimSim's columns, trained on the spot
    python examples/fortran_host/run.py --data STORE       the same, of columns of that store
    python examples/fortran_host/run.py --bundle FOLDER    a bundle that is there already

Exit code: 0 equal, 1 not equal or failed, 77 FTorch is missing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from subgrid.base.errors import SubgridError
from subgrid.base.files import make_folder
from subgrid.base.logs import set_up
from subgrid.columns.store import ColumnStore, Split, open_store
from subgrid.deployment.bundle import SPLITS
from subgrid.deployment.vectors import read_vectors, torch_threads

HERE = Path(__file__).parent
#: What is made where nothing is given: columns of the synthetic grid, its set, and steps that the host makes.
COLUMNS, VARIABLES, STEPS = 96, "v2_rh_mc", 4
NO_FTORCH = 77


def make_store(folder: Path) -> ColumnStore:
    """A store of synthetic columns in ClimSim's schema: plausible, not real."""
    from subgrid.columns.climsim.convert import ConvertConfig, convert
    from subgrid.columns.climsim.sample import SampleConfig, write_sample

    if (folder / "store.zarr").exists():  # of an earlier command
        return open_store(folder / "store.zarr")
    made = write_sample(folder / "sample", SampleConfig(columns=COLUMNS, stride=2))
    return convert(ConvertConfig(made["folder"], VARIABLES, grid=made["grid"]), folder / "store.zarr")


def unseen(store: ColumnStore) -> Split:
    """Columns that the network has not been trained on."""
    return store[next(name for name in SPLITS if name in store.split_names)]


def make_bundle(store: ColumnStore, folder: Path) -> Path:
    """Train a small network on ``store`` and export it."""
    from subgrid.deployment import ExportConfig, export
    from subgrid.training import TrainConfig, fit

    network = {"network": {"widths": [128, 128]}, "recipe_settings": {"epochs": 2, "batch_size": 256}}
    fit(TrainConfig(str(store.path), variables=VARIABLES, precision="32-true", **network), folder / "run")
    export(folder / "run", folder / "bundle", ExportConfig(str(store.path), name="mini"))
    return folder / "bundle"


def write_columns(bundle: Path, store: ColumnStore | None, path: Path) -> np.ndarray:
    """Write what the host reads, (step, column, n_in): the first steps of the store, else the grid of the bundle."""
    if store is None:
        x = next(case.x for case in read_vectors(bundle / "test").cases if case.name == "grid")[None]
    else:
        from subgrid.emulator.files import load

        grid = store.grid.columns
        rows = unseen(store).read_variables(load(bundle.parent / "run").variables.inputs, 0)
        steps = min(STEPS, len(rows) // grid)
        x = rows[: steps * grid].reshape(steps, grid, -1)
    path.write_bytes(np.ascontiguousarray(x, "<f4").tobytes())
    return x


def build_host(bundle: Path, folder: Path) -> Path:
    """Let CMake build the host; without FTorch that is one that says so."""
    folder.mkdir(parents=True, exist_ok=True)
    named = os.environ.get("FTorch_DIR")  # noqa: SIM112 (it is CMake's)
    given = [f"-DFTorch_DIR={named}"] if named else []
    for words in (["-S", HERE, "-B", folder, f"-DBUNDLE={bundle.resolve()}", *given], ["--build", folder]):
        with (folder / "build.log").open("a") as log:
            done = subprocess.run(["cmake", *map(str, words)], stdout=log, stderr=log)
        if done.returncode:
            raise SubgridError(f"the host cannot be built: see {folder / 'build.log'}")
    return folder / "host"


def python_answers(bundle: Path, x: np.ndarray, size: int) -> np.ndarray:
    """What Python answers to the columns of each step, ``size`` at a time."""
    module = torch.jit.load(str(bundle / "model.pt"))
    found = []
    with torch_threads(1), torch.inference_mode():
        for step in torch.from_numpy(x.copy()):
            found.append(torch.cat([module(part) for part in step.split(size)]).numpy())
    return np.stack(found)


def compare(bundle: Path, x: np.ndarray, folder: Path) -> bool:
    """Say of both ways whether the host got the bits that Python gets."""
    equal = True
    for name, size in (("chunks", chunk_size(bundle)), ("gathered", x.shape[1])):
        wanted = python_answers(bundle, x, size)
        found = np.fromfile(folder / f"{name}.bin", "<f4").reshape(wanted.shape)
        same = np.array_equal(found, wanted)
        words = "equal to the last bit" if same else f"differ by up to {np.abs(found - wanted).max():.3g}"
        print(f"{name}: tendencies of Fortran and Python {words}")
        equal &= same
    return equal


def chunk_size(bundle: Path) -> int:
    """Columns of a chunk, which the test vectors of the bundle know."""
    return next(len(case.x) for case in read_vectors(bundle / "test").cases if case.name == "pcols")


def main() -> int:
    """Make what is missing, build, run, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, help="a bundle that is there already")
    parser.add_argument("--data", help="a store of ClimSim's columns to train on (default: synthetic ones)")
    parser.add_argument("--out", type=Path, default=Path("fortran_host"), help="folder for everything that is made")
    parser.add_argument("--threads", type=int, default=2, help="OpenMP threads of the host")
    chosen = parser.parse_args()
    set_up()
    out, store = make_folder(chosen.out.resolve()), None
    bundle = chosen.bundle
    if bundle is None:
        store = open_store(chosen.data) if chosen.data else make_store(out)
        bundle = make_bundle(store, out)
    x = write_columns(bundle, store, out / "columns.bin")
    program = build_host(bundle, out / "build")
    words = [program, bundle / "model.pt", out / "columns.bin", len(x), out]
    done = subprocess.run([str(word) for word in words], env={**os.environ, "OMP_NUM_THREADS": str(chosen.threads)})
    if done.returncode == NO_FTORCH:
        print("FTorch is missing: set FTorch_DIR to the folder of its FTorchConfig.cmake, and give the command again")
    if done.returncode:
        return done.returncode
    return 0 if compare(bundle, x, out) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SubgridError as error:
        sys.exit(f"error: {error}")
