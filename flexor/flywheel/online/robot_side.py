"""RobotSide: the robot's side of an online loop: one robot, one daemon, episodes one at a time, corrected or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from flexor.flywheel.online.stages import LoopStopped
from flexor.flywheel.robot_session import RobotSession
from flexor.flywheel.server_process import START_LIMIT_S, ServerProcess
from flexor.runtime.driving.control_loop import Live
from flexor.runtime.driving.daemon_settings import DaemonSettings
from flexor.runtime.driving.run_report import EpisodeResult
from flexor.runtime.episodes.episode_check import check_root, repair
from flexor.runtime.episodes.index_row import EpisodeRow
from flexor.runtime.inference.calibration import Calibration
from flexor.runtime.robot import Robot
from flexor.runtime.teleop.device import Device


class RobotSide:
    """A context around a RobotSession beside a server that is watched.

    Args:
        sim: name of the robot.
        make_robot: opens it.
        server: that its policy is asked from.
        log: folder of the episodes.
        settings: of the daemon.
        stopped: asked once a control step; ends an episode as an abort.
        calibration: of the entropy scores; None leaves them raw.
        devices: of a person who takes over and judges, in the place of the simulator; none of nobody.
        on_line: told when that person is waited for.
    """

    def __init__(
        self,
        sim: str,
        make_robot: Callable[[str], Robot],
        server: ServerProcess,
        log: Path,
        settings: DaemonSettings,
        stopped: Callable[[], bool],
        calibration: Calibration | None = None,
        devices: Sequence[Device] = (),
        on_line: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.server = server
        self._session = RobotSession(
            sim,
            make_robot,
            server.address,
            log,
            settings.model_copy(update={"connect_timeout_s": START_LIMIT_S}),
            calibration=calibration,
            devices=devices,
            correctable=not devices,
        )
        self._stopped, self._on_line = stopped, on_line
        self._open = ExitStack()

    def __enter__(self) -> RobotSide:
        """
        Raises:
            LoopStopped: it was stopped before the server was ready.
            FlexorError: what opening the parts raises; the server is not ready in time, or gone.
        """
        with self._open as parts:
            parts.enter_context(self._session)
            if not self.server.wait_ready(START_LIMIT_S, self._stopped):
                raise LoopStopped
            self._open = parts.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    @property
    def tasks(self) -> list[str]:
        """Of the robot, in their order."""
        return self._session.tasks

    def play(self, seed: int, task: str, correcting: bool, advised: bool = False) -> EpisodeResult | None:
        """One episode in real time, recorded.

        Args:
            seed: of the robot.
            correcting: whether the robot's expert may take over; a person may at any time.
            advised: whether it says at every step what it would do.

        Returns:
            None when it was stopped before the episode began.

        Raises:
            FlexorError: what Daemon.run raises; the server's last words when it is gone.
        """
        waited = False

        def watch(live: Live) -> None:
            nonlocal waited
            if live.note == "ready?" and not waited:
                waited = True
                self._on_line(f"episode {seed} {live.task}: ready?")

        stopped = self._stopped_or_dead
        daemon = self._session.daemon(correcting=correcting, advised=advised, stopped=stopped, watch=watch)
        results = daemon.run(1, seed, [task]).results
        return results[0] if results else None

    def _stopped_or_dead(self) -> bool:
        # Without a server there is nothing to wait for; its log says more than a timeout would.
        self.server.check()
        return self._stopped()


def told(result: EpisodeResult) -> str:
    """An episode in one line."""
    label = f" ({result.failure_label})" if result.failure_label else ""
    helped = f", {result.intervened_steps} steps corrected" if result.intervened_steps else ""
    return f"episode {result.seed} {result.task}: {result.outcome}{label} after {result.steps} steps{helped}"


def counts(rows: Iterable[EpisodeRow]) -> dict[str, Any]:
    """What some episodes came to: how many, succeeded alone, corrected, and why they failed."""
    rows = list(rows)
    return {
        "episodes": len(rows),
        "successes_alone": sum(row.outcome == "success" and not row.interventions for row in rows),
        "interventions": sum(row.interventions > 0 for row in rows),
        "failure_labels": dict(Counter(row.label for row in rows if row.outcome == "failure" and row.label)),
    }


def mended(log: Path) -> Iterator[str]:
    """Make whole what a killed process left of its episodes, and tell what was done, in words.

    Raises:
        EpisodeError: the disk refuses.
    """
    for problem in check_root(log).problems if (log / "episodes").is_dir() else ():
        yield f"{problem.file} ({problem.detail}): {repair(log, problem)}"
