"""ServerStats: what a server counts, for the control socket and for its report."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any

import numpy as np

LATENCY_WINDOW = 512  # chunks


class ServerStats:
    """Counters of one server; a lock must keep the threads that use it apart.

    Attributes:
        received: messages by type; `refused` are those that broke the protocol.
        replies: replies by type, those that could not be delivered among them.
        undeliverable: replies to peers that were gone or did not read.
        policy_ms: time in the policy of the last chunks.
    """

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self.received: Counter[str] = Counter()
        self.replies: Counter[str] = Counter()
        self.undeliverable = 0
        self.policy_ms: deque[float] = deque(maxlen=LATENCY_WINDOW)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; policy_ms as p50, p95 and p99."""
        quantiles = np.percentile(self.policy_ms, (50, 95, 99)).tolist() if self.policy_ms else (None,) * 3
        return {
            "uptime_s": time.monotonic() - self._started_s,
            "received": dict(self.received),
            "replies": dict(self.replies),
            "undeliverable": self.undeliverable,
            "policy_ms": dict(zip(("p50", "p95", "p99"), quantiles, strict=True)),
        }
