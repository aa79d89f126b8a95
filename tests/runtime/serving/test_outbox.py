"""What a server says: an event that does not fit the wire costs itself and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import zmq

from flexor.runtime.serving.address import Addresses
from flexor.runtime.serving.events import EventReader
from flexor.runtime.serving.outbox import Outbox
from flexor.runtime.serving.server_sockets import ServerSockets
from flexor.runtime.serving.server_stats import ServerStats


@pytest.mark.parametrize("told", ["\udcff", object(), "x" * 70_000], ids=["no text", "no plain value", "too long"])
def test_an_event_that_does_not_fit_the_wire_is_left_out_and_the_next_one_comes(
    address: str, context: zmq.Context[Any], told: object
) -> None:
    sockets = ServerSockets(Addresses.of(address))
    try:
        outbox = Outbox(sockets, ServerStats())
        with EventReader(address, ["adapter"], context) as reader:
            assert reader.poll(0.5) is None  # a subscription takes a moment
            outbox.announce("adapter", {"told": told})
            outbox.announce("adapter", {"told": "well"})
            event = reader.poll(20.0)
    finally:
        sockets.close()
    assert event is not None
    assert (event.id, event.fields["told"]) == (2, "well"), "its number tells that one is missing"
