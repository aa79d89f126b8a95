"""A daemon in a process of its own that flies the point and tells all it does, and the handle by which tests watch it.

It tells ask and end of every request, act and hold as the arm gets them, and finished with the path of every episode.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from point_world import POINT_SPEC, PointRobot
from telling_process import PATIENCE_S, TellingProcess, tell

from flexor.errors import FlexorError
from flexor.runtime.driving.daemon import Daemon, DaemonSettings
from flexor.runtime.driving.guard import GuardSettings
from flexor.runtime.driving.stop_signal import StopSignal
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.serving.client import PolicyClient

SETTINGS = DaemonSettings(hold_limit_s=1.0, reply_timeout_s=1.0, connect_timeout_s=PATIENCE_S)


class ToldRobot(PointRobot):
    """Tells what the arm is told; `breaks_at`: the command at which it raises and takes no more."""

    def __init__(self, breaks_at: int | None) -> None:
        super().__init__(far=2.0)
        self._left = breaks_at

    def act(self, action):
        tell("act", action=action.tolist(), at=self.state()[:3].tolist())
        self._wear()
        return super().act(action)

    def hold(self):
        tell("hold")
        return super().hold()

    def _wear(self) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise FlexorError("the arm does not answer")


class ToldClient(PolicyClient):
    """Tells every request and every end of one."""

    under_way = 0

    def __enter__(self) -> ToldClient:
        return self

    def ask(self, *given, **named):
        request = super().ask(*given, **named)
        tell("ask", id=request)
        self.under_way += 1
        return request

    def poll(self, timeout_s):
        reply = super().poll(timeout_s)
        if reply is not None:
            tell("end", id=reply.id, type=reply.type)
            self.under_way -= 1
        return reply


class ToldRecorder(EpisodeRecorder):
    """Tells which episodes are finished."""

    def end(self, outcome, label, source):
        path = super().end(outcome, label, source)
        tell("finished", path=str(path), outcome=outcome)
        return path


def set_clock_back() -> None:
    """From now on the wall clock of this process jumps whenever it is read, mostly back."""
    began, chance = time.time_ns(), random.Random(0)

    def jumping_ns() -> int:
        return began + chance.choice((-86_400, -3600, -1, 0, 31_536_000)) * 10**9

    time.time_ns, time.time = jumping_ns, lambda: jumping_ns() / 1e9


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("log", type=Path)
    parser.add_argument("--episodes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--breaks-at", type=int)
    parser.add_argument("--file-bytes", type=int, help="no file may grow larger")
    parser.add_argument("--clock-back", action="store_true")
    given = parser.parse_args()
    if given.clock_back:
        set_clock_back()
    if given.file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (given.file_bytes, given.file_bytes))
    with (
        StopSignal() as stopped,
        ToldClient(given.address, SETTINGS.reply_timeout_s) as client,
        ToldRecorder(given.log) as recorder,
    ):
        daemon = Daemon(ToldRobot(given.breaks_at), client, recorder, SETTINGS, stopped=stopped)
        try:
            daemon.run(given.episodes, given.seed, ["left", "right"])
        except FlexorError as error:
            tell("error", message=str(error))
        while client.under_way and client.poll(2.0 * SETTINGS.reply_timeout_s) is not None:
            pass  # each ends within its time
    return 130 if stopped() else 0


class PointDaemon(TellingProcess):
    """The process."""

    def __init__(self, address: str, log: Path, *options: object, within: Sequence[str] = ()) -> None:
        """`within`: a command that runs it, as in another namespace."""
        super().__init__([*within, sys.executable, __file__, address, log, *options])

    def __enter__(self) -> PointDaemon:
        return self

    def moves_after(self, moment: float) -> int:
        """How many actions the arm got after `moment` and before it was told to hold or an episode ended."""
        later = [line["what"] for line in self.lines if line["t"] > moment]
        stop = next((n for n, what in enumerate(later) if what in ("hold", "finished")), len(later))
        return later[:stop].count("act")

    def unsafe(self) -> list[dict[str, Any]]:
        """Commands that an arm should never get: not finite, out of range, too fast, out of the workspace."""
        low, high = POINT_SPEC.workspace
        found = []
        for line in self.told("act"):
            action, at = np.asarray(line["action"]), np.asarray(line["at"])
            way = action[:3] * POINT_SPEC.metres_per_unit
            fast = np.linalg.norm(way) * POINT_SPEC.hz > GuardSettings().max_speed + 1e-6
            outside = np.any(at + way < np.minimum(low, at) - 1e-6) or np.any(at + way > np.maximum(high, at) + 1e-6)
            if not np.isfinite(action).all() or np.abs(action).max() > 1.0 or fast or outside:
                found.append(line)
        return found


if __name__ == "__main__":
    sys.exit(main())
