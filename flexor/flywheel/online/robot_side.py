"""RobotSide: the robot's side of an online loop: one robot, one daemon, episodes one at a time, corrected or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from flexor.errors import FlexorError
from flexor.flywheel.drive import corrector_of
from flexor.flywheel.server_process import ServerProcess
from flexor.runtime.driving.control_loop import Live
from flexor.runtime.driving.daemon import Daemon
from flexor.runtime.driving.daemon_settings import DaemonSettings
from flexor.runtime.driving.run_report import EpisodeResult
from flexor.runtime.episodes.index_row import EpisodeRow
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.robot import Robot
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.teleop.device import Device
from flexor.runtime.teleop.operator import Operator

START_LIMIT_S = 180.0  # a cold start of the server reads torch from disk, on a machine that may be busy


class RobotSide:
    """A context around robot, client and recorder.

    Args:
        sim: name of the robot.
        make_robot: opens it.
        server: that its policy is asked from.
        log: folder of the episodes.
        settings: of the daemon.
        stopped: asked once a control step; ends an episode as an abort.
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
        devices: Sequence[Device] = (),
        on_line: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.server = server
        self._sim, self._make_robot, self._log = sim, make_robot, log
        self._settings = settings.model_copy(update={"connect_timeout_s": START_LIMIT_S})
        self._stopped, self._devices, self._on_line = stopped, devices, on_line
        self._open = ExitStack()

    def __enter__(self) -> RobotSide:
        with self._open:
            self._robot = self._make_robot(self._sim)
            self._open.callback(self._robot.close)
            self._client = self._open.enter_context(PolicyClient(self.server.address, self._settings.reply_timeout_s))
            self._recorder = self._open.enter_context(EpisodeRecorder(self._log))
            spec, settings = self._robot.spec, self._settings
            self._person = Operator(spec, self._devices, settings.operator) if self._devices else None
            self._expert = None if self._devices else corrector_of(self._robot, settings.correct)
            self._open = self._open.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    @property
    def tasks(self) -> list[str]:
        """Of the robot, in their order."""
        return list(self._robot.spec.tasks)

    def play(self, seed: int, correcting: bool, task: str | None = None) -> EpisodeResult:
        """One episode in real time, recorded.

        Args:
            seed: of the robot; it also says which task it is, where none is given.
            correcting: whether the robot's expert may take over; a person may at any time.

        Raises:
            FlexorError: what Daemon.run raises; the server's last words when it is gone.
        """
        waited = False

        def watch(live: Live) -> None:
            nonlocal waited
            if live.note == "ready?" and not waited:
                waited = True
                self._on_line(f"episode {seed} {live.task}: ready?")

        daemon = Daemon(
            self._robot,
            self._client,
            self._recorder,
            self._settings,
            intervener=self._person or (self._expert if correcting else None),
            judge=self._person,
            stopped=self._stopped_or_dead,
            watch=watch,
        )
        results = daemon.run(1, seed, [task or self.tasks[seed % len(self.tasks)]]).results
        if not results:
            raise FlexorError(f"episode {seed} was not played; the run was stopped")
        return results[0]

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
