"""Files of every NetCDF format, whole and cut: values as they are, and how long a classic file must be."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest

from subgrid.columns.climsim.classic import read_layout
from subgrid.columns.climsim.names import step_number
from subgrid.columns.climsim.netcdf import BadFile, Reader

from .conftest import COLUMNS, LEVELS
from .files import path_of, read_raw

FORMATS = ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA", "NETCDF4", "NETCDF4_CLASSIC"]


def classic_length(path):
    """Bytes that a classic file must have; None for another format."""
    with path.open("rb") as file:
        layout = read_layout(file)
    return None if layout is None else layout.length


@pytest.fixture(params=FORMATS)
def written(request, tmp_path):
    """A file of each format, with a fill and a scale attribute that must not be applied."""
    path = tmp_path / "file.nc"
    random = np.random.default_rng(3)
    with netCDF4.Dataset(path, "w", format=request.param) as file:
        file.createDimension("lev", 5)
        file.createDimension("ncol", 7)
        file.title = "odd length"
        for name, dimensions, kind in (("t", ("lev", "ncol"), "f8"), ("ps", ("ncol",), "f4"), ("tod", (), "i4")):
            variable = file.createVariable(name, kind, dimensions, fill_value=1e30 if kind == "f8" else False)
            variable.units = "K"
            variable.set_auto_maskandscale(False)
            variable[...] = random.standard_normal(variable.shape) * 100
        file["t"][2, 3] = 1e30
        file["t"].scale_factor = 2.0
    return path


def test_values_are_float64_and_as_they_are(written):
    found = Reader(7, 5).read(written, ["t", "ps"])
    assert all(v.dtype == np.float64 for v in found.values())
    raw = read_raw(written)
    assert np.array_equal(found["t"], raw["t"])
    assert np.array_equal(found["ps"], raw["ps"].astype(np.float64))
    assert found["t"][2, 3] == 1e30


def test_every_cut_is_seen(written):
    """Each file, cut anywhere before the end of its last value, is refused; whole it is not."""
    whole = written.read_bytes()
    expected = classic_length(written)
    if expected is not None:
        # A whole file ends with its last value, and padding to four bytes.
        assert expected <= len(whole) < expected + 4
    end = (expected or len(whole)) - 1
    for length in [*range(0, end, max(end // 40, 1)), end]:
        written.write_bytes(whole[:length])
        with pytest.raises(BadFile, match=r"file.nc (is truncated|cannot be read)"):
            Reader(7, 5).read(written, ["t", "ps"])


@pytest.mark.parametrize("attributes", [0, 3000])
def test_a_header_of_any_length_is_that_of_the_library(tmp_path, attributes):
    """Longer than what is read at first: the names, sizes and types are still those that netCDF4 tells."""
    path = tmp_path / "file.nc"
    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_DATA") as file:
        for i in range(attributes):
            file.setncattr(f"attribute_{i}", "x" * (i % 50))
        file.createDimension("lev", 5)
        file.createDimension("ncol", 7)
        for i, kind in enumerate(("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")):
            variable = file.createVariable(f"v{i}", kind, ("lev", "ncol"), fill_value=False)
            variable.units = "K" * i
            variable[...] = np.arange(35).reshape(5, 7) * (i + 1) % 120
    with path.open("rb") as file:
        layout = read_layout(file)
    assert (len(layout.header) > 65536) == (attributes > 0)
    raw = read_raw(path)
    assert list(layout.variables) == list(raw)
    assert all(v.dtype.newbyteorder("=") == raw[name].dtype for name, v in layout.variables.items())
    found = Reader(7, 5).read(path, list(raw))
    assert all(np.array_equal(found[name], raw[name]) for name in raw)


def test_files_of_several_headers_one_after_the_other(tmp_path):
    """The layout of one file is not taken for that of another."""
    reader = Reader(7, 5)
    for turn in range(3):
        for i, names in enumerate((["a", "b"], ["b", "a"], ["a", "b", "c"], ["b"], ["c", "b"])):
            path = tmp_path / f"{i}.nc"
            with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_DATA") as file:
                file.createDimension("lev", 5)
                file.createDimension("ncol", 7)
                for name in names:
                    file.createVariable(name, "f8", ("lev", "ncol"))[...] = ord(name) + turn
            assert np.all(reader.read(path, ["b"])["b"] == ord("b") + turn)


def test_records_are_read_by_the_library(tmp_path):
    path = tmp_path / "file.nc"
    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_DATA") as file:
        file.createDimension("lev", None)
        file.createDimension("ncol", 7)
        for name in ("a", "b"):
            file.createVariable(name, "f8", ("lev", "ncol"))[:5] = ord(name)
    assert np.all(Reader(7, 5).read(path, ["b"])["b"] == ord("b"))


@pytest.mark.parametrize("file_format", FORMATS[:3])
def test_the_length_of_a_file_with_records(tmp_path, file_format):
    path = tmp_path / "records.nc"
    with netCDF4.Dataset(path, "w", format=file_format) as file:
        file.createDimension("time", None)
        file.createDimension("x", 3)
        for name, kind, dimensions in (("a", "i2", ("time", "x")), ("b", "f8", ("time",)), ("c", "i1", ("x",))):
            file.createVariable(name, kind, dimensions)
        file["a"][:4], file["b"][:4], file["c"][:] = 1, 2.0, 3
    assert classic_length(path) <= path.stat().st_size < classic_length(path) + 4


def test_the_length_of_the_files_of_the_sample(sample):
    path = path_of(sample / "train", "mli", step_number(1, 2, 1, 0))
    assert classic_length(path) == path.stat().st_size


def test_a_file_is_checked_before_it_is_used(sample, tmp_path):
    path = path_of(sample / "train", "mli", step_number(1, 2, 1, 0))
    with pytest.raises(BadFile, match=f"'state_t' has {LEVELS} lev, but the grid file has 60: a mixed grid"):
        Reader(COLUMNS, 60).read(path, ["state_t"])
    with pytest.raises(BadFile, match="'state_x' is not in the file") as caught:
        Reader(COLUMNS, LEVELS).read(path, ["state_x"])
    assert (caught.value.file, caught.value.variable, caught.value.reason) == (path, "state_x", "is not in the file")
    with pytest.raises(BadFile, match=r"'tod' has dimensions \(\)"):
        Reader(COLUMNS, LEVELS).read(path, ["tod"])
    with pytest.raises(BadFile, match=r"nothing.nc does not exist"):
        Reader(COLUMNS, LEVELS).read(tmp_path / "nothing.nc", ["state_t"])
    with pytest.raises(BadFile, match="cannot be read"):
        Reader(COLUMNS, LEVELS).read(tmp_path, ["state_t"])
