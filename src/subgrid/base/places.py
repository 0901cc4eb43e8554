"""Places of data: a folder or file of this machine, or a URL (s3, gs, hf, http, memory, ...) that fsspec reads."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from subgrid.base.attempts import attempt, causes, class_names
from subgrid.base.errors import SubgridError, UsageError, unknown_name

Found = TypeVar("Found")
#: Classes of errors that a busy server or network makes, by name, since aiohttp and botocore are optional.
_TRANSIENT = {"ClientConnectionError", "ClientPayloadError", "ServerTimeoutError"}
_UNREACHED = {*_TRANSIENT, "EndpointConnectionError", "ConnectionError", "TimeoutError", "ConnectError"}
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}
_REFUSED, _NO_SUCH_METHOD = (401, 403), (405, 501)
_BUSY = (429, 500, 502, 503, 504)
_URL = re.compile(r"(\w+://)(?:[^\s/@'\"]*@)?([^\s?#'\"]*)(?:[?#][^\s'\"]*)?")


@dataclass(frozen=True)
class RemotePath:
    """A file or folder at a URL, joined with ``/`` as a path is; every failure is one clear error with the URL.

    Args:
        url: as fsspec takes it, ``s3://bucket/store.zarr``.
    """

    url: str

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(f"{self.url.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def protocol(self) -> str:
        """``s3`` of ``s3://bucket/store.zarr``."""
        return self.url.partition("://")[0].rpartition(":")[2]

    def read_bytes(self) -> bytes:
        """The whole file.

        Raises:
            SubgridError: it does not exist, is not allowed, or the place cannot be reached.
        """
        return bytes(self._reach(lambda fs, path: fs.cat_file(path)))

    def read_text(self, encoding: str = "utf-8") -> str:
        """The whole file as text; errors as :meth:`read_bytes`."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Write the whole file in one request, so that it is there whole or not at all.

        Raises:
            SubgridError: the place takes no files, is not allowed, or cannot be reached.
        """
        self._reach(lambda fs, path: fs.pipe_file(path, content))

    def unlink(self) -> None:
        """Remove the file; errors as :meth:`read_bytes`."""
        self._reach(lambda fs, path: fs.rm_file(path))

    def is_file(self) -> bool:
        """Whether there is such a file, found out by reading it (so of small ones), as some servers tell nothing else.

        Raises:
            SubgridError: the place cannot be reached.
        """
        try:
            self.read_bytes()
        except MissingError:
            return False
        return True

    def sizes(self) -> dict[str, int | None]:
        """Bytes of every file below, by path relative to here; None where the place does not say.

        Raises:
            SubgridError: the place cannot be listed or reached.
        """

        def find(fs: Any, path: str) -> dict[str, int | None]:
            fs.invalidate_cache()
            root = path.rstrip("/") + "/"
            found = fs.find(path, detail=True)
            return {
                name.removeprefix(root).removeprefix("/"): entry.get("size")
                for name, entry in found.items()
                if name.rstrip("/") != path.rstrip("/")
            }

        try:
            return self._reach(find)
        except MissingError:
            return {}

    def _reach(self, work: Callable[[Any, str], Found]) -> Found:
        """What ``work`` finds with the file system and the path in it; tried again after a passing failure.

        Some libraries (that for http) do not try again by themselves.
        """
        with _clear(self.url):
            fs, path = _file_system(self.url)
            return attempt(lambda: work(fs, path), _passing, self.url)


#: A folder or file, here or elsewhere.
Place = Path | RemotePath


class MissingError(SubgridError):
    """There is no such file, folder or bucket at a URL."""


def place(where: Path | RemotePath | str) -> Place:
    """A path for what is on this machine (also ``file://``), a :class:`RemotePath` for a URL.

    Raises:
        UsageError: a URL of an unknown protocol, with the nearest ones.
        SubgridError: a URL whose protocol needs a package that is not installed.
    """
    if not isinstance(where, str):
        return where
    if "://" not in where:
        return Path(where)
    found = RemotePath(where)
    if found.protocol in ("file", "local"):
        return Path(where.partition("://")[2])
    with _clear(where):
        _file_system(where)
    return found


