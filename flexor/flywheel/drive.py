"""Opens robot, client and recorder, lets the daemon run, and closes all of them whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from flexor.errors import FlexorError
from flexor.flywheel.evaluate import open_simulation
from flexor.flywheel.robot_session import RobotSession
from flexor.runtime.driving.control_loop import Live
from flexor.runtime.driving.daemon import DaemonSettings
from flexor.runtime.driving.run_report import RunReport
from flexor.runtime.inference.calibration import Calibration
from flexor.runtime.robot import Robot
from flexor.runtime.teleop.device import Device


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
        devices: what a person operates with, see RobotSession.
        report: filled while it runs, so that it tells what was done also when this raises.

    Raises:
        FlexorError: as Daemon.run, and what opening the parts raises.
    """
    session = RobotSession(
        robot,
        make_robot,
        address,
        log_dir,
        settings,
        calibration=calibration,
        devices=devices,
        images=images,
        correctable=correct,
    )
    with session:
        chosen = list(tasks) or session.tasks
        if not chosen:
            raise FlexorError(f"robot {robot} takes any prompt; say which with --task")
        daemon = session.daemon(correcting=correct, stopped=stopped, watch=watch, report=report)
        daemon.run(episodes, seed, chosen)
