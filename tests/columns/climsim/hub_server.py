"""A local web server that answers the few requests of huggingface_hub: a dataset's commit, pages of a tree, files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import parse_qs, unquote, urlparse

import netCDF4
import numpy as np

from subgrid.columns.climsim.names import file_name

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubState:
    """What the server has, how it misbehaves, and what it was asked.

    ``cuts`` and ``statuses`` are used up: so many bodies of a path end halfway, and each status is given once.
    """

    repository: str
    files: dict[str, bytes]
    page: int = 1000
    listed_sizes: dict[str, int] = field(default_factory=dict)
    listed_sums: dict[str, str] = field(default_factory=dict)
    cuts: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    url: str = ""

    def fetched(self) -> list[str]:
        """Paths of the files whose bodies were asked for."""
        return [path for method, path, _ in self.asked if method == "GET" and path in self.files]


def entries(state: HubState, folder: str) -> list[dict[str, object]] | None:
    """The entries of a folder as the hub lists them; None if there is no such folder."""
    prefix = f"{folder}/" if folder else ""
    found: dict[str, dict[str, object]] = {}
    for path, content in sorted(state.files.items()):
        if not path.startswith(prefix):
            continue
        first, *more = path.removeprefix(prefix).split("/")
        if more:
            found[first] = {"type": "directory", "path": prefix + first, "oid": "0" * 40, "size": 0}
            continue
        size = state.listed_sizes.get(path, len(content))
        sum_ = state.listed_sums.get(path, hashlib.sha256(content).hexdigest())
        lfs = {"oid": sum_, "size": size, "pointerSize": 130}
        found[first] = {"type": "file", "path": path, "oid": "0" * 40, "size": size, "lfs": lfs}
    return list(found.values()) if found or not folder else None


class Handler(BaseHTTPRequestHandler):
    """Requests as huggingface_hub makes them; files come by way of a redirect, as from the hub's own storage."""

    protocol_version = "HTTP/1.1"
    state: HubState

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *args: object) -> None:
        del args

    def _answer(self) -> None:
        url = urlparse(self.path)
        api, resolve = f"/api/datasets/{self.state.repository}", f"/datasets/{self.state.repository}/resolve/{COMMIT}/"
        path = unquote(url.path)
        if path in (api, f"{api}/revision/main"):
            self._json({"id": self.state.repository, "sha": COMMIT})
        elif path.startswith(f"{api}/tree/{COMMIT}"):
            self._tree(path.removeprefix(f"{api}/tree/{COMMIT}").strip("/"), parse_qs(url.query))
        elif path.startswith(resolve):
            self._resolve(path.removeprefix(resolve))
        elif path.startswith("/storage/"):
            self._file(path.removeprefix("/storage/"))
        else:
            self._error(404, "RepoNotFound")

    def _tree(self, folder: str, query: dict[str, list[str]]) -> None:
        self.state.asked.append(("TREE", folder, query.get("cursor", [""])[0]))
        if self._refuses(f"tree/{folder}"):
            return
        held = entries(self.state, folder)
        if held is None:
            self._error(404, "EntryNotFound")
            return
        start = int(query.get("cursor", ["0"])[0])
        after = start + self.state.page
        link = {}
        if after < len(held):
            here = f"{self.state.url}{urlparse(self.path).path}?recursive=False&cursor={after}"
            link = {"Link": f'<{here}>; rel="next"'}
        self._json(held[start:after], link)

    def _resolve(self, path: str) -> None:
        if path not in self.state.files:
            self._error(404, "EntryNotFound")
            return
        if self._refuses(path):
            return
        content = self.state.files[path]
        self._head(
            302,
            {
                "Location": f"{self.state.url.replace('127.0.0.1', 'localhost')}/storage/{path}",
                "X-Repo-Commit": COMMIT,
                "X-Linked-Size": str(len(content)),
                "X-Linked-ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                "Content-Length": "0",
            },
        )

    def _file(self, path: str) -> None:
        wanted = self.headers.get("Range", "")
        self.state.asked.append((self.command, path, wanted))
        content = self.state.files[path]
        start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        body = content[start:]
        more = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if wanted else {}
        self._head(206 if wanted else 200, {"Content-Length": str(len(body)), **more})
        if self.command == "HEAD":
            return
        if self.state.cuts.get(path, 0) > 0:
            self.state.cuts[path] -= 1
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self.wfile.write(body)

    def _refuses(self, path: str) -> bool:
        """Give the next of the statuses that wait for ``path``, if there is one."""
        waiting = self.state.statuses.get(path)
        if not waiting:
            return False
        self._error(waiting.pop(0), "Busy")
        return True

    def _json(self, content: object, more: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(body)), **(more or {})})
        self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self._head(status, {"X-Error-Code": code, "X-Error-Message": code, "Content-Length": "0"})

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def serving(state: HubState) -> Iterator[HubState]:
    """Serve ``state``, with the address written into it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneHub", (Handler,), {"state": state}))
    state.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


def netcdf(value: int, columns: int = 40) -> bytes:
    """A small CDF-5 file that differs by ``value``."""
    with NamedTemporaryFile(suffix=".nc") as place:
        with netCDF4.Dataset(place.name, "w", format="NETCDF3_64BIT_DATA") as file:
            file.createDimension("ncol", columns)
            file.createVariable("state_ps", "f8", ("ncol",))[:] = value + np.arange(columns)
        return Path(place.name).read_bytes()


def dataset(months: dict[str, list[int]], kinds: tuple[str, ...] = ("mli", "mlo")) -> dict[str, bytes]:
    """Files by path: the steps of the first day of each month, and a grid file."""
    files = {"ClimSim_low-res_grid-info.nc": netcdf(-1), "README.md": b"a dataset"}
    for month, steps in months.items():
        year, number = (int(part) for part in month.split("-"))
        for step in steps:
            for k, kind in enumerate(kinds):
                name = file_name(kind, year, number, 1 + step // 72, step % 72 * 1200)
                files[f"train/{month}/{name}"] = netcdf(1000 * step + k)
    return files
