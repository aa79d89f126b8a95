"""ServerControl: the control socket of a server on this machine, which only its own user can open."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

import zmq

from flexor.runtime.serving.address import Addresses
from flexor.runtime.serving.channel import Channel


@dataclass(frozen=True, slots=True)
class Slack:
    """Whether a learner may work now, and for how many milliseconds before it asks again."""

    granted: bool
    ms: int


class ServerControl:
    """Asks one server about itself, for time to learn in, or to stop. One thread uses it.

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

    def adapters(self) -> dict[str, Any]:
        """How the adapters of the server stand: active, previous, candidate, trial, and a row of each.

        Raises:
            ServerTimeout, ServerRefused: there is no such answer; code no_adapters where the server takes none.
        """
        return self._channel.call("adapter.list").fields["told"]

    def order(self, verb: str, adapter: str | None = None, at: str | None = None) -> dict[str, Any]:
        """Give an order about adapters, and tell how the adapter stands then.

        Args:
            verb: push, swap, rollback or remove.
            adapter: its id; not for rollback.
            at: for swap: episode or chunk; None as the server has it.

        Raises:
            ServerTimeout: the order may be done or not; adapters() tells.
            ServerRefused: it was not; code: a reason of flexor.runtime.adapters.adapter_error.
        """
        fields = {key: value for key, value in (("adapter", adapter), ("at", at)) if value is not None}
        return self._channel.call(f"adapter.{verb}", fields).fields["told"]

    def slack(self, wait_ms: float) -> Slack:
        """Ask for time to learn in; the answer comes when the server has some, at the latest after `wait_ms`.

        Raises:
            ServerTimeout, ServerRefused: there is no such answer.
        """
        fields = self._channel.call("learner.slack", {"wait_ms": float(wait_ms)}).fields
        return Slack(fields["granted"], fields["ms"])

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
