"""Files that are never half-written: write beside, then rename; one writer at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from subgrid.base.errors import SubgridError
from subgrid.base.places import Place

PARTIAL = ".partial"
#: What the system says when there is no room: on the disk, in the quota, within a limit on the size of files.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LEFTOVER = re.compile(r"\..+\.\d+\.tmp|.*\.[0-9a-f]{32}\.partial")


def partial_path(path: Path) -> Path:
    """Where the folder ``path`` is built before it is renamed into place."""
    return path.with_name(path.name + PARTIAL)


@contextlib.contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while writing below ``path`` into one clear error."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
            raise SubgridError(
                f"cannot write to {path}: {error.strerror}; choose another folder or change its permissions"
            ) from error
        if error.errno in NO_ROOM:
            raise _full(path) from error
        raise


def _full(path: Path) -> SubgridError:
    return SubgridError(
        f"no space left while writing {path}; what was finished is kept: free some space and run the same command again"
    )


@contextlib.contextmanager
def room(path: Path) -> Iterator[None]:
    """Turn a full disk anywhere in the work on ``path`` into one clear error, whichever library met it."""
    try:
        yield
    except SubgridError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            # Libraries written in Rust give the system's words instead of its number.
            if getattr(cause, "errno", None) in NO_ROOM or any(f"(os error {n})" in str(cause) for n in NO_ROOM):
                raise _full(path) from error
            cause = cause.__cause__ or cause.__context__
        raise


def make_folder(path: Path) -> Path:
    """Create ``path`` (and parents); raises :class:`SubgridError` if that is not allowed."""
    with writable(path):
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink(missing_ok=True)
    return path


def write_file(path: Path, write: Callable[[Path], object], flush: bool = True) -> None:
    """Let ``write`` fill a file beside ``path``, flush it to disk and rename it into place.

    Without ``flush`` a machine that loses its power may leave it empty: for many files that are soon made again.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writable(path):
        try:
            write(beside)
            if flush:
                with beside.open("rb+") as handle:
                    os.fsync(handle.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writes left below ``folder``, ours and Zarr's; only for who holds its lock."""
    for left in folder.rglob("*"):
        if _LEFTOVER.fullmatch(left.name) and left.is_file():
            left.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically."""
    write_file(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON atomically; NaN and infinity are refused (they are not JSON)."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Place) -> Any:
    """Read JSON; raises :class:`SubgridError` naming the file if it is absent or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SubgridError(f"{path} does not exist") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SubgridError(f"{path} is not valid JSON ({error}); it may be damaged: make it again") from error


def replace_folder(built: Path, final: Path) -> None:
    """Rename the finished folder ``built`` to ``final``, replacing what was there."""
    with writable(final):
        if final.exists():
            old = final.with_name(final.name + ".old")
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
            built.rename(final)
            shutil.rmtree(old, ignore_errors=True)
        else:
            built.rename(final)


@contextlib.contextmanager
def built_beside(final: Path) -> Iterator[Path]:
    """A folder beside ``final``, which takes its place if nothing goes wrong, and is removed otherwise."""
    built = partial_path(final)
    shutil.rmtree(built, ignore_errors=True)  # of a process that was killed
    try:
        yield make_folder(built)
        replace_folder(built, final)
    finally:
        shutil.rmtree(built, ignore_errors=True)


@contextlib.contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the lock of the folder ``path``; a second process is told at once.

    Raises:
        SubgridError: another process is writing there.
    """
    make_folder(path.parent)
    lock = path.with_name(f".{path.name}.lock")
    with writable(path):
        opened = lock.open("w")
    with opened as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = not os.path.samestat(os.fstat(handle.fileno()), lock.stat())
        except (BlockingIOError, FileNotFoundError):
            gone = True
        # A holder removes the file as it leaves: a lock on a removed file keeps nobody out.
        if gone:
            raise SubgridError(f"another process is working on {path}; wait for it or choose another folder")
        try:
            with room(path):
                yield
        finally:
            lock.unlink(missing_ok=True)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of the folder ``path`` (see :func:`only_writer`); nothing is written."""
    try:
        with path.with_name(f".{path.name}.lock").open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    return False


def folder_bytes(path: Path) -> int:
    """Total size of the files below ``path``."""
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
