"""The picture of an alarm study: how a score goes in successes and failures, and when each score would have told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flexor.errors import FlexorError
from flexor.runtime.episodes.score_trace import TIMER, ScoreTrace, Track

POINTS = 60
COLOURS = {"success": "tab:green", "failure": "tab:red"}


def write_alarm_plot(traces: Sequence[ScoreTrace], study: Mapping[str, Any], score: str, path: Path) -> None:
    """Write a PNG of two panels.

    Left: median and quartiles of `score` over the time since the episode began, for successes and failures that still
    run. Right: share of failures in which an alarm was raised by that time, for each score with its best detector
    (in time, at the study's false alarm rate) and for the timer.

    Args:
        study: what AlarmStudy.run returned.

    Raises:
        FlexorError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FlexorError(f"a plot needs matplotlib ({error}); install it with `pip install 'flexor[plot]'`") from error
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for outcome, colour in COLOURS.items():
        chosen = [trace for trace in traces if trace.outcome == outcome and score in trace.tracks]
        if not chosen:
            continue
        seconds, quartiles = _quartiles(chosen, score)
        left.fill_between(seconds, quartiles[0], quartiles[2], color=colour, alpha=0.2, linewidth=0)
        left.plot(seconds, quartiles[1], color=colour, label=f"{outcome} ({len(chosen)})")
    left.set(xlabel="seconds since the episode began", ylabel=score, title=f"{score}: median and quartiles")
    left.legend(frameon=False)
    for row in best_rows(study["rows"]):
        style = {"color": "black", "linestyle": "--"} if row["score"] == TIMER else {}
        name = TIMER if row["score"] == TIMER else f"{row['score']}, {row['detector']}"
        right.step(study["curve_s"], row["detected"], where="post", label=name, **style)
    right.set(xlabel="seconds since the episode began", ylim=(0, 1.02), title="failures with an alarm by then")
    right.text(0.02, 0.95, f"false alarms {study['alpha']:.0%} of successes", transform=right.transAxes, fontsize=8)
    right.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0.0, 0.94))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=110)
    except OSError as error:
        raise FlexorError(f"cannot write the plot to {path}: {error}; choose another file") from error


def best_rows(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of each score the row that finds most in time; the first of equals."""
    best: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if row["score"] not in best or row["tpr_in_time"] > best[row["score"]]["tpr_in_time"]:
            best[row["score"]] = row
    return list(best.values())


def _quartiles(traces: Sequence[ScoreTrace], score: str) -> tuple[np.ndarray, np.ndarray]:
    """Seconds [n] and quartiles [3, n] of the latest score of the episodes that still run, while at least 3 do."""
    limit = sorted(trace.length for trace in traces)[-min(3, len(traces))]
    steps = np.linspace(0, limit - 1, POINTS)
    rows = []
    for step in steps:
        running = [trace.tracks[score] for trace in traces if trace.length > step]
        rows.append(np.percentile([_latest(track, step) for track in running], (25, 50, 75)))
    return steps / traces[0].hz, np.array(rows).T


def _latest(track: Track, step: float) -> float:
    return float(track.values[max(int(np.searchsorted(track.steps, step, "right")) - 1, 0)])
