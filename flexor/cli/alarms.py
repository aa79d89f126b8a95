"""`flexor episodes calibrate` and `flexor episodes alarms`: what the entropy scores of recorded episodes are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flexor.cli.report import JsonFile

if TYPE_CHECKING:
    from flexor.runtime.driving.run_report import RunReport
    from flexor.runtime.episodes.score_trace import ScoreTrace
    from flexor.runtime.inference.calibration import Calibration

CALIBRATION_JSON = "calibration.json"
WHOLE = {"found": "tpr", "false": "fpr", "early": "early", "lead, s": "lead_s"}
IN_TIME = {"found": "tpr_in_time", "false": "fpr_in_time", "ahead, s": "ahead_s", "AUROC": "auroc_equal_time"}
CALIBRATED = {"score": "score", "tau": "tau", "found": "tpr", "false": "fpr", "lead, s": "lead_s"}
"""Titles of columns, and the keys of what stands in them."""

Root = Annotated[Path, typer.Argument(metavar="DIR", help="Folder that episodes were logged to.")]
Alpha = Annotated[float, typer.Option(help="Share of good episodes that may raise a false alarm.")]


def calibrate(
    root: Root,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The calibration; by default in DIR.")] = None,
    alpha: Alpha = 0.1,
    json: JsonFile = None,
) -> None:
    """Measure what the entropy scores come to in the successes of a folder, and write it as a calibration.

    Record them in the world in which nothing is wrong: `flexor run` then calls an episode "pre-fail" when a score
    goes above what all but a share alpha of these successes stayed below.
    """
    from flexor.cli.report import write_json
    from flexor.runtime.episodes.calibrator import calibrate as measure

    path = out or root / CALIBRATION_JSON
    calibration = measure(_read(root), alpha)
    write_calibration(calibration, path)
    write_json(json, {**calibration.to_dict(), "id": calibration.id, "path": path})


def alarms(
    root: Root,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also count the alarms of this calibration.")
    ] = None,
    alpha: Alpha = 0.1,
    repeats: Annotated[int, typer.Option(min=1, help="How often the successes are split into halves.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the splits.")] = 0,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a PNG here.")] = None,
    json: JsonFile = None,
) -> None:
    """Tell how well each entropy score foresees the failures of a folder, beside a plain timer.

    Thresholds come from one half of the successes, false alarms are counted on the other. "Early" is an alarm before
    the failure happened, by the lead. "In time" is before a timer with as many false alarms would tell, and ahead of
    it by so much. AUROC compares failures and successes after equal time, where a timer has 0.5. --json has the
    interval of every number.
    """
    from flexor.cli.progress import Progress
    from flexor.cli.report import console, table, write_json
    from flexor.flywheel.alarm_plot import write_alarm_plot
    from flexor.flywheel.alarm_study import AlarmStudy, alarms_of
    from flexor.runtime.inference.calibration import PRIMARY, Calibration

    used = None if calibration is None else Calibration.load(calibration)
    traces = _read(root)
    study = AlarmStudy(traces, alpha, repeats, seed)
    with Progress() as progress:
        result = study.run(lambda done, total: progress.update("scoring", done, total))
    counts = f"{result['failures']} failures, {result['successes']} successes, alpha {alpha:g}"
    for title, columns in ((f"whole episodes: {counts}", WHOLE), (f"in time: {counts}", IN_TIME)):
        named = {"score": "score", "detector": "detector", **columns}
        table(title, tuple(named), [[_cell(row, key) for key in named.values()] for row in result["rows"]])
    if result["left_out"]:
        console.print(f"left out: {result['left_out']} episodes that neither succeeded nor failed", highlight=False)
    result = {"root": str(root), **result}
    if used is not None:
        counted = alarms_of(used, traces)
        shown = [[_cell(row, key) for key in CALIBRATED.values()] for row in counted]
        table(f"alarms of calibration {used.id}, alpha {used.alpha:g}", tuple(CALIBRATED), shown)
        result["calibration"] = {"id": used.id, "alpha": used.alpha, "rows": counted}
    if plot is not None:
        write_alarm_plot(traces, result, PRIMARY if PRIMARY in study.scores else study.scores[0], plot)
    write_json(json, result)


def calibrate_run(report: RunReport, alpha: float) -> Calibration:
    """The calibration of the successes of a run that has just ended.

    Raises:
        CalibrationError: as in flexor.runtime.episodes.calibrator.
    """
    from flexor.runtime.episodes.calibrator import calibrate as measure
    from flexor.runtime.episodes.episode import read_episode
    from flexor.runtime.episodes.score_trace import ScoreTrace

    return measure([ScoreTrace.of(read_episode(result.path)) for result in report.results], alpha)


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Save it, and tell its thresholds and where it is."""
    from flexor.cli.report import console, table

    calibration.save(path)
    rows: list[Sequence[object]] = [(score, found.tau, found.sigma) for score, found in calibration.thresholds.items()]
    title = f"calibration {calibration.id}: {len(calibration.episodes)} successes, alpha {calibration.alpha:g}"
    table(title, ("score", "tau", "sigma"), rows)
    for why in calibration.refused.values():
        console.print(f"refused: {why}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"calibration in {path}", highlight=False, markup=False, soft_wrap=True)


def _read(root: Path) -> list[ScoreTrace]:
    from flexor.cli.progress import Progress
    from flexor.runtime.episodes.score_trace import read_traces

    with Progress() as progress:
        return read_traces(root, lambda done, total: progress.update("reading episodes", done, total))


def _cell(row: Mapping[str, Any], key: str) -> object:
    value = row[key]
    if isinstance(value, list):  # quartiles
        return f"{value[1]:.1f}"
    interval = row.get(f"{key}_ci95")
    if interval is None or key.startswith("fpr"):
        return f"{value:.2f}" if isinstance(value, float) else value
    return f"{value:.2f} ({interval[0]:.2f}-{interval[1]:.2f})"