def read_into(where: Place, out: NDArray[Any]) -> int:
    """Fill ``out`` with the bytes of a file, and say how many there were: here with one ``readinto``.

    Raises:
        FileNotFoundError: there is no such file.
        SubgridError: it is elsewhere and cannot be read.
    """
    if isinstance(where, Path):
        with where.open("rb", buffering=0) as handle:
            return handle.readinto(out.data) or 0
    try:
        got = where.read_bytes()
    except MissingError as error:
        raise FileNotFoundError(where.url) from error
    if len(got) == out.nbytes:
        out.reshape(-1).view(np.uint8)[:] = np.frombuffer(got, np.uint8)
    return len(got)


def file_sizes(where: Place) -> dict[str, int | None]:
    """Bytes of every file below ``where``, by path relative to it; None where the place does not say."""
    if isinstance(where, RemotePath):
        return where.sizes()
    return {str(p.relative_to(where)): p.stat().st_size for p in sorted(where.rglob("*")) if p.is_file()}


def lists_files(where: Place) -> bool:
    """Whether a place tells its files and their sizes in one request: web servers do not."""
    return isinstance(where, Path) or where.protocol not in ("http", "https")


def _file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL (made once each), and the URL's path in it."""
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    protocol = RemotePath(url).protocol
    if protocol not in known_implementations:
        raise unknown_name("protocol", protocol, known_implementations)
    try:
        fs, path = url_to_fs(url)
    except ImportError as error:
        package = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}
        needed = package.get(protocol)
        todo = f"pip install {needed}" if needed else str(error)
        raise SubgridError(f"{url}: {protocol}:// needs a package that is not installed: {todo}") from error
    return fs, str(path)


@contextlib.contextmanager
def _clear(url: str) -> Iterator[None]:
    """Turn what the many libraries raise into one clear error: which URL, what is wrong, what to do."""
    try:
        yield
    except SubgridError:
        raise
    except Exception as error:
        raise _meaning(url, error) from error


def _passing(error: Exception) -> bool:
    return bool(class_names(error) & _TRANSIENT) or getattr(error, "status", 0) in _BUSY


def _meaning(url: str, error: Exception) -> SubgridError:
    """The clear error for what a library raised; wrapped causes count, since fsspec hides some as "not found"."""
    chain = list(causes(error))
    kinds = class_names(*chain)
    statuses = {getattr(cause, "status", None) for cause in chain}
    if kinds & _NO_CREDENTIALS:
        return SubgridError(f"{url}: no credentials found: set them as the service's own tools want them{_how(url)}")
    if "PermissionError" in kinds or statuses & set(_REFUSED):
        return SubgridError(f"{url}: access denied: check the credentials and their rights{_how(url)}")
    if "NotImplementedError" in kinds or statuses & set(_NO_SUCH_METHOD):
        return SubgridError(f"{url}: this kind of place cannot do that ({_words(error)}): choose another to write to")
    if kinds & _UNREACHED and not kinds & {"NoSuchBucket", "NoSuchKey"}:
        return SubgridError(f"{url} could not be reached ({_words(error)}): check the network and the address")
    if "FileNotFoundError" in kinds or "EntryNotFoundError" in kinds or "RepositoryNotFoundError" in kinds:
        said = str(error)
        bucket = f" ({said.rstrip('.')})" if "bucket" in said.lower() and "/" not in said else ""
        return MissingError(f"{url} does not exist{bucket}: check the name of the bucket and the path in it")
    if isinstance(error, ValueError):
        return UsageError(f"{url}: {_words(error)}")
    return SubgridError(f"{url} cannot be used ({type(error).__name__}: {_words(error)})")


def _how(url: str) -> str:
    """Which settings a service's credentials are, for the services that most use."""
    known = {
        "s3": " (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws)",
        "gs": " (`gcloud auth application-default login`, or GOOGLE_APPLICATION_CREDENTIALS)",
        "hf": " (`hf auth login`, or HF_TOKEN)",
    }
    return known.get(RemotePath(url).protocol, "")


def _words(error: Exception) -> str:
    """An error's text without what its URLs may carry: user, password, query."""
    return _URL.sub(r"\1\2", " ".join(str(error).split()) or type(error).__name__)
