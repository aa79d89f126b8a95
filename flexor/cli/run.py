"""`flexor run`: drive a robot with a served policy, in real time."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile
from flexor.cli.shift_view import ShiftAxes, ShiftLevel


def run(
    robot: Annotated[str, typer.Option(help="Robot, e.g. sim:tabletop or sim:libero_goal.")] = "sim:tabletop",
    server: Annotated[str | None, typer.Option(help="Data address of the policy server; by default serve's.")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="How many episodes.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first episode; the next ones follow.")] = 0,
    task: Annotated[list[str] | None, typer.Option(help="Task, may be given again; by default all in turn.")] = None,
    correct: Annotated[
        bool, typer.Option("--correct", help="Let the simulation's expert take over when an episode goes wrong.")
    ] = False,
    operator: Annotated[
        bool, typer.Option("--operator", help="A person takes over and says how episodes end, by key or gamepad.")
    ] = False,
    gamepad: Annotated[Path | None, typer.Option(metavar="DEVICE", help="The operator's, e.g. /dev/input/js0.")] = None,
    shift: ShiftLevel = "none",
    shift_axes: ShiftAxes = "",
    render: Annotated[
        str,
        typer.Option(
            help="LIBERO: official frames, or fast ones, a third of their cost on a CPU: for a policy that was trained "
            "on fast ones. What is served does not say which; flexor eval sees it in the bundle."
        ),
    ] = "official",
    official: Annotated[
        bool,
        typer.Option(
            "--official",
            help="LIBERO: seed S begins with the official initial state S % 50, not with a placement of our own. It is "
            "to be measured on, so nothing learns from these episodes.",
        ),
    ] = False,
    log: Annotated[Path, typer.Option(help="Folder of the recorded episodes.")] = Path("episodes"),
    images: Annotated[str, typer.Option(help="How frames are kept: jpeg, or png for exact replay.")] = "jpeg",
    gif: Annotated[
        Path | None, typer.Option(help="Write the last success, or else the last episode, as a GIF here.")
    ] = None,
    calibrate: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Run N episodes and calibrate on their successes.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Calibration to use; with --calibrate where it goes, by default into --log."),
    ] = None,
    alpha: Annotated[float, typer.Option(help="With --calibrate: share of good episodes that may alarm.")] = 0.1,
    config: Annotated[Path | None, typer.Option(help="Daemon settings as YAML.")] = None,
    json: JsonFile = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings.")] = None,
) -> None:
    """Drive a robot with a served policy, in real time, and record its episodes.

    Exit code 1 when an episode had to be aborted. Ctrl-C ends the open episode as an abort and stops. Without a
    calibration the entropy scores are logged raw; with one an episode is flagged "pre-fail" when its score goes
    above 2.0, as at most a share alpha of the episodes do in which nothing is wrong.

    Example: flexor run --robot sim:tabletop --episodes 4 --log episodes hold_limit_s=1.0

    With --correct an expert takes the arm on an alarm, on a failure event, or when the arm stands still, drives for
    correct.turn_steps and hands back; its steps are recorded as interventions, its actions are what to learn.

    Example: flexor run --correct --shift medium --episodes 10 --log corrected correct.turn_steps=60

    With --operator a person does both: each episode waits for Enter, t takes the arm and hands it back, y, n and x
    say success, failure and abort (docs/operator.md). The robot's own opinion of success is then not asked.

    Example: flexor run --operator --episodes 10 --log judged operator.translation=0.1

    Example: flexor run --robot sim:libero_spatial --render fast --episodes 10 --log episodes

    Example: flexor run --calibrate 50 --log good, then flexor run --calibration good/calibration.json --episodes 4
    """
    from contextlib import nullcontext

    from flexor.cli.alarms import CALIBRATION_JSON, calibrate_run, write_calibration
    from flexor.cli.report import console, table, write_json
    from flexor.cli.run_view import RunView, refuse_aborted, summary, write_run_gif
    from flexor.flywheel.drive import drive
    from flexor.flywheel.evaluate import open_simulation
    from flexor.runtime.driving.daemon import DaemonSettings
    from flexor.runtime.driving.run_report import RunReport
    from flexor.runtime.driving.stop_signal import StopSignal
    from flexor.runtime.inference.calibration import Calibration
    from flexor.runtime.inference.conformal import CalibrationError, fewest
    from flexor.runtime.teleop.devices import open_devices
    from flexor.settings import load_settings
    from flexor.sim.libero.protocol import LiberoSettings
    from flexor.sim.libero.suites import is_suite
    from flexor.sim.shift import Shift

    if official and not is_suite(robot.removeprefix("sim:").partition("/")[0]):
        raise typer.BadParameter(f"is for LIBERO's suites, not for {robot}", param_hint="--official")
    if calibrate is not None:
        if episodes != 1:
            raise typer.BadParameter("--calibrate says how many episodes there are", param_hint="--episodes")
        if correct:
            raise typer.BadParameter("a calibration is of the policy alone", param_hint="--correct")
        if operator:
            raise typer.BadParameter("nobody may help in a calibration", param_hint="--operator")
        if shift != "none":
            raise typer.BadParameter("a calibration is made where nothing is shifted", param_hint="--shift")
        if calibrate < fewest(alpha):
            raise CalibrationError(
                f"--calibrate {calibrate} is too few for alpha {alpha:g}; give {fewest(alpha)} or more"
            )
        episodes = calibrate
    if operator and correct:
        raise typer.BadParameter("a person and an expert cannot both take over", param_hint="--operator")
    if gamepad is not None and not operator:
        raise typer.BadParameter("a gamepad is for an operator; add --operator", param_hint="--gamepad")
    used = Calibration.load(calibration) if calibration is not None and calibrate is None else None
    settings = load_settings(DaemonSettings, config, overrides or [])
    workplace = Shift.parse(shift, shift_axes, robot)
    libero = LiberoSettings(render=render, starts="official" if official else "sampled")
    report = RunReport()
    hands = open_devices(gamepad, settings.operator) if operator else nullcontext(())
    with StopSignal() as stopped, hands as devices, RunView(report, episodes, console) as view:
        for device in devices:
            console.print(device.help, highlight=False, markup=False, soft_wrap=True)
        try:
            drive(
                robot,
                server,
                log,
                episodes=episodes,
                seed=seed,
                tasks=task or (),
                report=report,
                settings=settings,
                calibration=used,
                correct=correct,
                devices=devices,
                images=images,
                stopped=stopped,
                watch=view.watch,
                make_robot=functools.partial(open_simulation, shift=workplace, libero=libero),
            )
        finally:
            write_json(
                json,
                {
                    **report.to_dict(),
                    "seed": seed,
                    "robot": robot,
                    "shift": workplace.to_dict(),
                    "log_dir": log,
                },
            )
    if report.results:
        table("run", ("what", "value"), summary(report))
        console.print(f"episodes in {log}", highlight=False, markup=False, soft_wrap=True)
    if gif is not None and (report.results or not stopped()):
        write_run_gif(report, gif)
    if stopped():
        raise typer.Exit(130)
    if calibrate is not None:
        write_calibration(calibrate_run(report, alpha), calibration or log / CALIBRATION_JSON)
    refuse_aborted(report)
