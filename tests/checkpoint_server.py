"""A real HTTP server that speaks like the Hugging Face hub and like a bucket, and fails as networks do when told to."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from flexor.export.download.crc32c import Crc32c

COMMIT = "a" * 40
REPO = "lerobot/tiny"
OLD_REPO = "lerobot/tiny-as-it-was-called"
BUCKET = "assets"
PIECE = 4096


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def crc32c(content: bytes) -> str:
    crc = Crc32c()
    crc.update(content)
    return base64.b64encode(bytes.fromhex(crc.hexdigest())).decode()


@dataclass
class Asked:
    """A request for a file: its path in the repository or bucket, and the headers that matter."""

    path: str
    range: str | None
    if_range: str | None
    token: str | None


@dataclass
class CheckpointServer:
    """Serves `files` as hf:lerobot/tiny and as gs://assets. What it was asked and what it sent is counted.

    Attributes:
        files: by path. Those that end in .safetensors are kept by the hub as large files, under their sha256.
        listed: other contents that the lists speak of, by path.
        names: paths that the lists have in place of the real ones.
        drops: by path, after how many bytes of an answer the connection is dropped; one a request, while there are any.
        statuses: by path, HTTP statuses to answer with first; a pair adds a Retry-After.
        holds: by path, after how many bytes an answer stops; `release` ends the connection.
        etags: by path; else one of the content.
        ranges: whether it knows them. if_range: whether it minds If-Range. shift: how far beside a range it answers.
        gated: answers for files need `token`.
        files_at: the URL of another server to which files are redirected.
        drips: paths whose answers come byte by byte.
        page: what answers in place of every list.
        info: what the hub's answer about the repository has besides.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    listed: dict[str, bytes] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    drops: dict[str, list[int]] = field(default_factory=dict)
    statuses: dict[str, list[Any]] = field(default_factory=dict)
    holds: dict[str, int] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    if_range: bool = True
    shift: int = 0
    gated: bool = False
    token: str | None = None
    files_at: str | None = None
    drips: set[str] = field(default_factory=set)
    page: bytes | None = None
    info: dict[str, Any] = field(default_factory=dict)
    commit: str = COMMIT
    composite: bool = False
    page_files: int = 1000
    asked: list[Asked] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    lists: list[str] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environ(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.url, "STORAGE_EMULATOR_HOST": self.url, "NO_PROXY": "*"}

    def hub_list(self) -> dict[str, Any]:
        siblings = []
        for path, served in self.files.items():
            content = self.listed.get(path, served)
            told: dict[str, Any] = {"rfilename": self.names.get(path, path), "size": len(content)}
            if path.endswith(".safetensors"):
                told |= {"blobId": "0" * 40, "lfs": {"sha256": hashlib.sha256(content).hexdigest()}}
                told["lfs"] |= {"size": len(content), "pointerSize": 134}
            else:
                told["blobId"] = git_sha1(content)
            siblings.append(told)
        return {"id": REPO, "sha": self.commit, "gated": False, "siblings": siblings, **self.info}

    def object(self, path: str) -> dict[str, str]:
        content = self.listed.get(path, self.files[path])
        told = {"name": self.names.get(path, path), "size": str(len(content)), "generation": "17"}
        if not self.composite:
            told["md5Hash"] = base64.b64encode(hashlib.md5(content).digest()).decode()
        return told | {"crc32c": crc32c(content)}

    def __enter__(self) -> CheckpointServer:
        state = self

        class Handler(_Handler):
            server_state = state

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    server_state: CheckpointServer
    timeout = 20

    def do_GET(self) -> None:
        state, parts = self.server_state, urlsplit(self.path)
        query = parse_qs(parts.query)
        hub, storage = f"/{REPO}/resolve/{state.commit}/", f"/storage/v1/b/{BUCKET}/o"
        if f"/{OLD_REPO}/" in self.path:
            self._answer(307, b"", {"Location": self.path.replace(OLD_REPO, REPO)})
        elif parts.path.startswith(f"/api/models/{REPO}/revision/"):
            revision = unquote(parts.path.rpartition("/")[2])
            self._list("hub", state.hub_list() if revision in ("main", state.commit) else None, "RevisionNotFound")
        elif parts.path.startswith("/api/models/"):
            self._list("hub", None, "RepoNotFound", 401)
        elif parts.path == storage:
            self._bucket_page(query["prefix"][0], int(query.get("pageToken", ["0"])[0]))
        elif parts.path.startswith(f"{storage}/") and "alt" not in query:
            path = unquote(parts.path.removeprefix(f"{storage}/"))
            self._list("object", state.object(path) if path in state.files else None)
        elif parts.path.startswith(f"{storage}/"):
            self._file(unquote(parts.path.removeprefix(f"{storage}/")))
        elif parts.path.startswith(hub):
            self._file(unquote(parts.path.removeprefix(hub)))
        else:
            self._answer(404, b"")

    def _bucket_page(self, prefix: str, begin: int) -> None:
        state = self.server_state
        paths = sorted(path for path in state.files if path.startswith(prefix))
        end = begin + state.page_files
        told: dict[str, Any] = {"items": [state.object(path) for path in paths[begin:end]]} if paths else {}
        self._list("bucket", told | ({"nextPageToken": str(end)} if end < len(paths) else {}))

    def _list(self, kind: str, told: dict[str, Any] | None, code: str = "", status: int = 404) -> None:
        self.server_state.lists.append(kind)
        if self._fails(kind):
            return
        if told is None:
            self._answer(status, b"{}", {"X-Error-Code": code})
        else:
            self._answer(200, json.dumps(told).encode() if self.server_state.page is None else self.server_state.page)

    def _file(self, path: str) -> None:
        state, headers = self.server_state, self.headers
        asked = Asked(path, headers.get("Range"), headers.get("If-Range"), headers.get("Authorization"))
        state.asked.append(asked)
        if self._fails(path):
            return
        if state.gated and asked.token != f"Bearer {state.token}":
            self._answer(403 if asked.token else 401, b"", {"X-Error-Code": "GatedRepo"})
            return
        if state.files_at is not None:
            self._answer(302, b"", {"Location": state.files_at + self.path})
            return
        content = state.files[path]
        etag = state.etags.get(path, f'"{hashlib.sha256(content).hexdigest()}"')
        begin = 0
        if asked.range and state.ranges and (not state.if_range or asked.if_range in (None, etag)):
            begin = int(asked.range.removeprefix("bytes=").removesuffix("-")) + state.shift
        told = {"ETag": etag, "Content-Length": str(len(content) - begin)}
        if begin:
            told["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        drops = state.drops.get(path)
        self._send(206 if begin else 200, told, path, content[begin:], drops.pop(0) if drops else None)

    def _send(self, status: int, headers: dict[str, str], path: str, content: bytes, drop: int | None) -> None:
        state = self.server_state
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        hold, size = state.holds.get(path), PIECE
        if path in state.drips:
            size = 1
        for start in range(0, len(content), size):
            if size == 1:
                state.release.wait(0.02)
            if hold is not None and start >= hold:
                self.wfile.flush()
                state.held.set()
                state.release.wait(20)
                self.close_connection = True
                return
            if drop is not None and start >= drop:
                self.close_connection = True
                return
            try:
                self.wfile.write(content[start : start + size])
            except OSError:
                return  # the client is gone
            state.sent[path] = state.sent.get(path, 0) + len(content[start : start + size])

    def _fails(self, path: str) -> bool:
        statuses = self.server_state.statuses.get(path)
        if not statuses:
            return False
        status = statuses.pop(0)
        status, pause = status if isinstance(status, tuple) else (status, None)
        self._answer(status, b"no", {} if pause is None else {"Retry-After": str(pause)})
        return True

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Standard error is the tests'."""
