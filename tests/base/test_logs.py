"""The log file of a folder of results, and how much is said on standard error."""

from __future__ import annotations

import logging
import re
import sys

import pytest

from subgrid.base import progress
from subgrid.base.errors import SubgridError
from subgrid.base.logs import LOG_FILE, _File, log_file, logger, quiet, set_up
from subgrid.base.progress import Progress

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO|ERROR|DEBUG|WARNING) .+")


@pytest.fixture(autouse=True)
def own_logger(monkeypatch):
    """Each test sets the logger up for itself."""
    for name in ("handlers", "level", "propagate"):
        monkeypatch.setattr(logger, name, [] if name == "handlers" else getattr(logger, name))
    yield
    logger.manager._clear_cache()  # monkeypatch restores the level behind the logger's back


def lines(folder):
    return (folder / LOG_FILE).read_text().splitlines()


def test_lines_have_a_time_and_a_second_part_is_appended(tmp_path):
    for part in ("first", "second"):
        with log_file(tmp_path, "train"):
            logger.info("the %s part", part)
    found = lines(tmp_path)
    assert all(LINE.fullmatch(line) for line in found)
    said = [line.split(" ", 2)[2] for line in found]
    assert [s for s in said if "part" in s] == ["the first part", "the second part"]
    assert len(found) == 6 and said[0].startswith("train: begins") and said[5].startswith("train: done after")


def test_the_file_moves_with_its_folder(tmp_path):
    built, final = tmp_path / "store.partial", tmp_path / "store"
    with log_file(built, "generate"):
        built.rename(final)
        logger.info("after the rename")
    assert not built.exists()
    assert "after the rename" in lines(final)[1] and "done" in lines(final)[2]


def test_nested_work_is_in_both_files_and_later_work_only_in_the_outer_one(tmp_path):
    with log_file(tmp_path, "demo"):
        with log_file(tmp_path / "run", "train"):
            logger.info("inside")
        logger.info("outside")
    outer, inner = lines(tmp_path), lines(tmp_path / "run")
    assert any("inside" in line for line in outer) and any("outside" in line for line in outer)
    assert any("inside" in line for line in inner) and not any("outside" in line for line in inner)
    assert not any(isinstance(handler, _File) for handler in logger.handlers)


@pytest.mark.parametrize(
    ("error", "said", "traced"),
    [
        (SubgridError("the store is damaged"), "train: failed: the store is damaged", False),
        (KeyboardInterrupt(), "train: interrupted", False),
        (ZeroDivisionError("a defect"), "train: failed: a defect", True),
    ],
)
def test_how_work_ended_is_the_last_thing_said(tmp_path, error, said, traced):
    with pytest.raises(type(error)), log_file(tmp_path, "train"):
        raise error
    text = (tmp_path / LOG_FILE).read_text()
    assert f" ERROR {said}\n" in text
    assert ("Traceback" in text) == traced


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SubgridError, match="cannot write to"), log_file(tmp_path / "file" / "run", "train"):
        raise AssertionError("the work must not begin")


def test_quiet_leaves_the_file_as_it_is(tmp_path, capsys):
    set_up(logging.WARNING)
    with log_file(tmp_path, "train"):
        logger.info("for the file")
        logger.warning("for both")
    assert quiet()
    assert capsys.readouterr().err == "for both\n"
    assert len(lines(tmp_path)) == 4


def test_verbose_reaches_screen_and_file(tmp_path, capsys):
    set_up(logging.DEBUG)
    with log_file(tmp_path, "train"):
        logger.debug("a detail")
    assert not quiet()
    assert capsys.readouterr().err == "a detail\n"
    assert any(line.endswith("DEBUG a detail") for line in lines(tmp_path))


def test_a_full_disk_does_not_stop_the_work(tmp_path, capsys):
    (tmp_path / LOG_FILE).symlink_to("/dev/full")
    with log_file(tmp_path, "train"):
        logger.info("no room for this")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("level", "bar"), [(logging.INFO, True), (logging.WARNING, False)])
def test_progress_is_a_bar_on_a_terminal_and_lines_in_the_file(tmp_path, capsys, monkeypatch, level, bar):
    set_up(level)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with log_file(tmp_path, "train"), Progress("train", 2) as shown:
        shown.update()
        shown.update()
    assert ("2/2" in capsys.readouterr().err) == bar
    assert any("train: 2 of 2 steps" in line for line in lines(tmp_path))


def test_plain_lines_come_now_and_then_elsewhere(tmp_path, capsys, monkeypatch):
    set_up()
    clock = iter([0.0, 1.0, progress.PLAIN_INTERVAL + 1.0, progress.PLAIN_INTERVAL + 2.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with Progress("train", 9) as shown:
        for _ in range(3):
            shown.update()
    assert re.findall(r"train: (\d) of 9", capsys.readouterr().err) == ["2"]
