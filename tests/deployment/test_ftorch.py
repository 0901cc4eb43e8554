"""Bundles in Fortran through a real FTorch: every architecture and recipe answers as Python does, to the bit."""

from __future__ import annotations

import json
import os
import re
import sys
from itertools import product
from pathlib import Path

import pytest

from subgrid.deployment import ExportConfig, export, verify
from subgrid.emulator import save_emulator
from subgrid.networks import names
from subgrid.training import TrainConfig
from subgrid.training.fit import prepare

from .bundles import needs_cmake, needs_gfortran, needs_make, run, succeed, write_bundle

pytestmark = [pytest.mark.ftorch, needs_gfortran, needs_make, needs_cmake]

RECIPES = ("standard", "confidence", "difference", "multirepresentation", "expanded")
#: Recipes with an objective of their own do not go with networks that bring theirs.
OBJECTIVES, DISTRIBUTIONS = ("confidence", "difference"), ("cvae", "hsr", "rpn")
PAIRS = [(a, r) for a, r in product(names(), RECIPES) if not (a in DISTRIBUTIONS and r in OBJECTIVES)]


@pytest.fixture(scope="module")
def config_folder():
    """The folder of FTorchConfig.cmake."""
    folder = Path(os.environ.get("FTorch_DIR", ""))  # noqa: SIM112 (it is CMake's)
    if not (folder / "FTorchConfig.cmake").is_file():
        pytest.skip("FTorch is absent: set FTorch_DIR to the folder of its FTorchConfig.cmake")
    return folder


@pytest.fixture(scope="module")
def root(config_folder):
    """Where FTorch is installed."""
    return next(above for above in config_folder.parents if (above / "include" / "ftorch").is_dir())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, tiny_emulator, tiny_store):
    """The bundle of the untrained MLP; do not change it."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "mlp", tiny_emulator, tiny_store)


@pytest.fixture(scope="module")
def build(bundle, config_folder):
    """The folder in which CMake built that bundle."""
    made = bundle.parent / "build"
    succeed(["cmake", "-S", bundle, "-B", made, f"-DFTorch_DIR={config_folder}"], bundle)
    succeed(["cmake", "--build", made], bundle)
    return made


def test_cmake_builds_the_bundle_and_its_tests_pass(build, bundle):
    said = succeed(["ctest", "--test-dir", build, "--output-on-failure"], bundle)
    assert "100% tests passed, 0 tests failed out of 2" in said and "Skipped" not in said


@pytest.mark.parametrize(("architecture", "recipe"), PAIRS)
def test_a_pair_answers_as_in_python(architecture, recipe, tiny_store, tmp_path, root):
    """With one thread to the last bit, whichever way it is called; with two within rounding."""
    settings = {"batch_size": 64}
    config = TrainConfig(str(tiny_store.path), architecture=architecture, recipe=recipe, recipe_settings=settings)
    emulator, _ = prepare(config, tiny_store)
    bundle = write_bundle(tmp_path / "bundle", emulator.eval(), tiny_store)
    command = ["make", "-f", bundle / "tiny.mk", f"tiny_BUILD={tmp_path}", "FFLAGS=-O1", f"FTORCH_ROOT={root}", "test"]
    said = succeed(command, tmp_path)
    assert "FAILED" not in said and re.search(r"^grid, .*difference  0.00E\+00", said.replace("ok      ", ""), re.M)
    assert "4 threads of the host share the model" in said
    assert " 0 failed" in succeed([tmp_path / "tiny_driver"], bundle, OMP_NUM_THREADS="2")


def test_the_driver_tells_the_time_of_a_call(build, bundle):
    said = succeed([build / "tiny_driver", "--time", "20"], bundle, OMP_NUM_THREADS="1")
    assert re.search(r"^time pcols 16 \d*\.\d{6}\ntime grid 384 \d*\.\d{6}$", said, re.MULTILINE)


def test_the_mini_host_gets_the_bits_of_python(bundle, config_folder, tmp_path):
    """Chunks from two threads, and all of them in one call."""
    program = Path(__file__).parents[2] / "examples" / "fortran_host" / "run.py"
    command = [sys.executable, program, "--bundle", bundle, "--out", tmp_path / "host"]
    said = succeed(command, tmp_path, FTorch_DIR=str(config_folder))
    assert "1 steps of 384 columns in 24 chunks on 2 threads" in said
    assert said.count("tendencies of Fortran and Python equal to the last bit") == 2


def test_the_benchmark_tells_the_ratio_to_python(config_folder, tmp_path):
    program = Path(__file__).parents[2] / "benchmarks" / "fortran.py"
    found = json.loads(succeed([sys.executable, "-W", "ignore", program, "--smoke"], tmp_path).splitlines()[-1])
    assert found["benchmark"] == "fortran" and len(found["measures"]) == 4
    assert all(m["judged"] == "ratio" and m["at_most"] == 1.1 and m["ratio"] > 0 for m in found["measures"])


def test_verify_builds_and_runs_the_driver(bundle, config_folder, monkeypatch):
    monkeypatch.setenv("FTorch_DIR", str(config_folder))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    last = verify(bundle, fortran=True)[-1]
    assert last["name"] == "fortran driver" and last["holds"] and last["seen"].endswith("checks, 0 failed")


@pytest.mark.parametrize(("variables", "confidence"), [("v2_rh_mc", True), ("v6", False)])
def test_what_e3sm_hands_over_is_answered_as_in_python(
    variables, confidence, climsim_store, make_emulator, tmp_path, config_folder, monkeypatch
):
    store = climsim_store("v6", 60)
    settings = {"inputs": "raw", "saturation": "sam", "positive_water": False, "confidence": confidence}
    save_emulator(make_emulator(variables=variables, store=store, **settings), tmp_path / "emulator")
    export(tmp_path / "emulator", tmp_path / "out", ExportConfig(str(store.path), target="e3sm", name="mmf"))
    monkeypatch.setenv("FTorch_DIR", str(config_folder))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert verify(tmp_path / "out", fortran=True)[-1]["seen"].endswith("checks, 0 failed")


def test_another_model_of_the_same_size_is_not_loaded(build, bundle, tmp_path):
    held = bytearray((bundle / "model.pt").read_bytes())
    held[len(held) // 2] ^= 1
    (tmp_path / "model.pt").write_bytes(held)
    done = run([build / "tiny_driver", tmp_path / "model.pt"], bundle)
    assert done.returncode == 1 and "another CRC-32" in done.stdout and "[ERROR]" not in done.stdout
