"""Whether a bundle is what was exported, and computes here what it computed there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from subgrid.base.errors import SubgridError
from subgrid.base.files import read_json
from subgrid.base.formats import BUNDLE, require_format
from subgrid.base.hub import sha256
from subgrid.deployment.bundle import SUMS, TOLERANCE, VECTORS
from subgrid.deployment.contract import CONTRACT, MODEL, of_model, same_contract
from subgrid.deployment.vectors import Vectors, read_vectors, run_vectors

#: CMake's variable for the folder of FTorchConfig.cmake.
FTORCH = "FTorch_DIR"
#: What a driver answers that was built without FTorch.
STUB = 77
#: Longest that building or running the driver may take, s.
PATIENCE = 600


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: its name, whether it holds (None: it could not be looked at), and what was seen."""

    name: str
    holds: bool | None
    seen: str


def verify(bundle: Path | str, fortran: bool | None = None) -> list[dict[str, Any]]:
    """Checksums, contract, shapes, vectors, rows of zeros, and, where it can be built, the Fortran driver.

    The model is TorchScript: loading it executes code from the file. Its checksum is compared before, with what the
    bundle says of itself.

    Args:
        bundle: its folder.
        fortran: build and run the driver; None: where a compiler, CMake and FTorch (``FTorch_DIR``) are there.

    Returns:
        Checks: ``name``, ``holds`` (None: not looked at) and ``seen``.

    Raises:
        SubgridError: the first check that does not hold, or a driver that is asked for and cannot be built.
    """
    bundle = Path(bundle)
    contract = _contract(bundle)
    found = [_checksums(bundle), _version(contract)]
    module = _load(bundle, contract)
    vectors = read_vectors(bundle / VECTORS)
    found += [_shapes(module, contract, vectors), _padding(module, vectors), *_answers(module, bundle)]
    if contract["target"] != "torchscript":
        found.append(_driver(bundle, contract, fortran))
    return [asdict(check) for check in found]


def _contract(bundle: Path) -> dict[str, Any]:
    if not (bundle / CONTRACT).is_file():
        raise SubgridError(
            f"{bundle} is no bundle ({CONTRACT} is missing): make one with `subgrid export RUN --out {bundle}`"
        )
    return require_format(read_json(bundle / CONTRACT), BUNDLE, bundle / CONTRACT)


def _checksums(bundle: Path) -> Check:
    """Every listed file is there and as it was; what was built beside them is no part of the bundle."""
    if not (bundle / SUMS).is_file():
        raise SubgridError(f"{bundle / SUMS} is missing: export the bundle again")
    lines = [line.split("  ", 1) for line in (bundle / SUMS).read_text().splitlines() if "  " in line]
    for checksum, path in lines:
        there = (bundle / path).is_file()
        if not there or sha256(bundle / path) != checksum:
            what = "was changed" if there else "is missing"
            raise SubgridError(f"{bundle / path} {what} ({SUMS}): export the bundle again, or fetch it again")
    return Check("checksums", True, f"{len(lines)} files as listed")


def _version(contract: dict[str, Any]) -> Check:
    """A libtorch older than the one that wrote the model may not read it."""
    made = str(contract["versions"]["torch"])
    if _release(torch.__version__) < _release(made):
        raise SubgridError(
            f"the bundle was made with torch {made} and this is {torch.__version__}, which is older: install torch "
            f"{made.split('+')[0]} or newer, or export the bundle again with this one"
        )
    return Check("torch", True, f"{torch.__version__}, made with {made}")


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+")[0].split(".")[:3] if part.isdigit())


def _load(bundle: Path, contract: dict[str, Any]) -> Any:
    """The model, whose file and contract are those beside it."""
    file, extra = bundle / MODEL, {CONTRACT: ""}
    if of_model(file) != contract["model"]:
        raise SubgridError(f"{file} is not the model of {bundle / CONTRACT}: export the bundle again")
    if not zipfile.is_zipfile(file):
        raise SubgridError(f"{file} is not TorchScript: export the bundle again")
    module = torch.jit.load(str(file), map_location="cpu", _extra_files=extra).eval()
    same_contract(json.loads(extra[CONTRACT]), contract, file)
    return module


