"""Broken input: stopped at with one line that names file and variable, or skipped and listed in the provenance."""

from __future__ import annotations

import re
import shutil

import netCDF4
import numpy as np
import pytest

from subgrid.base.errors import SubgridError
from subgrid.columns.climsim import convert as module
from subgrid.columns.climsim.convert import ConvertConfig, convert
from subgrid.columns.climsim.names import step_number
from subgrid.columns.climsim.netcdf import BadFile

from .conftest import COLUMNS
from .files import all_bytes, copy_steps, path_of, rewrite, stored

FIRST = step_number(1, 2, 1, 0)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def cut_in_its_header(path):
    path.write_bytes(path.read_bytes()[:40])


def empty(path):
    path.write_bytes(b"")


def no_netcdf(path):
    path.write_bytes(b"<html>404 Not Found</html>" * 100)


def lacking(path):
    rewrite(path, lambda fields: fields.pop("state_q0001"))


def transposed(path):
    def turn(fields):
        dimensions, values = fields["state_t"]
        fields["state_t"] = (dimensions[::-1], np.ascontiguousarray(values.T))

    rewrite(path, turn)


def of_another_grid(path):
    rewrite(path, lambda fields: fields.update({k: (d, v[..., :-2]) for k, (d, v) in fields.items() if d}))


def with_nan_columns(path):
    rewrite(path, lambda fields: fields["state_t"][1][:, 3:5].fill(np.nan))


def with_infinity(path):
    rewrite(path, lambda fields: fields["state_q0001"][1].__setitem__((2, 2), -np.inf))


def filled(path):
    rewrite(path, lambda fields: fields["state_q0001"][1].__setitem__((slice(None), 1), 1e30))


#: Damage, and what is said of it after the name of the file.
DAMAGE = [
    (truncated, r" is truncated \(\d+ of \d+ bytes\)"),
    (cut_in_its_header, r" is truncated \(its header is cut\)"),
    (empty, " (cannot be read|is truncated)"),
    (no_netcdf, " cannot be read"),
    (lacking, ": 'state_q0001' is not in the file"),
    (transposed, r": 'state_t' has dimensions \('ncol', 'lev'\) \(the other way round\)"),
    (of_another_grid, ": '.*' has 10 ncol, but the grid file has 12: a mixed grid"),
    (with_nan_columns, r": 'state_t' has NaN or infinity \(18 of 108 values\)"),
    (with_infinity, r": 'state_q0001' has NaN or infinity \(1 of 108 values\)"),
    (filled, r": 'state_q0001' has the fill value \(9 of 108 values"),
]


@pytest.fixture
def months(sample, tmp_path):
    """The first 22 steps: four of the train split."""
    return copy_steps(sample, tmp_path, range(22), FIRST)


def config(months, **settings):
    return ConvertConfig(**{"source": str(months), "variables": "v1", "splits": "train", **settings})


@pytest.mark.parametrize("kind", ["mli", "mlo"])
@pytest.mark.parametrize(("damage", "words"), DAMAGE, ids=lambda x: getattr(x, "__name__", ""))
def test_a_damaged_file_stops_or_is_skipped(months, tmp_path, kind, damage, words):
    bad = path_of(months, kind, FIRST + 7)
    sound = stored(convert(config(months), tmp_path / "sound"), "train")
    damage(bad)
    with pytest.raises(BadFile, match=re.escape(str(bad)) + words):
        convert(config(months), tmp_path / "store")
    assert not (tmp_path / "store").exists()
    store = convert(config(months, on_error="skip"), tmp_path / "store")
    kept = np.concatenate([np.arange(COLUMNS), np.arange(2 * COLUMNS, 4 * COLUMNS)])
    assert all(np.array_equal(values, sound[name][kept]) for name, values in stored(store, "train").items())
    found = store.spec.provenance["found"]
    assert found["losses"]["files"] == 1
    assert found["losses"]["first"][0]["file"] == bad.name
    assert found["splits"]["train"]["dropped_lost"] == 1
    assert np.array_equal(store["train"].mark("time")[::COLUMNS], sound_times(store, [0, 14, 21]))


def sound_times(store, steps):
    """The times of steps, counted from the first of the store."""
    return store["train"].mark("time")[0] + np.asarray(steps) * 1200


