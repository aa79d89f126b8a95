"""The whole loop on one machine: a policy server as its own process, the daemon, a simulated robot, the recorder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flexor.errors import FlexorError
from flexor.flywheel.drive import drive
from flexor.flywheel.server_process import ServerProcess
from flexor.runtime.driving.control_loop import Live
from flexor.runtime.driving.daemon import DaemonSettings, ServerGone
from flexor.runtime.driving.run_report import RunReport

ROBOT = "sim:tabletop"
START_LIMIT_S = 180.0  # a cold start reads torch from disk, on a machine that may be busy


def run_demo(
    bundle: str,
    log_dir: Path,
    *,
    episodes: int,
    seed: int,
    report: RunReport,
    stopped: Callable[[], bool] = lambda: False,
    watch: Callable[[Live], None] = lambda live: None,
) -> dict[str, Any]:
    """Serve `bundle` on a private address and run real-time episodes of the tabletop against it, its tasks in turn.

    Returns:
        RunReport.to_dict() with bundle, robot, seed and log_dir.

    Raises:
        FlexorError: the server did not start (with the end of its log), or what Daemon.run raises.
    """
    settings = DaemonSettings(connect_timeout_s=START_LIMIT_S)
    with ServerProcess(bundle) as server:

        def stop_or_dead() -> bool:
            # Without a server there is nothing to wait for; its log says more than a timeout would.
            server.check()
            return stopped()

        try:
            drive(
                ROBOT,
                server.address,
                log_dir,
                episodes=episodes,
                seed=seed,
                tasks=(),
                report=report,
                settings=settings,
                stopped=stop_or_dead,
                watch=watch,
            )
        except ServerGone as error:
            server.check()
            raise FlexorError(f"the policy server of the demo was not ready: {error}") from error
    return {**report.to_dict(), "bundle": bundle, "robot": ROBOT, "seed": seed, "log_dir": str(log_dir)}
