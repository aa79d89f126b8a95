"""PolicyServer: one policy behind its sockets, one thread for the sockets and one for the engine."""

from __future__ import annotations

import os
import secrets
from types import TracebackType
from typing import Any

from flexor import __version__
from flexor.errors import FlexorError
from flexor.runtime.serving.address import Addresses
from flexor.runtime.serving.engine_thread import EngineThread, ServedPolicy
from flexor.runtime.serving.io_thread import IoThread
from flexor.runtime.serving.mailbox import Mailbox
from flexor.runtime.serving.server_settings import ServerSettings
from flexor.runtime.serving.server_sockets import LINGER_MS, ServerSockets
from flexor.runtime.serving.sessions import Sessions


class ServerError(FlexorError):
    """A server that failed while it served, did not get ready, or did not stop in time."""


class PolicyServer:
    """Answers observations with action chunks until it is stopped. Use it as a context, or start() and stop() it.

    It answers `hello` at once and says `ready` there when the policy is warm; until then `infer` is told `busy`.

    Args:
        policy: what computes the chunks; after start() only the engine thread uses it.
        address: data address; the control and events sockets lie beside it (see address.py). None: the one in
            the settings, or the default one.
        settings: limits and timeouts.
    """

    def __init__(
        self, policy: ServedPolicy, address: str | None = None, settings: ServerSettings | None = None
    ) -> None:
        self.settings = ServerSettings() if settings is None else settings
        self.addresses = Addresses.of(address if address is not None else self.settings.bind)
        self._policy = policy
        self._io: IoThread | None = None
        self._engine: EngineThread | None = None

    def start(self) -> None:
        """Bind, then serve in two threads.

        Raises:
            AddressError: another server lives at the address, or it cannot be used.
            ServerError: it was started before.
        """
        if self._io is not None:
            raise ServerError("this server was started before; make a new one")
        described = self._policy.describe()
        sockets = ServerSockets(self.addresses)
        mailbox = Mailbox(self.settings.max_waiting)
        identity = {"id": secrets.token_hex(8), "pid": os.getpid(), "version": __version__}
        sessions = Sessions(self.settings.max_sessions, self.settings.idle_limit_s)
        self._io = IoThread(sockets, mailbox, sessions, described, identity, self.settings.stop_timeout_s)
        self._engine = EngineThread(self._policy, mailbox, self.settings.entropy == "slack", self._io.post)
        self._engine.start()
        self._io.start()

    def ready(self, timeout_s: float = 0.0) -> bool:
        """Whether the policy is warm, at the latest after `timeout_s`.

        Raises:
            ServerError: it failed, or the server was stopped before.
        """
        io = self._started()
        if not io.ready.wait(timeout_s):
            return False
        if not io.warm:
            raise ServerError(f"the policy did not get ready: {io.failure or 'the server was stopped'}") from io.failure
        return True

    def wait_ready(self, timeout_s: float) -> None:
        """Return when the policy is warm.

        Raises:
            ServerError: it failed, was stopped, or is not warm after `timeout_s`.
        """
        if not self.ready(timeout_s):
            raise ServerError(f"the policy is not warm after {timeout_s:g} s; give it more time, or a smaller bundle")

    def wait(self, timeout_s: float) -> bool:
        """Wait until the server is over; False when it still serves after `timeout_s`."""
        io = self._started()
        io.join(timeout_s)
        return not io.is_alive()

    def stop(self) -> None:
        """Answer what waits, finish the chunk under way, close the sockets and remove their files.

        Raises:
            ServerError: what ended the server before it was asked to, or a thread that does not end.
        """
        io, engine = self._started(), self._engine
        io.stop()
        io.join(self._stop_limit_s)
        if engine is not None:
            engine.join(self._stop_limit_s)
        if io.is_alive() or (engine is not None and engine.is_alive()):
            raise ServerError(f"the server did not stop within {self._stop_limit_s:g} s; a chunk may be stuck")
        if io.failure is not None:
            raise ServerError(f"the server failed: {type(io.failure).__name__}: {io.failure}") from io.failure

    def stats(self) -> dict[str, Any]:
        """The counters that the control socket tells while the server runs; call it once the server is over.

        Raises:
            ServerError: the server still runs.
        """
        if self._started().is_alive():
            raise ServerError("the server runs; ask its control socket for the counters")
        return self._started().stats()

    def __enter__(self) -> PolicyServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def _stop_limit_s(self) -> float:
        return self.settings.stop_timeout_s + 2 * LINGER_MS / 1000.0

    def _started(self) -> IoThread:
        if self._io is None:
            raise ServerError("this server was not started; call start() first")
        return self._io