@pytest.mark.parametrize("rows", [12, 24, 16384])
def test_a_skipped_file_takes_with_it_the_steps_that_look_back_to_it(sample, tmp_path, rows):
    months = copy_steps(sample, tmp_path, range(43), FIRST)  # 7, 14, ..., 42 have both steps before them
    with_nan_columns(path_of(months, "mli", FIRST + 13))
    truncated(path_of(months, "mlo", FIRST + 26))
    with_nan_columns(path_of(months, "mli", FIRST + 10))  # no step of the split looks at it
    store = convert(config(months, variables="v6", on_error="skip", rows=rows), tmp_path / "store")
    assert np.array_equal(np.diff(store["train"].mark("time")[::COLUMNS]) // 1200, [14, 14, 7])  # 7, 21, 35, 42
    found = store.spec.provenance["found"]
    assert [loss["number"] - FIRST for loss in found["losses"]["first"]] == [13, 26]
    assert found["splits"]["train"]["dropped_lost"] == 2
    assert found["splits"]["train"]["dropped_without_history"] == 1
    # as if the files had never been there
    path_of(months, "mli", FIRST + 13).unlink()
    path_of(months, "mlo", FIRST + 26).unlink()
    clean = convert(config(months, variables="v6", rows=rows), tmp_path / "clean")
    assert stored(store, "train").keys() == stored(clean, "train").keys()
    assert all(np.array_equal(v, stored(clean, "train")[name]) for name, v in stored(store, "train").items())


def test_a_file_that_was_mended_is_taken_by_stop(months, tmp_path, monkeypatch):
    """Skipped, then killed, then fetched again: with ``stop`` the whole is there."""
    sound = all_bytes(convert(config(months, rows=12), tmp_path / "sound"))
    bad = path_of(months, "mlo", FIRST + 7)
    whole = bad.read_bytes()
    truncated(bad)
    monkeypatch.setattr(module, "finish_store", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        convert(config(months, rows=12, on_error="skip"), tmp_path / "store")
    monkeypatch.undo()
    with pytest.raises(BadFile, match=f"{bad.name} is truncated"):
        convert(config(months, rows=12), tmp_path / "store")
    bad.write_bytes(whole)
    store = convert(config(months, rows=12), tmp_path / "store")
    assert all_bytes(store) == sound
    assert store.spec.provenance["found"]["losses"] == {"files": 0, "first": []}


def test_workers_skip_the_same(sample, tmp_path):
    months = copy_steps(sample, tmp_path, range(72), FIRST)
    for step in (13, 14, 40, 63):
        with_nan_columns(path_of(months, "mli", FIRST + step))
    settings = config(months, variables="v6", on_error="skip", rows=12)
    one, two = convert(settings, tmp_path / "one"), convert(settings, tmp_path / "two", workers=2)
    assert all_bytes(one) == all_bytes(two)
    assert one.spec.provenance["found"] == two.spec.provenance["found"]


def test_every_step_damaged(months, tmp_path):
    for step in (0, 7, 14, 21):
        truncated(path_of(months, "mlo", FIRST + step))
    with pytest.raises(SubgridError, match="every step of split 'train' needs a damaged file"):
        convert(config(months, on_error="skip"), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_truncated_netcdf4_file(months, tmp_path):
    bad = path_of(months, "mlo", FIRST + 14)
    rewrite(bad, lambda fields: None, "NETCDF4")
    truncated(bad)
    with pytest.raises(BadFile, match=f"{bad.name} cannot be read"):
        convert(config(months), tmp_path / "store")


def test_a_step_that_is_there_twice(months, tmp_path, caplog):
    twice = months / "copy" / path_of(months, "mli", FIRST + 7).name
    twice.parent.mkdir()
    shutil.copy(path_of(months, "mli", FIRST + 7), twice)
    with pytest.raises(SubgridError, match=r"1 steps are there twice, such as .* and .*copy.*--on-error skip"):
        convert(config(months), tmp_path / "store")
    store = convert(config(months, on_error="skip"), tmp_path / "store")
    assert store["train"].samples == 4 * COLUMNS
    assert store.spec.provenance["found"]["duplicates"] == {"files": 1, "first": [str(twice)]}


def test_a_hole_in_time(months, tmp_path, caplog):
    for kind in ("mli", "mlo"):
        path_of(months, kind, FIRST + 14).unlink()
    store = convert(config(months), tmp_path / "store")
    assert "a hole in time: 1 steps are missing, 0001-02-01-16800 first" in caplog.text
    found = store.spec.provenance["found"]["splits"]["train"]
    assert (found["found"], found["missing_between"], found["first_missing"]) == (3, 1, ["0001-02-01-16800"])
    assert np.array_equal(store["train"].mark("time")[::COLUMNS], sound_times(store, [0, 7, 21]))


def test_steps_after_a_hole_lack_their_history(sample, tmp_path):
    months = copy_steps(sample, tmp_path, range(43), FIRST)
    for kind in ("mli", "mlo"):
        path_of(months, kind, FIRST + 19).unlink()
    store = convert(config(months, variables="v6"), tmp_path / "store")
    found = store.spec.provenance["found"]["splits"]["train"]
    assert found["dropped_without_history"] == 2  # the first one, and 21
    assert np.array_equal(np.diff(store["train"].mark("time")[::COLUMNS]) // 1200, [7, 14, 7, 7])


def test_files_without_their_other_half(months, tmp_path, caplog):
    path_of(months, "mlo", FIRST + 21).unlink()  # as a crash leaves it
    path_of(months, "mli", FIRST + 3).unlink()
    store = convert(config(months), tmp_path / "store")
    names = [path_of(months, "mli", FIRST + 21).name, path_of(months, "mlo", FIRST + 3).name]
    assert store.spec.provenance["found"]["unpaired"] == {"files": 2, "first": names}
    assert "2 files lack their other half" in caplog.text
    assert store["train"].samples == 3 * COLUMNS


def test_a_file_with_a_wrong_name(months, tmp_path):
    (months / "E3SM-MMF.mli.0001-02-30-00000.nc").write_bytes(b"")
    with pytest.raises(SubgridError, match=r"'E3SM-MMF.mli.0001-02-30-00000.nc': 0001-02-30 is no day"):
        convert(config(months), tmp_path / "store")


def test_the_grid_file_of_another_model(months, tmp_path):
    grid = next(tmp_path.glob("*grid-info.nc"))
    with netCDF4.Dataset(grid, "a") as file:
        file["hyam"][-3] += 0.01
    with pytest.raises(SubgridError, match=r"'state_pmid' differs from the pressure of .* by \d\.\d%: another grid"):
        convert(config(months), tmp_path / "store")
