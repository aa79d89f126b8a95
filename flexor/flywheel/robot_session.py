"""RobotSession: robot, client and recorder, opened together and closed together, and the daemons that drive them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from flexor.errors import FlexorError
from flexor.runtime.driving.adviser import Adviser, Expert
from flexor.runtime.driving.control_loop import Live
from flexor.runtime.driving.corrector import CorrectionSettings, Corrector
from flexor.runtime.driving.daemon import Daemon
from flexor.runtime.driving.daemon_settings import DaemonSettings
from flexor.runtime.driving.run_report import RunReport
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.inference.calibration import Calibration
from flexor.runtime.robot import Robot
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.teleop.device import Device
from flexor.runtime.teleop.operator import Operator


class RobotSession:
    """A context. One thread uses it.

    Args:
        robot: its name.
        make_robot: opens it.
        address: of the policy server; None is the default one.
        log: folder of the episodes.
        settings: of the daemons.
        calibration: of the entropy scores; None leaves them raw.
        devices: what a person operates with; they take the arm and say how episodes end (settings.operator). Empty:
            nobody looks on.
        images: how frames are kept: jpeg, or png for exact replay.
        correctable: the robot must have an expert that can take over.
    """

    def __init__(
        self,
        robot: str,
        make_robot: Callable[[str], Robot],
        address: str | None,
        log: Path,
        settings: DaemonSettings,
        *,
        calibration: Calibration | None = None,
        devices: Sequence[Device] = (),
        images: str = "jpeg",
        correctable: bool = False,
    ) -> None:
        self._name, self._make_robot, self._address = robot, make_robot, address
        self._log, self._settings, self._calibration = log, settings, calibration
        self._devices, self._images, self._correctable = tuple(devices), images, correctable
        self._open = ExitStack()

    def __enter__(self) -> RobotSession:
        """
        Raises:
            FlexorError: what opening the parts raises, or the robot has no expert.
        """
        settings = self._settings
        with self._open as parts:
            self._robot = self._make_robot(self._name)
            parts.callback(self._robot.close)
            self._person = Operator(self._robot.spec, self._devices, settings.operator) if self._devices else None
            self._expert = corrector_of(self._robot, settings.correct) if self._correctable else None
            self._adviser = Adviser(expert_of(self._robot)) if self._correctable else None
            self._client = parts.enter_context(PolicyClient(self._address, settings.reply_timeout_s))
            self._recorder = parts.enter_context(EpisodeRecorder(self._log, self._images))
            self._open = parts.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    @property
    def tasks(self) -> list[str]:
        """Of the robot, in their order."""
        return list(self._robot.spec.tasks)

    def daemon(
        self,
        *,
        correcting: bool,
        advised: bool = False,
        stopped: Callable[[], bool],
        watch: Callable[[Live], None],
        report: RunReport | None = None,
    ) -> Daemon:
        """A daemon on the parts.

        Args:
            correcting: whether the expert may take over; a person may at any time.
            advised: whether the expert says at every step what it would do.
            stopped, watch, report: as Daemon has them.
        """
        return Daemon(
            self._robot,
            self._client,
            self._recorder,
            self._settings,
            calibration=self._calibration,
            intervener=self._person or (self._expert if correcting else None),
            adviser=self._adviser if advised else None,
            judge=self._person,
            report=report,
            stopped=stopped,
            watch=watch,
        )


def corrector_of(robot: Robot, settings: CorrectionSettings) -> Corrector:
    """The expert of a simulated robot as an intervener.

    Raises:
        FlexorError: the robot has none.
    """
    return Corrector(expert_of(robot), settings)


def expert_of(robot: Robot) -> Callable[[], Expert]:
    """What makes experts for the present episode of a simulated robot.

    Raises:
        FlexorError: the robot has none.
    """
    make_expert = getattr(robot, "expert", None)
    if make_expert is None:
        raise FlexorError(f"robot {robot.spec.name} has no expert that could take over or advise; leave --correct out")
    return make_expert
