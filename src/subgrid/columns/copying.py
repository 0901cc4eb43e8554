"""Copies of a column store between places (folders, object storage), resumable and never taken for finished halfway."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import zlib
from collections.abc import Iterator
from typing import Any

from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.files import (
    make_folder,
    only_writer,
    partial_path,
    remove_leftovers,
    replace_folder,
    writable,
    write_file,
)
from subgrid.base.places import MissingError, Place, RemotePath, file_sizes, place
from subgrid.base.progress import Progress
from subgrid.base.threads import in_threads, require_workers
from subgrid.columns.store import open_store

logger = logging.getLogger("subgrid")
#: The root description: a folder without it is no store, so it is copied last.
ROOT = "zarr.json"
#: Marks a copy that is not finished, and says of what.
MARK = "copying.json"
WORKERS = 4


def copy_store(
    source: Place | str, target: Place | str, workers: int = WORKERS, verify: bool = False
) -> dict[str, Any]:
    """Copy a finished store; a cut copy goes on where it was, and one that is there already is only checked.

    Args:
        source: a store: a folder, or a URL that can list its files.
        target: where the copy goes: a folder, or a URL that can be written.
        workers: files copied at a time; each is held in memory.
        verify: also read every file back from ``target`` and compare its CRC-32 with that of ``source``.

    Returns:
        ``source``, ``target``, ``files``, ``bytes``, and of these ``copied_files`` and ``copied_bytes`` now.

    Raises:
        UsageError: source and target are the same, a URL has no known protocol, or ``workers`` is not positive.
        SubgridError: ``source`` is not a finished store, ``target`` holds something else, a place cannot be read or
            written, or a file differs from its source.
    """
    require_workers(workers)
    source, target = place(source), place(target)
    if str(source).rstrip("/") == str(target).rstrip("/"):
        raise UsageError(f"{source} is both source and target of the copy")
    open_store(source)
    sizes = {name: size for name, size in file_sizes(source).items() if name != MARK}
    if ROOT not in sizes:
        raise SubgridError(f"{source} does not list its files: copy from a folder or from object storage")
    root = _read(source / ROOT)
    with _target(target, root) as folder:
        copied = _copy_files(source, folder, sizes, workers, verify)
    return {
        "source": str(source),
        "target": str(target),
        "files": len(sizes),
        "bytes": sum(copied.get(name, size or 0) for name, size in sizes.items()),
        "copied_files": len(copied),
        "copied_bytes": sum(copied.values()),
        "verified": verify,
    }


@contextlib.contextmanager
def _target(target: Place, root: bytes) -> Iterator[Place]:
    """The place to copy into, marked as unfinished until the work is done; refused if it holds something else."""
    if isinstance(target, RemotePath):
        finished = _begin(target, root)
        yield target
        if not finished or _read_if_there(target / MARK) is not None:
            _finish(target, root)
        return
    with only_writer(target):
        if target.is_file() or (target.is_dir() and any(target.iterdir())):
            if not (target / ROOT).is_file() or not _begin(target, root):
                raise SubgridError(f"{target} exists already and is no copy of the store; choose another name")
            yield target
            return
        building = make_folder(partial_path(target))
        _begin(building, root)
        remove_leftovers(building)
        yield building
        _finish(building, root)
        replace_folder(building, target)


def _begin(folder: Place, root: bytes) -> bool:
    """Mark ``folder`` as a copy of the store described by ``root``; says whether it is one already.

    Raises:
        SubgridError: ``folder`` holds something else.
    """
    mark = json.dumps({"copy_of_crc32": f"{zlib.crc32(root):08x}"}).encode()
    held = _read_if_there(folder / ROOT)
    if held is not None and held != root:
        raise SubgridError(f"{folder} holds another store; remove it or choose another name")
    if held is not None:
        return True
    begun = _read_if_there(folder / MARK)
    if begun is None and file_sizes(folder):
        raise SubgridError(f"{folder} holds other files; choose another name, or remove them")
    if begun is not None and begun != mark:
        raise SubgridError(f"{folder} holds a part of a copy of another store; remove it or choose another name")
    if begun is None:
        _write(folder / MARK, mark)
    return False


def _finish(folder: Place, root: bytes) -> None:
    """Write the root description, the last file, and take the mark away."""
    _write(folder / ROOT, root)
    with contextlib.suppress(FileNotFoundError, MissingError):
        (folder / MARK).unlink()


def _copy_files(
    source: Place, target: Place, sizes: dict[str, int | None], workers: int, verify: bool
) -> dict[str, int]:
    """Copy what ``target`` lacks, compare sizes (and sums), and return the bytes of what was copied, by name."""
    held = file_sizes(target)
    wanted = {name: size for name, size in sizes.items() if name != ROOT}
    missing = {name: size for name, size in wanted.items() if held.get(name) is None or held[name] != size}
    copied: dict[str, int] = {}
    lock = threading.Lock()

    def one(name: str) -> None:
        content: bytes | None = None
        if name in missing:
            content = _fetched(source / name, wanted[name])
            _write(target / name, content)
            with lock:
                copied[name] = len(content)
        if verify:
            _compare(source / name, target / name, content)

    work = list(wanted) if verify else list(missing)
    with Progress("copy", total=len(wanted), unit="files", done=len(wanted) - len(work)) as bar:
        in_threads(one, work, workers, lambda: bar.update(1))
    found = file_sizes(target)
    for name, size in wanted.items():
        expected = copied.get(name, size)
        if (found.get(name) is not None and found[name] != expected) or name not in found:
            raise SubgridError(
                f"{target / name} has {found.get(name, 'no')} bytes instead of {expected}: run the same command again"
            )
    return copied


def _fetched(path: Place, size: int | None) -> bytes:
    content = _read(path)
    if size is not None and len(content) != size:
        raise SubgridError(f"{path} gave {len(content)} of {size} bytes: run the same command again")
    return content


def _compare(source: Place, target: Place, read: bytes | None) -> None:
    """Raise unless both files have the same CRC-32; ``read`` is what was read of the source, if it was."""
    expected, found = (zlib.crc32(content) for content in (read or _read(source), _read(target)))
    if expected != found:
        raise SubgridError(f"{target} differs from {source} (CRC-32 {found:08x}, not {expected:08x}): remove it")


def _read(path: Place) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise SubgridError(f"{path} does not exist") from error


def _read_if_there(path: Place) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, MissingError):
        return None


def _write(path: Place, content: bytes) -> None:
    if isinstance(path, RemotePath):
        path.write_bytes(content)
        return
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, lambda beside: beside.write_bytes(content))
