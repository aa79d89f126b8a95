"""A policy server with adapters in a process of its own, which tells every state that an adapter comes into."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from adapted_policy import AdaptedPolicy
from random_adapters import ALPHA, RANK
from telling_process import tell

from flexor.runtime.adapters.adapter_settings import AdapterSettings
from flexor.runtime.adapters.adapter_store import AdapterStore
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.serving.server import PolicyServer
from flexor.runtime.serving.server_settings import ServerSettings


def tell_states() -> None:
    """Let every state be told the moment it is on disk, which is when a test may kill."""
    note = AdapterStore.note

    def telling(self: AdapterStore, adapter: str, state: str, *rest: object, **changes: object) -> object:
        record = note(self, adapter, state, *rest, **changes)  # type: ignore[arg-type]
        tell("state", adapter=adapter, state=state)
        return record

    AdapterStore.note = telling  # type: ignore[method-assign]


def main(bundle: str, address: str, root: str, more: str) -> None:
    tell_states()
    opened = Bundle.open(bundle)
    settings = {"rank": RANK, "alpha": ALPHA, "max_change": 1e6, "max_difference": 100.0, "shadow_requests": 1}
    adapters = AdapterSettings(**{**settings, "dir": Path(root), **json.loads(more)})
    with PolicyServer(AdaptedPolicy(), address, ServerSettings(adapters=adapters), opened) as server:
        server.wait_ready(120.0)
        tell("ready")
        while not server.wait(0.2):
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
