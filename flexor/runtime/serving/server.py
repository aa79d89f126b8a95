"""PolicyServer: one policy behind its sockets, one thread for the sockets and one for the engine."""

from __future__ import annotations

import os
import secrets
from types import TracebackType
from typing import Any, cast

from flexor import __version__
from flexor.errors import FlexorError
from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_slots import AdapterSlots
from flexor.runtime.adapters.lifecycle import Lifecycle
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.serving.adapter_thread import AdapterThread, open_lifecycle
from flexor.runtime.serving.address import Addresses
from flexor.runtime.serving.engine_thread import AdaptedPolicy, EngineThread, ServedPolicy
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
        policy: what computes the chunks; after start() only the engine thread uses it, but for loading adapters.
        address: data address; the control and events sockets lie beside it (see address.py). None: the one in
            the settings, or the default one.
        settings: limits and timeouts.
        bundle: that the policy has, which is an AdaptedPolicy then; with settings.adapters.dir alone.
    """

    def __init__(
        self,
        policy: ServedPolicy,
        address: str | None = None,
        settings: ServerSettings | None = None,
        bundle: Bundle | None = None,
    ) -> None:
        self.settings = ServerSettings() if settings is None else settings
        self.addresses = Addresses.of(address if address is not None else self.settings.bind)
        self._policy, self._bundle = policy, bundle
        self._adapters: AdapterThread | None = None
        self._io: IoThread | None = None
        self._engine: EngineThread | None = None

    def start(self) -> None:
        """Bind, then serve in two threads.

        Raises:
            AddressError: another server lives at the address, or it cannot be used.
            AdapterError: another server has the directory of adapters, or the engine carries none.
            ServerError: it was started before, or the directory of adapters cannot be used.
        """
        if self._io is not None:
            raise ServerError("this server was started before; make a new one")
        described = self._policy.describe()
        slots, lifecycle = self._open_adapters()
        try:
            sockets = ServerSockets(self.addresses)
        except BaseException:
            if lifecycle is not None:
                lifecycle.store.close()
            raise
        mailbox = Mailbox(self.settings.max_waiting)
        identity = {"id": secrets.token_hex(8), "pid": os.getpid(), "version": __version__}
        sessions = Sessions(self.settings.max_sessions, self.settings.idle_limit_s)
        if lifecycle is not None:
            self._adapters = AdapterThread(lifecycle, lambda report: self._started().post(report))
        self._io = IoThread(sockets, mailbox, sessions, slots, described, identity, self.settings, self._adapters)
        entropy = self.settings.entropy == "slack"
        self._engine = EngineThread(self._policy, mailbox, entropy, self._io.post, slots, self._adapters)
        if self._adapters is not None:
            self._adapters.start()
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
        io, others = self._started(), [thread for thread in (self._engine, self._adapters) if thread is not None]
        io.stop()
        if self._adapters is not None:
            self._adapters.stop()
        io.join(self._stop_limit_s)
        for thread in others:
            thread.join(self._stop_limit_s)
        if any(thread.is_alive() for thread in (io, *others)):
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

    def _open_adapters(self) -> tuple[AdapterSlots, Lifecycle | None]:
        """The slots of the engine, and its adapters with the one that was active already loaded."""
        settings = self.settings.adapters
        if settings.dir is None:
            return AdapterSlots(1), None
        if self._bundle is None:
            raise ServerError("adapters are of a bundle; give it to the server together with the policy")
        policy = cast(AdaptedPolicy, self._policy)
        if policy.slots < 2:
            raise AdapterError(
                "no_slot", f"the engine of {self._bundle.id} carries no adapter; serve it without --adapters"
            )
        slots = AdapterSlots(policy.slots)
        try:
            lifecycle = open_lifecycle(self._bundle, policy, slots, settings)
            try:
                lifecycle.restore()
            except BaseException:
                lifecycle.store.close()
                raise
        except OSError as error:
            raise ServerError(
                f"{settings.dir} cannot be a directory of adapters ({error.strerror}); give another --adapters DIR"
            ) from error
        return slots, lifecycle

    @property
    def _stop_limit_s(self) -> float:
        return self.settings.stop_timeout_s + 2 * LINGER_MS / 1000.0

    def _started(self) -> IoThread:
        if self._io is None:
            raise ServerError("this server was not started; call start() first")
        return self._io
