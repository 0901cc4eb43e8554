"""A local web server that answers huggingface_hub's requests about one model repository: commits, large files, files.

Small files come in the commit itself, weights as large files by the protocol of git LFS, and a commit is visible only
when all of it is there, as on the hub.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

TOKEN = "hf_secret_of_the_tests"


@dataclass
class ModelHub:
    """What the server has: ``commits`` of the repository (None: it does not exist), each a tree of files.

    ``statuses`` are given once each to requests whose path holds the key.
    """

    repository: str
    commits: list[dict[str, bytes]] | None = field(default_factory=lambda: [{}])
    private: bool = False
    large: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def files(self) -> dict[str, bytes]:
        """The newest tree."""
        assert self.commits
        return self.commits[-1]


def sha(number: int) -> str:
    """Name of a commit."""
    return f"{number:040x}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    hub: ModelHub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *args: object) -> None:
        del args

    def _answer(self) -> None:
        hub, path = self.hub, unquote(urlparse(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = self._chunks()
        hub.asked.append((self.command, path, self.headers.get("Authorization", "")))
        waiting = next((left for part, left in hub.statuses.items() if part in path and left), None)
        if waiting:
            return self._error(waiting.pop(0), "Busy")
        signed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if path.startswith("/upload/"):
            hub.large[path.removeprefix("/upload/")] = self.body
            return self._json({})
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self.command in ("POST", "PUT") and not signed:
            return self._error(401, "")
        if path == "/api/repos/create":
            hub.commits = [{}] if hub.commits is None else hub.commits
            hub.private = json.loads(self.body)["visibility"] == "private" if b"visibility" in self.body else True
            return self._json({"url": f"{hub.url}/{hub.repository}"})
        if hub.commits is None or hub.repository not in path or (hub.private and not signed):
            return self._error(401 if not signed else 404, "RepoNotFound")
        return self._of_repository(path)

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _of_repository(self, path: str) -> None:
        hub, name = self.hub, self.hub.repository
        assert hub.commits is not None
        if path in (f"/api/models/{name}", f"/api/models/{name}/revision/main"):
            self._json({"id": name, "sha": sha(len(hub.commits)), "private": hub.private, "tags": [], "siblings": []})
        elif path.startswith(f"/api/models/{name}/revision/"):
            self._error(404, "RevisionNotFound")
        elif path == f"/api/models/{name}/preupload/main":
            self._json({"files": [self._mode(one["path"]) for one in json.loads(self.body)["files"]]})
        elif path == f"/{name}.git/info/lfs/objects/batch":
            self._json(
                {"transfer": "basic", "objects": [self._upload(one) for one in json.loads(self.body)["objects"]]}
            )
        elif path == f"/api/models/{name}/commit/main":
            self._commit()
        elif path.startswith(f"/{name}/resolve/"):
            self._file(*path.removeprefix(f"/{name}/resolve/").split("/", 1))
        else:
            self._error(404, "RepoNotFound")

    def _mode(self, path: str) -> dict[str, object]:
        return {
            "path": path,
            "uploadMode": "lfs" if path.endswith(".safetensors") else "regular",
            "shouldIgnore": False,
        }

    def _upload(self, one: dict[str, object]) -> dict[str, object]:
        return {**one, "authenticated": True, "actions": {"upload": {"href": f"{self.hub.url}/upload/{one['oid']}"}}}

    def _commit(self) -> None:
        tree = dict(self.hub.files)
        for line in self.body.splitlines():
            said = json.loads(line)
            value = said["value"]
            if said["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif said["key"] == "lfsFile":
                tree[value["path"]] = self.hub.large[value["oid"]]
        assert self.hub.commits is not None
        self.hub.commits.append(tree)
        self._json(
            {
                "commitUrl": f"{self.hub.url}/{self.hub.repository}/commit/{sha(len(self.hub.commits))}",
                "commitOid": sha(len(self.hub.commits)),
                "success": True,
            }
        )

    def _file(self, commit: str, path: str) -> None:
        assert self.hub.commits is not None
        tree = self.hub.commits[int(commit, 16) - 1]
        if path not in tree:
            self._error(404, "EntryNotFound")
            return
        etag = f'"{hashlib.sha256(tree[path]).hexdigest()}"'
        headers = {"X-Repo-Commit": commit, "ETag": etag, "Content-Length": str(len(tree[path]))}
        self._head(200, headers)
        if self.command == "GET":
            self.wfile.write(tree[path])

    def _json(self, content: object) -> None:
        body = json.dumps(content).encode()
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self._head(status, {"X-Error-Code": code, "X-Error-Message": code or "Unauthorized", "Content-Length": "0"})

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def serving(hub: ModelHub) -> Iterator[ModelHub]:
    """Serve ``hub``, with the address written into it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneHub", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield hub
    server.shutdown()
    server.server_close()
