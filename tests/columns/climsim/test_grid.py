"""ClimSim's grid file: the real one against the sheet's values, and broken ones."""

from __future__ import annotations

import os
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from subgrid.base.errors import SubgridError
from subgrid.columns.climsim.grid import read_grid

REFERENCE = Path(os.environ.get("SUBGRID_REFERENCE", Path(__file__).parents[4] / "shared" / "reference")) / "climsim"
REAL = REFERENCE / "grid_info" / "ClimSim_low-res_grid-info.nc"


@pytest.fixture(scope="module")
def real():
    if not REAL.is_file():
        pytest.skip("no reference data: set SUBGRID_REFERENCE to its folder")
    return read_grid(REAL)


def test_the_real_columns(real):
    assert (real.columns, real.levels) == (384, 60)
    assert real.area.sum() == pytest.approx(4.0 * np.pi, rel=1e-12)
    share = real.area / real.area.mean()
    assert (round(share.min(), 4), round(share.max(), 4)) == (0.8388, 1.1663)
    assert (round(real.latitude.min(), 2), round(real.latitude.max(), 2)) == (-82.06, 82.06)
    assert (round(real.longitude.min(), 2), round(real.longitude.max(), 2)) == (5.63, 354.37)
    bands = np.histogram(real.latitude, np.arange(-90, 91, 10))[0]
    assert bands.tolist() == [4, 8, 12, 20, 20, *[32] * 8, 20, 20, 12, 8, 4]


def test_the_real_levels(real):
    thickness = real.vertical.layer_thickness(np.array([1e5]))
    assert float(thickness.sum()) == pytest.approx(99_994.4119, abs=5e-5)
    assert np.count_nonzero(np.asarray(real.vertical.hybm) == 0.0) == 22
    assert np.count_nonzero(np.asarray(real.vertical.hybi) == 0.0) == 23
    assert real.vertical.p0 == 1e5


def test_a_grid_written_is_the_grid_read(sample):
    from subgrid.columns.climsim.sample import sample_grid

    made, read = sample_grid(12, 9), read_grid(next(sample.glob("*grid-info.nc")))
    assert np.array_equal(read.latitude, made.latitude)
    assert read.vertical == made.vertical


def _without_area(file):
    file.renameVariable("area", "other")


def _nan(file):
    file["lat"][3] = np.nan


def _backwards(file):
    file["hyai"][:] = file["hyai"][::-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [(_without_area, "no variable 'area'"), (_nan, "'lat' holds NaN"), (_backwards, "grid-info.nc")],
)
def test_a_broken_grid_file_is_named(sample, tmp_path, change, words):
    path = tmp_path / "x_grid-info.nc"
    path.write_bytes(next(sample.glob("*grid-info.nc")).read_bytes())
    with netCDF4.Dataset(path, "a") as file:
        change(file)
    with pytest.raises(SubgridError, match=words):
        read_grid(path)


def test_no_grid_file_at_all(tmp_path):
    with pytest.raises(SubgridError, match="does not exist"):
        read_grid(tmp_path / "x.nc")
    (tmp_path / "x.nc").write_text("no grid")
    with pytest.raises(SubgridError, match="cannot be read as netCDF"):
        read_grid(tmp_path / "x.nc")
