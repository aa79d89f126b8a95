"""ServerControl: the control socket of a server on this machine, which only its own user can open."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import zmq

from flexor.runtime.serving.address import Addresses
from flexor.runtime.serving.channel import Channel


class ServerControl:
    """Asks one server about itself, or to stop. One thread uses it.

    Args:
        address: the server's data address; the control socket lies beside it. None is the default one.
        timeout_s: how long each request may take.
        context: for sharing one; else it has its own.
    """

    def __init__(
        self, address: str | None = None, timeout_s: float = 5.0, context: zmq.Context[Any] | None = None
    ) -> None:
        self._channel = Channel(Addresses.of(address).control, timeout_s, context)

    def stats(self) -> dict[str, Any]:
        """uptime_s, ready, received and replies by type, undeliverable, waiting, sessions, episodes by outcome,
        policy_ms (p50, p95, p99 of the last chunks).

        Raises:
            ServerTimeout, ServerRefused: there is no such answer.
        """
        return self._channel.call("stats").fields["stats"]

    def shutdown(self) -> None:
        """Ask the server to stop; it has begun to when this returns.

        Raises:
            ServerTimeout, ServerRefused: it did not take the order.
        """
        self._channel.call("shutdown")

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> ServerControl:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
