"""WebServer: two addresses, `/` and `/state.json`, for GET and nothing else.

A page of another site that a browser on this machine shows must not read a run: it can make the browser ask, by a name
of its own that it lets point here (DNS rebinding). Such a request says that name in its Host header, and is refused.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
import socket
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files

from flexor.errors import FlexorError

REQUEST_TIMEOUT_S = 10.0
PAGE = "page.html"
State = Callable[[], bytes | str]
"""The state as JSON, or why there is none."""


class WebServer(ThreadingHTTPServer):
    """Listens at once; serve_forever() answers, shutdown() from another thread ends that.

    Args:
        host: address to listen at, or localhost.
        port: 0 takes a free one.
        state: called for each GET /state.json, from any thread.
        beyond: let it be reached from other machines.

    Attributes:
        url: where it is.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, state: State, beyond: bool = False) -> None:
        """
        Raises:
            FlexorError: `host` is not on loopback and `beyond` was not asked for, or it cannot listen there.
        """
        if not (_is_loopback(host) or beyond):
            raise FlexorError(
                f"{host} is not on loopback: anybody who reaches this machine could read the run; use an ssh tunnel, "
                "or say --beyond-loopback"
            )
        self.beyond, self.state = beyond, state
        self.page = files("flexor.flywheel.dashboard").joinpath(PAGE).read_bytes()
        self.policy = content_policy(self.page)
        try:
            self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise FlexorError(f"cannot listen at {host} port {port}: {error}; choose another --port") from error
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.server_address[1]}/"

    def allows(self, host: str) -> bool:
        """Whether a Host header may be answered: loopback by number or as localhost; beyond it, any number."""
        name = re.sub(r":[0-9]*$", "", host).strip("[]")
        if _is_loopback(name):
            return True
        return self.beyond and _address(name) is not None


class _Handler(BaseHTTPRequestHandler):
    server: WebServer  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = REQUEST_TIMEOUT_S
    server_version, sys_version = "flexor", ""

    def do_GET(self) -> None:
        if not self.server.allows(self.headers.get("Host", "")):
            self.send_error(HTTPStatus.FORBIDDEN, explain="ask by the number of this machine, or as localhost")
        elif self.path == "/":
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)
        elif self.path == "/state.json":
            state = self.server.state()
            if isinstance(state, bytes):
                self._answer(HTTPStatus.OK, "application/json", state)
            else:
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", state.encode())
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a page that asks every other second would fill any log."""

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": self.server.policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def content_policy(page: bytes) -> str:
    """What a browser lets the page do: its own script and style, its own state, and nothing from anywhere else."""
    scripts = re.findall(rb"<script>(.*?)</script>", page, re.DOTALL)
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _is_loopback(name: str) -> bool:
    address = _address(name)
    return name == "localhost" if address is None else address.is_loopback


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
