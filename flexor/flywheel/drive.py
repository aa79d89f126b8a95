"""Opens robot, client and recorder, lets the daemon run, and closes all of them whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from flexor.errors import FlexorError
from flexor.flywheel.evaluate import open_simulation
from flexor.runtime.driving.control_loop import Live
from flexor.runtime.driving.corrector import CorrectionSettings, Corrector
from flexor.runtime.driving.daemon import Daemon, DaemonSettings
from flexor.runtime.driving.run_report import RunReport
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.inference.calibration import Calibration
from flexor.runtime.robot import Robot
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.teleop.device import Device
from flexor.runtime.teleop.operator import Operator


def drive(
    robot: str,
    address: str | None,
    log_dir: Path,
    *,
    episodes: int,
    seed: int,
    tasks: Sequence[str],
    report: RunReport,
    settings: DaemonSettings,
    calibration: Calibration | None = None,
    correct: bool = False,
    devices: Sequence[Device] = (),
    images: str = "jpeg",
    stopped: Callable[[], bool] = lambda: False,
    watch: Callable[[Live], None] = lambda live: None,
    make_robot: Callable[[str], Robot] = open_simulation,
) -> None:
    """Run episodes of `robot` against the policy server at `address` in real time and record them under `log_dir`.

    Args:
        tasks: names, taken in turn; none at all means every task of the robot.
        calibration: of the entropy scores; None leaves them raw.
        correct: let the robot's own expert take over when an episode goes wrong (settings.correct).
        devices: what a person operates with; they take the arm and say how episodes end (settings.operator). Empty:
            nobody looks on.
        report: filled while it runs, so that it tells what was done also when this raises.

    Raises:
        FlexorError: as Daemon.run, and what opening the parts raises.
    """
    opened = make_robot(robot)
    try:
        chosen = list(tasks) or list(opened.spec.tasks)
        if not chosen:
            raise FlexorError(f"robot {robot} takes any prompt; say which with --task")
        person = Operator(opened.spec, devices, settings.operator) if devices else None
        expert = corrector_of(opened, settings.correct) if correct else None
        with PolicyClient(address, settings.reply_timeout_s) as client, EpisodeRecorder(log_dir, images) as recorder:
            daemon = Daemon(
                opened,
                client,
                recorder,
                settings,
                calibration=calibration,
                intervener=person or expert,
                judge=person,
                report=report,
                stopped=stopped,
                watch=watch,
            )
            daemon.run(episodes, seed, chosen)
    finally:
        opened.close()


def corrector_of(robot: Robot, settings: CorrectionSettings) -> Corrector:
    """The expert of a simulated robot as an intervener.

    Raises:
        FlexorError: the robot has none.
    """
    make_expert = getattr(robot, "expert", None)
    if make_expert is None:
        raise FlexorError(f"robot {robot.spec.name} has no expert that could take over; leave --correct out")
    return Corrector(make_expert, settings)
