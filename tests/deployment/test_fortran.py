"""The Fortran side of a bundle: what is rendered, the stub, and every check of the driver on a stand-in for FTorch."""

from __future__ import annotations

import re
import shutil
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from subgrid.base.errors import UsageError
from subgrid.deployment.contract import of_model
from subgrid.deployment.fortran import render, require_name

from .bundles import (
    build_driver,
    contract,
    needs_cmake,
    needs_gfortran,
    needs_make,
    run,
    succeed,
    variable,
    write_files,
    write_halves,
)

HOST = Path(__file__).parents[2] / "examples" / "fortran_host"


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """A bundle of a model of one line; do not change it."""
    return write_halves(tmp_path_factory.mktemp("bundle") / "halves")


@pytest.fixture(scope="module")
def stub(halves, tmp_path_factory):
    return build_driver(halves, tmp_path_factory.mktemp("stub"), "-fopenmp")


@pytest.fixture(scope="module")
def fake(halves, tmp_path_factory):
    return build_driver(halves, tmp_path_factory.mktemp("fake"), "-fopenmp", fake=True)


# --- what is rendered


def test_the_files_have_names_of_the_bundle_and_lines_of_fortran():
    files = render(contract(name="climsim_v2"))
    assert list(files) == ["climsim_v2_ftorch.F90", "test/driver.F90", "CMakeLists.txt", "climsim_v2.mk"]
    for path, text in files.items():
        assert text.isascii() and text.endswith("\n"), path
        if path.endswith(".F90"):
            assert max(map(len, text.splitlines())) <= 132, path


def test_the_module_says_where_each_variable_lies_and_in_which_units():
    text = render(contract())["halves_ftorch.F90"]
    for words in ("in_state_q0001_first = 5", "in_state_q0001_last = 8", "out_cam_out_netsw_first = 5", "n_out = 6"):
        assert f"integer, parameter, public :: {words}\n" in text
    assert re.search(r"^! +5 +8 +state_q0001 +K +the state_q0001$", text, re.MULTILINE)
    assert "model_crc32 = 4275878552_int64" in text and "time_step = 1200.0_real64" in text


def test_names_and_words_from_outside_stay_identifiers_and_comments():
    long = "a_tendency_with_a_name_that_is_longer_than_any_identifier_may_be"
    inputs = [
        variable("State T", 1, 4, units="m²/s", long_name="it's\nend program \\ /* not a comment */"),
        variable("state_t", 5, 4),
        variable(f"{long}_1", 9, 1, long_name="word " * 60),
        variable(f"{long}_2", 10, 1),
    ]
    outputs = contract()["variables"]["outputs"]
    text = render(contract(variables={"inputs": inputs, "outputs": outputs}))["halves_ftorch.F90"]
    names = re.findall(r"parameter, public :: (in_\w+)_first", text)
    assert names[:2] == ["in_state_t", "in_state_t_2"] and len(set(names)) == 4
    assert all(len(f"{name}_first") <= 63 for name in names)
    assert "! " in text and "end program" in text and max(map(len, text.splitlines())) <= 132
    assert not any(word in text for word in ("/*", "it's", "\\"))
    assert all(line.startswith("!") for line in text.splitlines() if "end program" in line)


@pytest.mark.parametrize("name", ["", "2d", "Upper", "with-dash", "a" * 41, "_first", "ümlaut", "a b"])
def test_a_name_that_fortran_cannot_have_is_refused(name):
    with pytest.raises(UsageError, match="cannot name a Fortran module"):
        require_name(name)
    require_name("a" * 40)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_in": 11}, "the inputs have 10 channels, not 11"),
        ({"n_out": 5}, "the outputs have 6 channels, not 5"),
        ({"variables": {"inputs": [variable("a", 2, 9)], "outputs": []}}, "'a' begins at 2, expected is 1"),
    ],
)
def test_variables_that_do_not_cover_the_columns_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        render(contract(**changes))


# --- the stub


@needs_gfortran
@needs_cmake
def test_cmake_refuses_a_libtorch_older_than_the_one_that_wrote_the_model(halves, tmp_path):
    for version, newer in (("1.13.1", False), ("2.0.1", True)):
        found = tmp_path / version
        found.mkdir()
        words = f"add_library(FTorch::ftorch INTERFACE IMPORTED)\nset(Torch_VERSION {version})\n"
        (found / "FTorchConfig.cmake").write_text(words)
        done = run(["cmake", "-S", halves, "-B", found / "build", f"-DFTorch_DIR={found}"], tmp_path)
        assert (done.returncode == 0) is newer, done.stdout
        assert newer or "FTorch is built against torch 1.13.1" in " ".join(done.stdout.split())


