"""Web: HTTP as downloads need it: every wait ends, what fails for a while is tried again, and not for ever.

The standard library alone: proxies (`HTTPS_PROXY`, `NO_PROXY`) and the system's certificates are honoured.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any
from urllib.parse import urlsplit

from flexor import __version__
from flexor.export.download.remote_file import DownloadError

PIECE_BYTES = 1 << 20
PROGRESS_BYTES = 1 << 20
LONGEST_JSON = 64 << 20
SLOWEST_BYTES_S = 1024  # a server that is slower than this for a whole timeout is taken for dead
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that a later try may not meet again."""


class Unreachable(DownloadError):
    """Nobody answered, or the answer broke off.

    Attributes:
        contact: whether a connection stood at all.
    """

    def __init__(self, message: str, contact: bool) -> None:
        super().__init__(message)
        self.contact = contact


class Refused(DownloadError):
    """The server answered with an HTTP error.

    Attributes:
        status: the HTTP status.
        code: the hub's word for it (`X-Error-Code`), or "".
        pause_s: how long the server asked to be left alone (`Retry-After`), None when it did not say.
    """

    def __init__(self, message: str, status: int, code: str, pause_s: float | None) -> None:
        super().__init__(message)
        self.status, self.code, self.pause_s = status, code, pause_s


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what.

    Attributes:
        timeout_s: each wait: for a connection, for an answer, for the next bytes of it.
        tries: failures in a row, with less than 1 MiB between them, after which it is given up.
        pause_s: before the second try; doubles from try to try.
        longest_pause_s: between two tries, also when the server asks for more.
    """

    timeout_s: float = 30.0
    tries: int = 6
    pause_s: float = 1.0
    longest_pause_s: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s < float("inf"):
            raise DownloadError(f"the timeout is {self.timeout_s} s; expected more than 0 and an end")
        if self.tries < 1:
            raise DownloadError(f"the number of tries is {self.tries}; expected at least 1")


@dataclass(slots=True)
class Tries:
    """Failures in a row: `failed` waits a while after each, or raises it when no further try is worth it."""

    web: Web
    _count: int = 0
    _came: int = 0

    def progressed(self, size: int) -> None:
        """`size` bytes came. After enough of them the next failure is a first one again; a drop a byte has an end."""
        self._came += size
        if self._came >= PROGRESS_BYTES:
            self._count = self._came = 0

    def failed(self, error: Unreachable | Refused) -> None:
        """Wait before the next try.

        Raises:
            Unreachable, Refused: the error itself, when a further try is not worth it.
        """
        self._count += 1
        patience = self.web.patience
        # Offline from the start: nobody wants to wait for that.
        passing = error.status in PASSING if isinstance(error, Refused) else error.contact or self.web.answered
        if not passing or self._count >= patience.tries:
            raise error
        asked = error.pause_s if isinstance(error, Refused) else None
        pause_s = patience.pause_s * 2 ** (self._count - 1) if asked is None else asked
        self.web.retries += 1
        time.sleep(min(pause_s, patience.longest_pause_s))


@dataclass(slots=True)
class Web:
    """Asks one server, and whomever it redirects to.

    Attributes:
        patience: how long it waits.
        token: sent as a bearer token to `origin` alone: where redirects lead, nobody gets it.
        origin: scheme, host and port that the token belongs to.
        answered: whether any answer came yet.
        retries: how often something was tried again.
    """

    patience: Patience
    token: str | None = None
    origin: tuple[str, str] = ("", "")
    answered: bool = False
    retries: int = 0
    _opener: urllib.request.OpenerDirector = field(init=False)

    def __post_init__(self) -> None:
        self._opener = urllib.request.build_opener(_Redirects(self.origin))

    def open(self, url: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
        """The answer to one GET, its body unread; one try.

        Raises:
            Unreachable, Refused.
        """
        request = urllib.request.Request(url, headers={"User-Agent": f"flexor/{__version__}", **(headers or {})})
        if self.token is not None and origin_of(url) == self.origin:
            request.add_header("Authorization", f"Bearer {self.token}")
        host = urlsplit(url).netloc
        try:
            response = self._opener.open(request, timeout=self.patience.timeout_s)
        except urllib.error.HTTPError as error:
            self.answered = True
            with error:
                raise Refused(
                    f"{host} answers {error.code} {error.reason} for {url}",
                    error.code,
                    error.headers.get("X-Error-Code", ""),
                    _pause_s(error.headers.get("Retry-After")),
                ) from error
        except urllib.error.URLError as error:
            untrusted = isinstance(error.reason, ssl.SSLCertVerificationError)
            reason = f"its certificate is not trusted: {error.reason}" if untrusted else error.reason
            raise Unreachable(f"{host} cannot be reached: {reason}", contact=False) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise broken_off(host, error) from error
        self.answered = True
        return response

    def json(self, url: str) -> Any:
        """The JSON document at `url`, tried again where that helps.

        Raises:
            Unreachable, Refused: at last.
            DownloadError: what came is no JSON.
        """
        tries = Tries(self)
        while True:
            try:
                with self.open(url) as response:
                    text = b"".join(self.pieces(response, LONGEST_JSON))
                break
            except (Unreachable, Refused) as error:
                tries.failed(error)
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DownloadError(
                f"{url} answers something that is no JSON ({text[:60]!r}); a login page of this network, or not the "
                "server that it should be? Nothing was changed"
            ) from error

    def pieces(self, response: http.client.HTTPResponse, most: int) -> Iterator[bytes]:
        """Yield the body in pieces, `most` bytes of it.

        Raises:
            Unreachable: it breaks off, or becomes too slow.
        """
        host = urlsplit(response.url).netloc
        started, came, left = time.monotonic(), 0, most
        while left > 0:
            try:
                piece = response.read1(min(PIECE_BYTES, left))
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise broken_off(host, error) from error
            if not piece:
                return
            left -= len(piece)
            came += len(piece)
            yield piece
            now = time.monotonic()
            if now - started > self.patience.timeout_s:
                if came < SLOWEST_BYTES_S * (now - started):
                    raise Unreachable(f"{host} sends less than {SLOWEST_BYTES_S} bytes a second", contact=True)
                started, came = now, 0


def origin_of(url: str) -> tuple[str, str]:
    """Scheme and host with port of a URL."""
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower()


def broken_off(host: str, error: Exception) -> Unreachable:
    """The error for an answer that ended too early."""
    return Unreachable(f"the connection to {host} broke off: {error or type(error).__name__}", contact=True)


def _pause_s(asked: str | None) -> float | None:
    """Seconds of a Retry-After header; a date in it is left alone."""
    return float(asked) if asked and asked.isascii() and asked.isdigit() else None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects over HTTP, never from https to http, and takes the token along to its own origin only."""

    max_redirections = 6

    def __init__(self, origin: tuple[str, str]) -> None:
        self._origin = origin

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        old, new = origin_of(req.full_url)[0], origin_of(newurl)[0]
        if new not in ("http", "https") or (old == "https" and new != "https"):
            raise urllib.error.URLError(f"it redirects to {newurl}, which is not as safe")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and origin_of(newurl) != self._origin:
            request.remove_header("Authorization")
        return request
