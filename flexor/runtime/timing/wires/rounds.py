"""Rounds of requests over several wires in turn, so that a drift of the machine meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from flexor.runtime.observation import Observation
from flexor.runtime.timing.wires.wire import WIRES
from flexor.runtime.timing.wires.wire_server import WireServer

UNTIMED = 10  # requests at the start of each round: the wire before has taken the caches


def time_wires(
    wires: Sequence[str],
    observations: Sequence[Observation],
    rounds: int,
    requests: int,
    period_s: float,
    step: Callable[[int], object],
) -> dict[str, list[float]]:
    """Round trips in microseconds by wire, `rounds * requests` of each; the client is this process.

    Args:
        wires: names in WIRES; each gets a server process of its own.
        observations: asked with in turn.
        period_s: one request a period; 0 asks as soon as the reply is there.
        step: called with the number of rounds that are done.

    Raises:
        FlexorError: a server did not start, or did not answer.
    """
    times: dict[str, list[float]] = {wire: [] for wire in wires}
    with ExitStack() as stack:
        clients = {}
        for wire in wires:
            server = stack.enter_context(WireServer(wire))
            clients[wire] = WIRES[wire].connect(server.address)
            stack.callback(clients[wire].close)
        for number in range(rounds):
            for wire in wires:
                for request in range(-UNTIMED, requests):
                    observation = observations[request % len(observations)]
                    began = time.perf_counter()
                    clients[wire].infer(observation, UNTIMED + request)
                    seconds = time.perf_counter() - began
                    if request >= 0:
                        times[wire].append(1e6 * seconds)
                    if seconds < period_s:
                        time.sleep(period_s - seconds)
            step(number + 1)
    return times
