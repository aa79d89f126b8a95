"""Decides when the next chunk is asked for, with which committed actions, and matches replies to their steps."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.driving.player import ChunkPlayer
from flexor.runtime.observation import Observation
from flexor.runtime.serving.client import PolicyClient, Reply


@dataclass(frozen=True, slots=True)
class Plan:
    """What a bundle says about playing its chunks.

    Attributes:
        horizon: H, actions in a chunk.
        replan: steps of a chunk that are meant to be played.
        rtc_max_delay: longest action prefix that the bundle was trained to continue; 0 = none.
    """

    horizon: int
    replan: int
    rtc_max_delay: int


class ChunkAsker:
    """Keeps one request under way, early enough that its chunk is there when the present one has been played.

    The expected delay d is the longest of the recent latencies in control periods, rounded up; latency counts from
    the start of the control step, camera reading included. It is bounded by what the bundle can continue
    (rtc_max_delay), or by the horizon where it cannot. A request whose chunk could no longer be played is given up,
    and the next step asks anew with a fresh observation.
    """

    def __init__(
        self,
        client: PolicyClient,
        plan: Plan,
        period_s: float,
        now: Callable[[], float] = time.monotonic,
        window: int = 10,
    ) -> None:
        """`window`: how many of the last latencies count as recent."""
        self._client = client
        self._plan = plan
        self._period_s = period_s
        self._now = now
        self._delays: deque[int] = deque(maxlen=window)
        self._pending: dict[int, float] = {}  # by request id of this episode: when the step it was asked at began
        self._under_way: int | None = None  # the step of the newest request that may still be played

    @property
    def plan(self) -> Plan:
        """What the bundle says about playing its chunks."""
        return self._plan

    @property
    def delay_steps(self) -> int:
        """d, the expected delay in control steps; 0 before the first reply."""
        bound = self._plan.rtc_max_delay or self._plan.horizon - 1
        return min(max(self._delays, default=0), bound)

    @property
    def waiting(self) -> bool:
        """Whether a request is under way."""
        return self._under_way is not None

    def reset(self) -> None:
        """Begin an episode: requests of the last one are forgotten, the latencies are kept."""
        self._pending.clear()
        self._under_way = None

    def due(self, step: int, anchor: int | None) -> bool:
        """Whether to ask at `step` while the chunk anchored at `anchor` is playing (None: no chunk yet)."""
        if self._under_way is not None and step - self._under_way < self._plan.horizon:
            return False
        return anchor is None or step >= anchor + max(1, self._plan.replan - self.delay_steps)

    def ask(self, observation: Observation, step: int, step_began: float, player: ChunkPlayer) -> None:
        """Send a request with the observation of `step`; returns at once.

        Args:
            step_began: when the step began, on this asker's clock.
            player: says which actions are committed, that is, will be played until the reply is here.
        """
        delay = self.delay_steps
        prefix: NDArray[np.float32] | None = None
        if 0 < delay <= self._plan.rtc_max_delay:
            ahead = player.committed(step, delay)
            # The guard will hold instead of playing numbers that are not finite, so they are not committed.
            prefix = ahead if len(ahead) and np.isfinite(ahead).all() else None
        request = self._client.ask(
            observation,
            step=step,
            delay_steps=delay if prefix is None else len(prefix),
            action_prefix=prefix,
            budget_ms=self._plan.horizon * self._period_s * 1000.0,
        )
        self._pending[request] = step_began
        self._under_way = step

    def receive(self, timeout_s: float) -> Reply | None:
        """The next reply to a request of this episode, or None when `timeout_s` passed first."""
        deadline = self._now() + timeout_s
        while (reply := self._client.poll(max(0.0, deadline - self._now()))) is not None:
            step_began = self._pending.pop(reply.id, None)
            if step_began is None:
                continue  # of the episode before
            if reply.step == self._under_way:
                self._under_way = None
            if reply.chunk is not None:
                self._delays.append(math.ceil((self._now() - step_began) / self._period_s))
            return reply
        return None
