"""Bundles for the tests: of an emulator, or of a model of one line; and how they are compiled."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from subgrid.deployment import ExportConfig, export
from subgrid.deployment.contract import of_model
from subgrid.deployment.fortran import render
from subgrid.deployment.vectors import write_vectors
from subgrid.emulator import save_emulator

STRICT = ("-std=f2018", "-Wall", "-Wextra", "-Werror", "-O1")
FAKE = Path(__file__).with_name("fake_ftorch.f90")

needs_gfortran = pytest.mark.skipif(shutil.which("gfortran") is None, reason="gfortran is missing: install it")
needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is missing: install it")
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is missing: install it")


class Halves(nn.Module):
    """The first ``n_out`` inputs, halved: the model of ``fake_ftorch.f90``."""

    def __init__(self, n_out: int) -> None:
        super().__init__()
        self.n_out = n_out

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x[:, : self.n_out]


def variable(name: str, first: int, width: int, **more: str) -> dict[str, Any]:
    """A variable of a contract."""
    kind = "profile" if width > 1 else "scalar"
    return {
        "name": name,
        "units": "K",
        "long_name": f"the {name}",
        "kind": kind,
        "first": first,
        "width": width,
        **more,
    }


def contract(model: Path | None = None, **changes: Any) -> dict[str, Any]:
    """The contract of ten inputs and six outputs on four levels."""
    held = {"file": "model.pt", "bytes": 3, "crc32": 0xFEDCBA98}
    if model is not None:
        held = of_model(model)
    inputs = [variable("state_t", 1, 4), variable("state_q0001", 5, 4), variable("state_ps", 9, 1)]
    return {
        "name": "halves",
        "n_in": 10,
        "n_out": 6,
        "levels": 4,
        "time_step_s": 1200.0,
        "pcols": 5,
        "variables": {
            "inputs": [*inputs, variable("pbuf_SOLIN", 10, 1)],
            "outputs": [variable("ptend_t", 1, 4), variable("cam_out_NETSW", 5, 1), variable("cam_out_FLWDS", 6, 1)],
        },
        "model": held,
        "versions": {"torch": "2.0", "subgrid": "0"},
        **changes,
    }


def write_files(folder: Path, described: dict[str, Any]) -> Path:
    """The rendered files below ``folder``."""
    for path, text in render(described).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="ascii")
    return folder


def write_halves(folder: Path, **changes: Any) -> Path:
    """A bundle of the model of one line, whose file is any bytes; the last one has its high bit set."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.pt").write_bytes(np.random.default_rng(0).bytes(70_000) + b"\xff")
    described = contract(folder / "model.pt", **changes)
    columns = np.random.default_rng(1).standard_normal((23, 10)).astype(np.float32)
    spread = np.array([1.0, 2.0, 0.0, 1e-9, 1.0, 1.0])
    module = torch.jit.script(Halves(6))
    write_vectors(folder / "test", module, columns, columns.min(0), columns.max(0), spread, described["pcols"])
    return write_files(folder, described)


def write_bundle(folder: Path, emulator: Any, store: Any, name: str = "tiny") -> Path:
    """The bundle of an emulator."""
    save_emulator(emulator, folder.with_name("emulator"))
    export(folder.with_name("emulator"), folder, ExportConfig(str(store.path), name=name))
    return folder


def run(command: list[Any], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a program says, run in ``folder``; standard error with standard output.

    Threads that wait do not spin: on a busy machine they would keep the others from working.
    """
    return subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )


def succeed(command: list[Any], folder: Path, **environment: str) -> str:
    """The same, which must exit with 0."""
    done = run(command, folder, **environment)
    assert done.returncode == 0, done.stdout
    return done.stdout


def build_driver(bundle: Path, out: Path, *flags: str, fake: bool = False, source: Path | None = None) -> Path:
    """Compile the module of a bundle and its driver, or the program ``source``, in ``out``; warnings are errors."""
    out.mkdir(parents=True, exist_ok=True)
    (module,) = bundle.glob("*_ftorch.F90")
    if fake:
        succeed(["gfortran", "-c", FAKE, *flags], out)
        flags = ("-DUSE_FTORCH", *flags)
    objects = [out / "fake_ftorch.o"] if fake else []
    succeed(["gfortran", *STRICT, *flags, "-c", module], out)
    program = source or bundle / "test" / "driver.F90"
    made = out / program.stem
    succeed(["gfortran", *STRICT, *flags, program, out / f"{module.stem}.o", *objects, "-o", made], out)
    return made
