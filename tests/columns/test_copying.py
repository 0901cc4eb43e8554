"""Copies of a store: whole or not at all, resumable, and never over something else."""

from __future__ import annotations

import json
import shutil

import pytest

from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.places import RemotePath, file_sizes, place
from subgrid.columns import copying, open_store
from subgrid.columns.copying import MARK, copy_store


class CutError(Exception):
    """A kill."""


@pytest.fixture(params=["folder", "s3", "memory"])
def target(request, tmp_path):
    """A place that does not exist yet."""
    if request.param == "folder":
        return tmp_path / "copy.zarr"
    return f"{request.getfixturevalue(request.param)}/copy.zarr"


def contents(where):
    return {name: (where / name).read_bytes() for name in file_sizes(where)}


def cut_after(count, monkeypatch):
    """Kill the copy once ``count`` files are written; returns the names of those."""
    write, written = copying._write, []

    def limited(path, content):
        if len(written) == count:
            raise CutError
        write(path, content)
        written.append(str(path))

    monkeypatch.setattr(copying, "_write", limited)
    return written


def test_a_copy_is_the_store(target, tiny_store):
    said = copy_store(tiny_store.path, target, verify=True)
    here = contents(tiny_store.path)
    assert contents(place(target)) == here
    assert said["files"] == len(here) and said["bytes"] == sum(map(len, here.values()))
    assert said["copied_files"] == len(here) - 1  # and the root description
    assert open_store(target).info()["splits"] == tiny_store.info()["splits"]


def test_and_back_again_to_a_folder(s3, tiny_store, tmp_path):
    copy_store(tiny_store.path, f"{s3}/a/b.zarr")
    copy_store(f"{s3}/a/b.zarr", tmp_path / "back.zarr")
    assert contents(tmp_path / "back.zarr") == contents(tiny_store.path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back.zarr"]


def test_half_a_copy_is_no_store_and_goes_on_where_it_was(target, tiny_store, monkeypatch):
    with monkeypatch.context() as patch:
        written = cut_after(9, patch)
        with pytest.raises(CutError):
            copy_store(tiny_store.path, target, workers=1)
    with pytest.raises(SubgridError, match=r"finished|does not exist"):
        open_store(target)
    said = copy_store(tiny_store.path, target)
    assert len(written) == 9 and said["copied_files"] == said["files"] - 1 - 8  # one of nine is the mark
    assert contents(place(target)) == contents(tiny_store.path)


def test_a_finished_copy_is_only_checked(target, tiny_store, monkeypatch):
    copy_store(tiny_store.path, target)
    monkeypatch.setattr(copying, "_write", lambda path, content: pytest.fail(f"wrote {path}"))
    assert copy_store(tiny_store.path, target, verify=True)["copied_files"] == 0


def test_another_store_there_is_refused(target, tiny_store, write_store, make_rows, tmp_path):
    write_store(tmp_path / "other.zarr", {"train": make_rows(300, 9)}, time_step=1234.0)
    copy_store(tmp_path / "other.zarr", target)
    before = contents(place(target))
    with pytest.raises(SubgridError, match="holds another store"):
        copy_store(tiny_store.path, target)
    assert contents(place(target)) == before


def test_half_a_copy_of_another_store_is_refused(target, tiny_store, write_store, make_rows, tmp_path, monkeypatch):
    other = write_store(tmp_path / "other.zarr", {"train": make_rows(300, 9)}, time_step=1234.0)
    with monkeypatch.context() as patch:
        cut_after(3, patch)
        with pytest.raises(CutError):
            copy_store(other.path, target, workers=1)
    with pytest.raises(SubgridError, match="part of a copy of another store"):
        copy_store(tiny_store.path, target)


def test_other_files_there_are_refused_and_kept(s3, tiny_store, tmp_path):
    (RemotePath(s3) / "a/mine.txt").write_bytes(b"mine")
    with pytest.raises(SubgridError, match="holds other files"):
        copy_store(tiny_store.path, f"{s3}/a")
    assert contents(RemotePath(f"{s3}/a")) == {"mine.txt": b"mine"}
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("folder", "file"):
        with pytest.raises(SubgridError, match=f"{name} exists already and is no copy"):
            copy_store(tiny_store.path, tmp_path / name)


def test_a_damaged_file_is_found_and_a_cut_one_is_copied_again(target, tiny_store):
    copy_store(tiny_store.path, target)
    file = place(target) / "train/inputs/c/1/0"
    held = file.read_bytes()
    file.write_bytes(held[:10])
    assert copy_store(tiny_store.path, target)["copied_files"] == 1
    file.write_bytes(bytes([held[0] ^ 1]) + held[1:])
    assert copy_store(tiny_store.path, target)["copied_files"] == 0  # sizes alone
    with pytest.raises(SubgridError, match=r"inputs/c/1/0 differs from .*CRC-32"):
        copy_store(tiny_store.path, target, verify=True)


def test_a_source_that_gives_less_than_it_says_is_told(tiny_store, tmp_path, monkeypatch):
    read = copying._read
    monkeypatch.setattr(copying, "_read", lambda path: read(path)[: -4 if path.name == "0" else None])
    with pytest.raises(SubgridError, match=r"gave \d+ of \d+ bytes"):
        copy_store(tiny_store.path, tmp_path / "copy.zarr")
    with pytest.raises(SubgridError, match="unfinished"):
        open_store(tmp_path / "copy.zarr")


def test_from_a_server_with_an_index(web, tiny_store, tmp_path):
    (tmp_path / "served").mkdir()
    shutil.copytree(tiny_store.path, tmp_path / "served" / "a.zarr")
    copy_store(f"{web.url}/served/a.zarr", tmp_path / "copy.zarr")
    assert contents(tmp_path / "copy.zarr") == contents(tiny_store.path)


def test_a_source_without_a_store_and_a_copy_onto_itself(tiny_store, tmp_path, s3):
    with pytest.raises(SubgridError, match="nowhere does not exist"):
        copy_store(tmp_path / "nowhere", f"{s3}/a")
    with pytest.raises(UsageError, match="both source and target"):
        copy_store(tiny_store.path, str(tiny_store.path) + "/")
    with pytest.raises(UsageError, match="workers=0"):
        copy_store(tiny_store.path, f"{s3}/a", workers=0)


def test_a_kill_between_the_last_two_writes_leaves_a_finished_store(s3, tiny_store):
    copy_store(tiny_store.path, f"{s3}/a")
    mark = RemotePath(f"{s3}/a") / MARK
    mark.write_bytes(json.dumps({"copy_of_crc32": "0"}).encode())
    copy_store(tiny_store.path, f"{s3}/a")
    assert contents(RemotePath(f"{s3}/a")) == contents(tiny_store.path)
