"""A learner beside a server: its replies while the learner waits, works in its slack, and works freely, in turns."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flexor.errors import FlexorError
from flexor.flywheel.server_process import START_LIMIT_S, ServerProcess
from flexor.flywheel.timing.paced_learner import PACES, PacedLearner
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.timing.latency import Percentiles
from flexor.runtime.timing.steady_client import Asked, SteadyClient

ROUNDS = 6  # of every pace, in changing order, so that a drift of the machine meets all of them
Spans = dict[str, list[tuple[float, float]]]
Told = Callable[[str, int, int], None]


def measure_learner_beside(
    bundle: Bundle,
    arguments: Sequence[str],
    episodes: Path,
    work: Path,
    settings: dict[str, Any],
    n: int,
    hz: float,
    told: Told,
) -> dict[str, Any]:
    """Ask a server process steadily, in an open episode, beside a learner process.

    Args:
        bundle: that is served and taught.
        arguments: of `flexor serve`, besides.
        episodes: that is learned from.
        work: an empty folder.
        settings: of the learner, without a budget.
        n: requests of each pace.
        hz: requests a second.
        told: hears of each piece of work: what, done, of how many.

    Returns:
        hz, rounds, requests, lost, lost_told; alone, slack and free: n, p50_ms, p95_ms, p99_ms of the replies, and
        micro_batches_per_s; p50_ratio, p99_ratio: slack to alone; free_p50_ratio, free_p99_ratio: free to alone;
        work_ratio: micro-batches a second in the slack to those of a learner that asks nobody.

    Raises:
        FlexorError: server, client or learner failed.
    """
    config, seconds = bundle.config, n / hz / ROUNDS
    spans: Spans = {pace: [] for pace in PACES}
    works: dict[str, int] = dict.fromkeys(PACES, 0)
    endless = {**settings, "minutes": None, "steps": 2**31}
    with ServerProcess(str(bundle.path), arguments) as server:
        told("starting a server and a learner", 0, 1)
        server.wait_ready(START_LIMIT_S)
        with (
            PacedLearner(bundle.path, episodes, work / "adapters", endless, server.address) as learner,
            SteadyClient(server.address, config.cameras, config.state_dim, 1.0 / hz) as client,
        ):
            for turn in range(ROUNDS):
                for pace in (*PACES[turn % len(PACES) :], *PACES[: turn % len(PACES)]):
                    before, began = learner.keep_to(pace), time.monotonic()
                    time.sleep(seconds)
                    ended = time.monotonic()
                    server.check()
                    client.check()
                    works[pace] += learner.keep_to("alone") - before
                    spans[pace].append((began, ended))
                told("asking beside a learner", turn + 1, ROUNDS)
            asked = client.finish()
    return {"hz": hz, "rounds": ROUNDS, **summary(asked, spans, works)}


def summary(asked: Sequence[Asked], spans: Spans, works: dict[str, int]) -> dict[str, Any]:
    """The numbers of `measure_learner_beside`.

    Args:
        asked: requests.
        spans: by pace, when it was kept to, on the monotonic clock; a request across an end belongs to none.
        works: by pace, micro-batches done.
    """
    lost = Counter(request.told for request in asked if request.told != "chunk")
    found: dict[str, Any] = {"requests": len(asked), "lost": sum(lost.values()), "lost_told": dict(lost)}
    for pace, times in spans.items():
        replies = [
            request.reply_ms
            for request in asked
            if request.told == "chunk" and any(a <= request.began_s and request.ended_s <= b for a, b in times)
        ]
        if not replies:
            raise FlexorError(f"no request was answered while the learner was {pace!r}; give a larger --n")
        rate = works[pace] / sum(b - a for a, b in times)
        found[pace] = {**Percentiles.of(replies).to_dict(), "micro_batches_per_s": rate}
    for name, pace in (("", "slack"), ("free_", "free")):
        found |= {f"{name}{p}_ratio": found[pace][f"{p}_ms"] / found["alone"][f"{p}_ms"] for p in ("p50", "p99")}
    free = found["free"]["micro_batches_per_s"]
    return {**found, "work_ratio": found["slack"]["micro_batches_per_s"] / free if free else None}