@needs_gfortran
def test_the_stub_builds_without_a_warning_and_says_that_ftorch_is_missing(stub, halves):
    done = run([stub], halves)
    assert done.returncode == 77
    assert "built without FTorch: build it again with USE_FTORCH; the model was not called" in done.stdout
    assert "FAILED" not in done.stdout and "ok      size and CRC-32 of the model: ok" in done.stdout


@needs_gfortran
@needs_cmake
def test_cmake_builds_the_stub_and_its_test_counts_as_skipped(halves, tmp_path):
    said = succeed(["cmake", "-S", halves, "-B", tmp_path, "-DCMAKE_DISABLE_FIND_PACKAGE_FTorch=ON"], tmp_path)
    assert "halves: a stub, without FTorch" in said
    succeed(["cmake", "--build", tmp_path], tmp_path)
    assert succeed(["ctest", "--test-dir", tmp_path], tmp_path).count("***Skipped") == 2
    refused = run(["cmake", "-S", halves, "-B", tmp_path, "-DUSE_FTORCH=ON"], tmp_path)
    assert refused.returncode != 0 and "give -DFTorch_DIR=" in refused.stdout


@needs_gfortran
@needs_cmake
def test_a_host_adds_the_folder_and_links_the_module_alone(halves, tmp_path):
    (tmp_path / "host.F90").write_text(
        "program host\n  use halves_ftorch\n  print *, message(status_no_ftorch)\nend program host\n"
    )
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(host LANGUAGES Fortran)\n"
        "set(CMAKE_DISABLE_FIND_PACKAGE_FTorch ON)\n"
        f'add_subdirectory("{halves}" bundle)\nadd_executable(host host.F90)\n'
        "target_link_libraries(host PRIVATE subgrid::halves_ftorch)\n"
    )
    succeed(["cmake", "-S", tmp_path, "-B", tmp_path / "build"], tmp_path)
    succeed(["cmake", "--build", tmp_path / "build"], tmp_path)
    assert "built without FTorch" in succeed([tmp_path / "build" / "host"], tmp_path)
    assert not list((tmp_path / "build").rglob("*driver*"))


@needs_gfortran
@needs_make
def test_the_makefile_fragment_builds_the_stub(halves, tmp_path):
    command = ["make", "-f", halves / "halves.mk", f"halves_BUILD={tmp_path}", "test"]
    done = run(command, tmp_path)
    assert done.returncode == 2 and "built without FTorch" in done.stdout and "Error 77" in done.stdout


@needs_gfortran
@needs_make
def test_a_makefile_includes_the_fragment(halves, tmp_path):
    (tmp_path / "Makefile").write_text(
        f"all: host\nhalves_BUILD := {tmp_path}/made\ninclude {halves}/halves.mk\n"
        "host: host.F90 $(halves_OBJECTS)\n\t$(FC) $(halves_INCLUDE) $^ $(halves_LIBS) -fopenmp -o $@\n"
    )
    (tmp_path / "host.F90").write_text("program host\n  use halves_ftorch\n  print *, n_in\nend program host\n")
    succeed(["make"], tmp_path)
    assert succeed([tmp_path / "host"], tmp_path).split() == ["10"]


# --- the module on a stand-in for FTorch


@needs_gfortran
@pytest.mark.parametrize("threads", ["1", "2"])
def test_every_check_of_the_driver_passes(fake, halves, threads):
    said = succeed([fake], halves, OMP_NUM_THREADS=threads)
    assert "FAILED" not in said and re.search(r"^\d\d checks, 0 failed$", said, re.MULTILINE)
    assert "4 threads of the host share the model: difference  0.00E+00" in said
    for words in ("extreme, 16 columns", "gathered chunks", "traps of floating-point", "the number of OpenMP threads"):
        assert f"ok      {words}" in said


@needs_gfortran
def test_the_driver_tells_the_time_of_a_call(fake, halves):
    said = succeed([fake, "--time", "3"], halves, OMP_NUM_THREADS="1")
    assert re.search(r"^time pcols 5 \d*\.\d{6}\ntime grid 23 \d*\.\d{6}$", said, re.MULTILINE)
    assert "ok      grid, 23 columns" in said and "gathered" not in said


