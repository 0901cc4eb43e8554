"""Files that are never half-written, clear refusals of the operating system, and one writer at a time."""

from __future__ import annotations

import errno
import json
import math
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from subgrid.base import files
from subgrid.base.errors import SubgridError
from subgrid.base.files import (
    folder_bytes,
    make_folder,
    only_writer,
    partial_path,
    read_json,
    replace_folder,
    write_file,
    write_json,
    write_text,
)


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "result.txt"
    write_text(path, "old")

    def fails(beside):
        beside.write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_file(path, fails)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result.txt"]


def test_a_write_replaces_the_old_file_only_when_complete(tmp_path):
    path = tmp_path / "result.txt"
    write_text(path, "old")
    seen = []

    def write(beside):
        beside.write_text("new")
        seen.append(path.read_text())

    write_file(path, write)
    assert (seen, path.read_text()) == (["old"], "new")


@pytest.mark.parametrize("act", [make_folder, lambda p: write_text(p, "x"), lambda p: write_json(p, {})])
def test_a_place_below_a_regular_file_is_refused_by_name(tmp_path, act):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SubgridError, match=r"cannot write to .*file/below.*choose another folder"):
        act(tmp_path / "file" / "below")


def test_a_folder_where_a_file_is_in_the_way_is_refused(tmp_path):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(SubgridError, match=r"cannot write to .*taken"):
        make_folder(tmp_path / "taken")


def test_a_full_disk_is_one_clear_line_and_the_old_file_stays(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_json(path, {"kept": 1})

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(SubgridError, match=r"no space left while writing .*result.json.*free some space"):
        write_json(path, {"kept": 2})
    monkeypatch.undo()
    assert read_json(path) == {"kept": 1}


def test_other_system_errors_are_not_disguised(tmp_path):
    def fails(beside):
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        write_file(tmp_path / "x", fails)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_holds_no_nan(tmp_path, value):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"score": value})
    assert not (tmp_path / "x.json").exists()


def test_json_round_trip_is_exact(tmp_path):
    content = {"x": 0.1 + 0.2, "list": [1, None, "é"]}
    write_json(tmp_path / "x.json", content)
    assert read_json(tmp_path / "x.json") == content
    assert json.loads((tmp_path / "x.json").read_text()) == content


@pytest.mark.parametrize("damage", [b'{"a": 1', b"\xff\xfe\x00", b""])
def test_damaged_json_names_the_file(tmp_path, damage):
    path = tmp_path / "x.json"
    path.write_bytes(damage)
    with pytest.raises(SubgridError, match=r"x\.json is not valid JSON"):
        read_json(path)


def test_absent_json_names_the_file(tmp_path):
    with pytest.raises(SubgridError, match=r"absent\.json does not exist"):
        read_json(tmp_path / "absent.json")


def test_replace_folder_takes_the_place_of_what_was_there(tmp_path):
    final, built = tmp_path / "store", partial_path(tmp_path / "store")
    assert built.name == "store.partial"
    for round_ in ("first", "second"):
        built.mkdir()
        (built / round_).write_text("x")
        replace_folder(built, final)
        assert [p.name for p in final.iterdir()] == [round_]
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_folder_bytes_counts_all_files_below(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x").write_bytes(b"12345")
    (tmp_path / "a" / "b" / "y").write_bytes(b"123")
    assert folder_bytes(tmp_path) == 8


_SECOND = """
import sys
from subgrid.base.errors import SubgridError
from subgrid.base.files import only_writer
try:
    with only_writer(__import__("pathlib").Path(sys.argv[1])):
        print("got it")
except SubgridError as error:
    print("refused:", error)
"""


def _second_process(folder):
    command = [sys.executable, "-c", _SECOND, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_only_writer_refuses_a_second_process_and_lets_go_afterwards(tmp_path):
    folder = tmp_path / "run"
    with only_writer(folder):
        said = _second_process(folder)
    assert said.startswith("refused:")
    assert f"another process is working on {folder}" in said
    assert _second_process(folder) == "got it\n"
    assert list(tmp_path.iterdir()) == []  # no lock is left lying about


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left"), OSError(errno.EFBIG, "too large"), ValueError("I/O error (os error 28)")],
    ids=["disk", "limit", "rust"],
)
def test_a_full_disk_that_any_library_meets_is_one_clear_line(tmp_path, error):
    with (
        pytest.raises(SubgridError, match=r"no space left while writing .*run.*free some space"),
        only_writer(tmp_path / "run"),
    ):
        try:
            raise error
        except (OSError, ValueError) as met:
            raise RuntimeError("could not save") from met


def test_only_writer_lets_go_when_the_work_fails(tmp_path):
    with pytest.raises(ValueError, match="failed"), only_writer(tmp_path / "run"):
        raise ValueError("failed")
    with only_writer(tmp_path / "run"):
        pass


def test_a_lock_on_a_file_that_was_just_removed_does_not_count(tmp_path, monkeypatch):
    """A holder removes its lock file as it leaves; who had opened that file before must not think it is alone."""
    folder, lock = tmp_path / "run", tmp_path / ".run.lock"
    real = files.fcntl.flock

    def flock(handle, how):
        lock.unlink()  # the former holder leaves between our open and our lock ...
        lock.write_text("")  # ... and a third process comes
        return real(handle, how)

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with pytest.raises(SubgridError, match="another process is working"), only_writer(folder):
        pass
    assert lock.exists()


def test_of_many_threads_one_at_a_time_is_the_writer(tmp_path):
    inside, worst, wins = [], [], []

    def work():
        for _ in range(50):
            try:
                with only_writer(tmp_path / "run"):
                    inside.append(1)
                    worst.append(len(inside))
                    wins.append(1)
                    inside.pop()
            except SubgridError:
                continue

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wins and max(worst) == 1