def _shapes(module: Any, contract: dict[str, Any], vectors: Vectors) -> Check:
    """What does not fit is refused; any number of columns is taken; the caller's columns stay as they are."""
    x = torch.from_numpy(vectors.cases[0].x.copy())
    if x.shape[1] != contract["n_in"] or len(vectors.spread) != contract["n_out"]:
        shape = f"{x.shape[1]} -> {len(vectors.spread)}"
        raise SubgridError(f"the test vectors are {shape} and the contract {contract['n_in']} -> {contract['n_out']}")
    wrong = (x[:, :-1], torch.cat([x, x[:, :1]], dim=1), x[0], x[None], x.double())
    if any(_takes(module, one) for one in wrong):
        raise SubgridError("the model takes columns of another shape or type without a word: export the bundle again")
    for columns in (1, 2, contract["pcols"] + 1):
        many, before = x[:1].expand(columns, -1).clone(), x[:1].expand(columns, -1).clone()
        with torch.inference_mode():
            y = module(many)
        if y.shape != (columns, contract["n_out"]) or not torch.equal(many, before):
            raise SubgridError(f"for {columns} columns the model gives {tuple(y.shape)}, or changes what it was given")
    return Check("shapes", True, f"(ncol, {contract['n_in']}) -> (ncol, {contract['n_out']}); others are refused")


def _takes(module: Any, x: Tensor) -> bool:
    try:
        with torch.inference_mode():
            module(x)
    except (RuntimeError, torch.jit.Error):
        return False
    return True


def _padding(module: Any, vectors: Vectors) -> Check:
    """Rows of zeros are answered with zeros, and change no other row."""
    x = torch.from_numpy(vectors.cases[0].x[:1].copy())
    chunk = torch.zeros(5, x.shape[1])
    chunk[1] = x[0]
    with torch.inference_mode():
        found, alone = module(chunk), module(x)
    if found[[0, 2, 3, 4]].any() or not torch.equal(found[1], alone[0]):
        raise SubgridError("rows of zeros are not answered with zeros, or change other rows: export the bundle again")
    return Check("padding", True, "rows of zeros are answered with zeros, and change no other row")


def _answers(module: Any, bundle: Path) -> list[Check]:
    """The test vectors: equal where torch is the one that made them, within rounding elsewhere."""
    found = []
    for case in run_vectors(module, bundle / VECTORS):
        largest = case["max_relative_difference"]
        if not largest <= TOLERANCE:
            raise SubgridError(
                f"test vectors '{case['name']}': the answers differ by {largest:.1e} of an output's spread, allowed "
                f"are {TOLERANCE:g}"
            )
        found.append(Check(f"vectors {case['name']}", True, f"{case['columns']} columns, max|Δ|/std {largest:.1e}"))
    return found


def _driver(bundle: Path, contract: dict[str, Any], asked: bool | None) -> Check:
    """Build the driver beside nothing of the bundle, and run it."""
    missing = [tool for tool in ("cmake", "gfortran") if shutil.which(tool) is None]
    missing += [] if os.environ.get(FTORCH) else [f"FTorch (set {FTORCH} to the folder of its CMake files)"]
    if asked is False:
        return Check("fortran driver", None, "not asked for")
    if missing and asked is None:
        return Check("fortran driver", None, f"not run: no {', no '.join(missing)}")
    if missing:
        raise SubgridError(f"the Fortran driver cannot be built: no {', no '.join(missing)}")
    prefix = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
    with tempfile.TemporaryDirectory(prefix="subgrid-verify-") as built:
        _run(["cmake", "-S", str(bundle), "-B", built, prefix], "configuring the Fortran driver")
        _run(["cmake", "--build", built], "building the Fortran driver")
        given = [str(bundle / MODEL), str(bundle / VECTORS)]
        told = _run([str(Path(built) / f"{contract['name']}_driver"), *given], "the Fortran driver")
    return Check("fortran driver", True, told.strip().splitlines()[-1])


def _run(command: list[str], what: str) -> str:
    """Output of a command; :class:`SubgridError` with its last lines if it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SubgridError(f"{what} failed: {error}") from error
    if done.returncode:
        reason = " / ".join((done.stdout + done.stderr).strip().splitlines()[-3:])
        stub = " (it was built without FTorch)" if done.returncode == STUB else ""
        raise SubgridError(f"{what} failed with {done.returncode}{stub}: {reason}")
    return done.stdout