@needs_gfortran
def test_a_host_without_openmp_passes_too(halves, tmp_path):
    driver = build_driver(halves, tmp_path, fake=True)
    assert "built without OpenMP: one thread calls the model" in succeed([driver], halves, OMP_NUM_THREADS="1")


@needs_gfortran
def test_options_that_hosts_are_compiled_with_make_no_difference(halves, tmp_path):
    flags = ("-fopenmp", "-fconvert=big-endian", "-ffast-math", "-fdefault-real-8", "-Wno-conversion")
    driver = build_driver(halves, tmp_path, *flags, fake=True)
    assert " 0 failed" in succeed([driver], halves, OMP_NUM_THREADS="1")


@pytest.fixture
def changed(halves, tmp_path):
    """``changed(file, position, factor)``: a copy of the bundle whose answers of a case differ in one number."""

    def change(case, position, factor):
        shutil.copytree(halves, tmp_path / "copy")
        path = tmp_path / "copy" / "test" / f"{case}.y.bin"
        values = np.fromfile(path, "<f4")
        values[position] *= np.float32(factor)
        values.tofile(path)
        return tmp_path / "copy"

    return change


@needs_gfortran
def test_another_answer_fails_the_driver_unless_the_difference_is_allowed(fake, changed):
    bundle = changed("sixteen", 0, 1.0 + 1e-6)
    done = run([fake], bundle, OMP_NUM_THREADS="1")
    assert done.returncode == 1 and "FAILED  sixteen, 16 columns: difference" in done.stdout
    assert "1 failed" in done.stdout and "see --tolerance" in done.stdout
    succeed([fake, "--tolerance", "1e-5"], bundle, OMP_NUM_THREADS="1")
    succeed([fake], bundle, OMP_NUM_THREADS="2")
    succeed([fake, "model.pt", bundle / "test", "--tolerance", "1e-5"], bundle)


@needs_gfortran
def test_an_output_without_spread_must_be_equal_at_any_tolerance(fake, changed):
    bundle = changed("sixteen", 2, 1.0 + 1e-6)
    assert run([fake, "--tolerance", "1"], bundle).returncode == 1


@needs_gfortran
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.pt", "nowhere"], "cannot read nowhere/vectors.txt"),
        (["--fast"], "cannot use --fast"),
        (["a", "b", "c"], "cannot use c"),
        (["--time"], "a number is missing"),
        (["--tolerance", "much"], "a number is missing"),
    ],
)
def test_wrong_use_of_the_driver_is_told(fake, halves, words, message):
    done = run([fake, *words], halves)
    assert done.returncode == 2 and message in done.stdout


@needs_gfortran
@pytest.mark.parametrize("damage", ["missing", "short", "other", "text"])
def test_damaged_vectors_are_told(fake, halves, tmp_path, damage):
    shutil.copytree(halves / "test", tmp_path / "test")
    index = tmp_path / "test" / "vectors.txt"
    if damage == "missing":
        (tmp_path / "test" / "zeros.x.bin").unlink()
    elif damage == "short":
        (tmp_path / "test" / "zeros.x.bin").write_bytes(b"1234")
    else:
        index.write_text("7 11 6 1\n" if damage == "other" else "words\n")
    done = run([fake, halves / "model.pt", "test"], tmp_path)
    wanted = {"other": "not those of this bundle", "text": "vectors.txt is damaged"}
    assert done.returncode == 2 and wanted.get(damage, "cannot read test/zeros.x.bin") in done.stdout


@needs_gfortran
def test_a_model_that_is_not_that_of_the_bundle_is_not_loaded(fake, halves, tmp_path):
    held = bytearray((halves / "model.pt").read_bytes())
    held[40_000] ^= 1
    (tmp_path / "model.pt").write_bytes(held)
    done = run([fake, tmp_path / "model.pt"], halves)
    assert done.returncode == 1 and "FAILED  init: the model file has another CRC-32" in done.stdout


#: Prints the status of a file, all words of the codes, and what becomes of answers that overflow.
PROBE = """
program probe
  use, intrinsic :: iso_fortran_env, only: real32
  use halves_ftorch
  implicit none
  real(real32) :: x(n_in, 3), y(n_out, 3)
  integer :: status, k

  call check_file('a/../model.pt', status)
  print '(a, i0)', 'file ', status
  do k = -1, 13
    print '(i0, 1x, a)', k, trim(message(k))
  end do
  call init('  model.pt', status)
  x = 1
  x(2, 3) = 2e38
  y = 1
  call run(3, x, y, status)
  print '(a, i0, 1x, l1)', 'answer ', status, any(abs(y) > 0)
end program probe
"""


