"""Files of every NetCDF format, whole and cut: values as they are, and how long a classic file must be."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest

from subgrid.columns.climsim.classic import classic_length
from subgrid.columns.climsim.names import step_number
from subgrid.columns.climsim.netcdf import BadFile, Reader

from .conftest import COLUMNS, LEVELS
from .files import path_of, read_raw

FORMATS = ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA", "NETCDF4", "NETCDF4_CLASSIC"]


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
