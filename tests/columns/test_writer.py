"""The store writer: a stream that survives a kill, with statistics that do not depend on how rows came."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from subgrid.base.arrays import write_arrays
from subgrid.base.errors import SubgridError
from subgrid.columns import StoreWriter, open_store


def cut(rows, start, stop):
    return {name: values[start:stop] for name, values in rows.items()}


def contents(folder):
    """Every file below a folder by relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def rows(make_rows):
    return make_rows(700, seed=5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, make_spec, rows):
    """The store written at once, as files."""
    writer = StoreWriter(tmp_path_factory.mktemp("whole") / "s.zarr", make_spec())
    writer.append("train", rows)
    writer.append("test", cut(rows, 0, 50))
    return contents(writer.finish().path)


def write_pieces(writer, rows, cuts):
    for start, stop in pairwise(cuts):
        writer.append("train", cut(rows, start, stop))


@pytest.mark.parametrize("cuts", [[0, 1, 2, 255, 256, 257, 700], [0, 512, 512, 700], list(range(0, 701, 70))])
def test_files_and_statistics_do_not_depend_on_how_rows_are_appended(tmp_path, make_spec, rows, whole, cuts):
    writer = StoreWriter(tmp_path / "s.zarr", make_spec())
    write_pieces(writer, rows, cuts)
    writer.append("test", cut(rows, 0, 50))
    assert contents(writer.finish().path) == whole


@pytest.mark.parametrize("kill_at", [0, 100, 256, 600, 700])
@pytest.mark.parametrize("lost", [0, 90])
def test_a_resumed_writer_makes_the_same_store(tmp_path, make_spec, rows, whole, kill_at, lost):
    first = StoreWriter(tmp_path / "s.zarr", make_spec())
    assert first.resumed is None
    first.append("test", cut(rows, 0, 50))
    first.append("train", cut(rows, 0, kill_at))
    first.checkpoint({"day": np.asarray(kill_at), "state": np.arange(6.0).reshape(2, 3)})
    first.append("train", cut(rows, kill_at, kill_at + lost))  # after the checkpoint: lost in the kill
    del first
    second = StoreWriter(tmp_path / "s.zarr", make_spec())
    assert int(second.resumed["day"]) == kill_at
    np.testing.assert_array_equal(second.resumed["state"], np.arange(6.0).reshape(2, 3))
    second.append("train", cut(rows, kill_at, 700))
    assert contents(second.finish().path) == whole


def test_a_writer_killed_before_its_first_checkpoint_begins_anew(tmp_path, make_spec, rows, whole):
    StoreWriter(tmp_path / "s.zarr", make_spec()).append("train", cut(rows, 0, 300))
    again = StoreWriter(tmp_path / "s.zarr", make_spec())
    assert again.resumed is None
    again.append("train", rows)
    again.append("test", cut(rows, 0, 50))
    assert contents(again.finish().path) == whole


@pytest.mark.parametrize("dies_in", ["open_group", "replace_folder"])
def test_a_writer_killed_while_it_finishes_can_be_finished(tmp_path, make_spec, rows, whole, monkeypatch, dies_in):
    import zarr

    from subgrid.columns import writer as module

    first = StoreWriter(tmp_path / "s.zarr", make_spec())
    first.append("train", rows)
    first.append("test", cut(rows, 0, 50))
    first.checkpoint({"day": np.asarray(9)})
    opened = []

    def dies(*args, **kwargs):
        opened.append(args)
        # The first two calls finish the splits; the third writes the root.
        if dies_in == "open_group" and len(opened) < 3:
            return real(*args, **kwargs)
        raise SystemExit("killed")

    where = (zarr, "open_group") if dies_in == "open_group" else (module, "replace_folder")
    real = getattr(*where)
    monkeypatch.setattr(*where, dies)
    with pytest.raises(SystemExit):
        first.finish()
    monkeypatch.undo()
    with pytest.raises(SubgridError, match="unfinished"):
        open_store(tmp_path / "s.zarr")
    second = StoreWriter(tmp_path / "s.zarr", make_spec())
    assert int(second.resumed["day"]) == 9
    assert contents(second.finish().path) == whole


def test_other_settings_are_refused(tmp_path, make_spec, rows):
    first = StoreWriter(tmp_path / "s.zarr", make_spec())
    first.append("train", cut(rows, 0, 10))
    first.checkpoint({})
    with pytest.raises(SubgridError, match="was begun with other settings"):
        StoreWriter(tmp_path / "s.zarr", make_spec(time_step=1800.0))
    StoreWriter(tmp_path / "s.zarr", make_spec())


def test_what_other_settings_left_before_their_first_checkpoint_is_cleared(tmp_path, make_spec, rows):
    first = StoreWriter(tmp_path / "s.zarr", make_spec())
    first.append("train", cut(rows, 0, 600))  # two blocks on disk, no checkpoint
    (first.folder / "control").mkdir()
    second = StoreWriter(tmp_path / "s.zarr", make_spec(time_step=1800.0))
    assert [p.name for p in second.folder.iterdir()] == ["settings.json"]


def test_what_killed_writes_left_does_not_get_into_the_store(tmp_path, make_spec, rows):
    writer = StoreWriter(tmp_path / "s.zarr", make_spec())
    writer.append("train", cut(rows, 0, 10))
    for name in (".checkpoint.safetensors.12345.tmp", f"train/0.{'0af1' * 8}.partial"):
        (writer.folder / name).parent.mkdir(exist_ok=True)
        (writer.folder / name).write_text("half")
    (writer.folder / "mine.partial").write_text("not ours")
    made = writer.finish().path
    assert [p.name for p in made.rglob("*") if p.suffix in (".tmp", ".partial")] == ["mine.partial"]


