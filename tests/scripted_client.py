"""A policy client that answers by a script on a clock of its own, and a robot that notes when it was asked to move."""

from __future__ import annotations

from typing import Any

import numpy as np
from point_world import HORIZON, PointPolicy, PointRobot

from flexor.runtime.observation import ActionChunk, Provenance
from flexor.runtime.serving.client import Reply

PERIOD = 0.05


class Clock:
    """Time that passes only when somebody waits or works."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class ScriptedClient:
    """PolicyClient without a socket: every reply comes `latency(step)` seconds after its request, or never (None).

    Action of step k in the chunk of step s: (0, 0, 0, s / 1000, (k - s) / 100, 0, 1).
    """

    def __init__(self, clock: Clock, latency: Any, rtc_max_delay: int = 5, ready: bool = True) -> None:
        self.clock, self.latency, self.ready = clock, latency, ready
        self.policy = PointPolicy(rtc_max_delay=rtc_max_delay).describe()
        self.velocity_scale, self.adapter = 1.0, "base"
        self.asked: list[dict[str, Any]] = []
        self.ended: list[str] = []
        self.under_way: list[tuple[float, Reply]] = []

    def hello(self) -> dict[str, Any]:
        return {**self.policy, "ready": self.ready, "server": {}}

    def begin_episode(self, task: str, seed: int | None = None) -> str:
        return self.adapter

    def end_episode(self, outcome: str, label: str | None, source: str) -> None:
        self.ended.append(outcome)

    def bundle(self, step: int) -> str:
        return "point@000000000000"

    def ask(self, observation, step, delay_steps, action_prefix, budget_ms) -> int:
        number = len(self.asked) + 1
        prefix = None if action_prefix is None else action_prefix.copy()
        self.asked.append({"step": step, "time": self.clock.time, "delay": delay_steps, "prefix": prefix})
        seconds = self.latency(step)
        if seconds is not None:
            actions = np.zeros((HORIZON, 7), np.float32)
            actions[:, 3], actions[:, 4], actions[:, 6] = step / 1000, np.arange(HORIZON) / 100, 1.0
            if prefix is not None:
                actions[: len(prefix)] = prefix
            chunk = ActionChunk(actions, Provenance(self.bundle(step), "base", "fake", "cpu", "fp32", 1, 0))
            reply = Reply(number, "chunk", step, chunk, None, "chunk", "", 1000.0 * seconds)
            self.under_way.append((self.clock.time + seconds, reply))
        return number

    def poll(self, timeout_s: float) -> Reply | None:
        self.under_way.sort(key=lambda entry: entry[0])
        if self.under_way and self.under_way[0][0] <= self.clock.time + timeout_s:
            due, reply = self.under_way.pop(0)
            self.clock.time = max(self.clock.time, due)
            return reply
        self.clock.time += timeout_s
        return None


class TimedRobot(PointRobot):
    """Never arrives; notes when each command came, and takes `work(step)` seconds of the fake clock for it."""

    def __init__(self, clock: Clock, max_steps: int, work: Any = lambda step: 0.0) -> None:
        super().__init__(max_steps=max_steps, far=2.0)
        self.clock, self.work = clock, work
        self.times: list[float] = []

    def act(self, action):
        self.times.append(self.clock.time)
        self.clock.time += self.work(len(self.commands))
        return super().act(action)

    def hold(self):
        self.times.append(self.clock.time)
        return super().hold()