@needs_gfortran
def test_codes_have_words_and_an_answer_that_is_not_finite_becomes_zero(halves, tmp_path):
    (tmp_path / "probe.F90").write_text(PROBE)
    said = succeed([build_driver(halves, tmp_path / "made", fake=True, source=tmp_path / "probe.F90")], halves)
    lines = said.splitlines()
    assert lines[0] == "file 3"  # no folder a
    words = dict(line.split(" ", 1) for line in lines[1:16])
    assert words.pop("-1") == words.pop("13") == "unknown status"
    assert len(set(words.values())) == 13 and words["0"] == "ok"
    assert lines[16] == "answer 10 F"


@needs_gfortran
@pytest.mark.parametrize("size", [1, 65536, 65537, 200_003])
def test_the_checksum_is_that_of_zlib(tmp_path, size):
    (tmp_path / "model.pt").write_bytes(np.random.default_rng(size).bytes(size))
    assert of_model(tmp_path / "model.pt")["crc32"] == zlib.crc32((tmp_path / "model.pt").read_bytes())
    bundle = write_files(tmp_path / "bundle", contract(tmp_path / "model.pt"))
    (tmp_path / "probe.F90").write_text(PROBE.replace("a/../model.pt", "model.pt"))
    probe = build_driver(bundle, tmp_path / "made", source=tmp_path / "probe.F90")
    assert succeed([probe], tmp_path).startswith("file 0\n")
    held = bytearray((tmp_path / "model.pt").read_bytes())
    held[-1] ^= 0x80
    (tmp_path / "model.pt").write_bytes(held)
    assert succeed([probe], tmp_path).startswith("file 5\n")
    (tmp_path / "model.pt").write_bytes(held + b"0")
    assert succeed([probe], tmp_path).startswith("file 4\n")


# --- the mini-host


@pytest.fixture(scope="module")
def columns(tmp_path_factory):
    """Two steps of 23 columns, and the file that the host reads."""
    x = np.random.default_rng(2).standard_normal((2, 23, 10)).astype("<f4")
    path = tmp_path_factory.mktemp("columns") / "columns.bin"
    path.write_bytes(x.tobytes())
    return x, path


@needs_gfortran
def test_the_mini_host_gets_the_answers_of_every_column(halves, columns, tmp_path):
    x, path = columns
    flags = ("-fopenmp", "-fconvert=big-endian", "-DBUNDLE_MODULE=halves_ftorch")
    host = build_driver(halves, tmp_path, *flags, fake=True, source=HOST / "host.F90")
    said = succeed([host, halves / "model.pt", path, "2", tmp_path], tmp_path, OMP_NUM_THREADS="2")
    assert "chunks: 2 steps of 23 columns in 5 chunks on 2 threads" in said
    for name in ("chunks", "gathered"):
        found = np.fromfile(tmp_path / f"{name}.bin", "<f4").reshape(2, 23, 6)
        assert np.array_equal(found, np.float32(0.5) * x[..., :6])
    for words, message in (
        ([halves / "model.pt", path, "2"], "usage: host MODEL"),
        ([halves / "model.pt", path, "none", tmp_path], "STEPS must be"),
        ([halves / "model.pt", path, "3", tmp_path], "does not hold whole columns"),
        ([path, path, "2", tmp_path], "another size than that of this bundle"),
    ):
        done = run([host, *words], tmp_path)
        assert done.returncode == 1 and message in done.stdout


@needs_gfortran
@needs_cmake
def test_the_mini_host_without_ftorch_says_so_and_stops(halves, tmp_path):
    hidden = {"FTorch_DIR": "", "CMAKE_PREFIX_PATH": ""}
    command = [sys.executable, HOST / "run.py", "--bundle", halves, "--out", tmp_path / "out"]
    done = run(command, tmp_path, **hidden)
    assert done.returncode == 77, done.stdout
    assert "built without FTorch" in done.stdout and "FTorch is missing: set FTorch_DIR" in done.stdout
    done = run([*command[:3], tmp_path, *command[4:]], tmp_path, **hidden)
    assert done.returncode == 1 and "holds no test vectors" in done.stdout