def test_a_store_that_exists_is_never_overwritten(tmp_path, make_spec, rows):
    writer = StoreWriter(tmp_path / "s.zarr", make_spec())
    writer.append("train", cut(rows, 0, 10))
    writer.finish()
    with pytest.raises(SubgridError, match=r"s\.zarr exists already"):
        StoreWriter(tmp_path / "s.zarr", make_spec())


def test_a_finished_store_holds_nothing_of_its_making(tmp_path, make_spec, rows):
    writer = StoreWriter(tmp_path / "s.zarr", make_spec())
    writer.append("train", cut(rows, 0, 10))
    writer.checkpoint({"x": np.zeros(2)})
    writer.finish()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.zarr"]
    assert sorted(p.name for p in (tmp_path / "s.zarr").iterdir()) == ["train", "zarr.json"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_refused_by_variable_and_count_before_it_is_stored(tmp_path, make_spec, rows, value):
    writer = StoreWriter(tmp_path / "s.zarr", make_spec())
    bad = {name: values.copy() for name, values in cut(rows, 0, 20).items()}
    bad["targets"][4:7, 1] = value
    with pytest.raises(SubgridError, match=r"'targets': temperature_tendency \(3 of 160\)$"):
        writer.append("train", bad)


def test_a_value_too_large_for_float32_is_refused(tmp_path, make_spec, rows):
    writer = StoreWriter(tmp_path / "s.zarr", make_spec())
    bad = {**cut(rows, 0, 20), "inputs": rows["inputs"][:20].astype(np.float64)}
    bad["inputs"][2, 32] = 1e300
    with pytest.raises(SubgridError, match=r"'inputs': surface_pressure \(1 of 20\)"):
        writer.append("train", bad)


def test_a_refused_append_leaves_nothing_behind(tmp_path, make_spec, rows):
    """A caller that corrects its rows and goes on gets a whole store."""
    writer = StoreWriter(tmp_path / "s.zarr", make_spec())
    bad = {name: values.copy() for name, values in cut(rows, 0, 20).items()}
    bad["targets"][0, 0] = np.nan
    with pytest.raises(SubgridError, match="NaN"):
        writer.append("train", bad)
    writer.append("train", cut(rows, 20, 50))
    store = writer.finish()
    assert store["train"].samples == 30
    np.testing.assert_array_equal(store["train"].read("inputs", 0), rows["inputs"][20:50])


def test_wrong_arrays_and_shapes_are_refused(tmp_path, make_spec, rows):
    writer = StoreWriter(tmp_path / "s.zarr", make_spec())
    few = cut(rows, 0, 20)
    with pytest.raises(SubgridError, match=r"needs the arrays .*'history'.*, got"):
        writer.append("train", {k: v for k, v in few.items() if k != "history"})
    with pytest.raises(SubgridError, match=r"'inputs': rows of shape \(20, 44\), expected \(20, 45\)"):
        writer.append("train", {**few, "inputs": few["inputs"][:, :44]})
    with pytest.raises(SubgridError, match=r"'weight': rows of shape \(19,\), expected \(20,\)"):
        writer.append("train", {**few, "weight": few["weight"][:19]})


def test_a_place_that_cannot_be_written_is_refused(tmp_path, make_spec):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SubgridError, match="cannot write to"):
        StoreWriter(tmp_path / "file" / "s.zarr", make_spec())


def test_a_full_disk_is_one_clear_line_and_the_checkpoint_survives(tmp_path, make_spec, rows, monkeypatch):
    import errno
    from pathlib import Path

    writer = StoreWriter(tmp_path / "s.zarr", make_spec())
    writer.append("train", cut(rows, 0, 100))
    writer.checkpoint({"day": np.asarray(1)})
    real = Path.open

    def full(self, mode="r", *args, **kwargs):
        if mode == "wb":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(SubgridError, match=r"no space left while writing .*same command again"):
        writer.append("train", cut(rows, 100, 700))
    monkeypatch.undo()
    again = StoreWriter(tmp_path / "s.zarr", make_spec())
    assert int(again.resumed["day"]) == 1
    again.append("train", cut(rows, 100, 700))
    assert again.finish()["train"].samples == 700


def test_a_damaged_checkpoint_is_one_clear_error(tmp_path, make_spec, rows):
    writer = StoreWriter(tmp_path / "s.zarr", make_spec())
    writer.append("train", rows)
    writer.checkpoint({"day": np.asarray(1)})
    kept = tmp_path / "s.zarr.partial" / "checkpoint.safetensors"
    sound = kept.read_bytes()
    for content in (b"", sound[:-1], sound[:-1] + bytes([sound[-1] ^ 1])):
        kept.write_bytes(content)
        with pytest.raises(SubgridError, match=r"checkpoint.safetensors is damaged .*: remove .*s.zarr.partial and"):
            StoreWriter(tmp_path / "s.zarr", make_spec())
    write_arrays(kept, {"split/train/blocks": np.asarray(1)})
    with pytest.raises(SubgridError, match=r"checkpoint.safetensors: KeyError.*: remove .*s.zarr.partial and"):
        StoreWriter(tmp_path / "s.zarr", make_spec())
