"""The picture of one episode: scores against their thresholds, adapters, guard events, interventions and actions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flexor.flywheel.report.drawing import COLOURS, GREY, drawn, plain
from flexor.runtime.episodes.episode import Episode
from flexor.runtime.episodes.episode_schema import ALARM_EVENT, ENTROPY_EVENT
from flexor.runtime.inference.calibration import PRIMARY
from flexor.runtime.inference.conformal import ALARM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (10.0, 6.2)  # inches
ACTION_NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")


def episode_plot(episode: Episode) -> dict[str, bytes]:
    """Four panels over the robot's own time, by format; chunk borders are dotted, interventions shaded.

    Raises:
        FlexorError: matplotlib is not installed.
    """
    return drawn(lambda figure: _draw(figure, episode), SIZE)


def scores(episode: Episode, name: str, calibrated: bool = False) -> dict[int, float]:
    """A score by the control step of the observation that it is of; calibrated: where more than 2.0 is an alarm."""
    found = {}
    for event in episode.events:
        if event.kind == ENTROPY_EVENT:
            told = event.data.get("calibrated", {}) if calibrated else event.data
            if name in told:
                found[event.step] = float(told[name])
    return found


def threshold(episode: Episode, name: str) -> float | None:
    """Where the alarm of a raw score lies, as the episode's calibration has it; None without one."""
    calibration = episode.meta.extra.get("calibration")
    thresholds = calibration.get("thresholds", {}) if isinstance(calibration, dict) else {}
    return thresholds.get(name, {}).get("tau")


def turns(episode: Episode) -> list[tuple[int, int]]:
    """From which step to which, exclusive, somebody other than the policy acted."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], episode.interventions, [False]]).astype(int)))
    steps = [*episode.steps.tolist(), int(episode.steps[-1]) + 1] if len(episode.steps) else []
    return [(steps[begin], steps[end]) for begin, end in zip(edges[::2], edges[1::2], strict=True)]


def _draw(figure: Figure, episode: Episode) -> None:
    hz = episode.meta.hz
    ace, accel, who, actions = figure.subplots(4, 1, sharex=True, height_ratios=(3, 3, 1, 4))
    for axes in (ace, accel, who, actions):
        for recorded in episode.chunks:
            axes.axvline(recorded.step / hz, color=GREY, linestyle=":", linewidth=0.7, alpha=0.7)
        for begin, end in turns(episode):
            axes.axvspan(begin / hz, end / hz, color=COLOURS[2], alpha=0.2, linewidth=0)
    calibrated = scores(episode, PRIMARY, calibrated=True)
    _score(ace, calibrated or scores(episode, PRIMARY), hz, ALARM if calibrated else None)
    ace.set(ylabel="ACE", title="ACE, calibrated; dashed: alarm" if calibrated else "ACE, raw bits: not calibrated")
    for event in episode.events:
        if event.kind == ALARM_EVENT:
            ace.axvline(event.step / hz, color=COLOURS[3], linewidth=1.5)
    _score(accel, scores(episode, "accel"), hz, threshold(episode, "accel"))
    accel.set(ylabel="accel")
    _who(who, episode)
    _actions(actions, episode.actions, episode.steps / hz)
    for event in episode.events:
        if event.kind.startswith(("guard.", "failure.")):
            colour = COLOURS[3] if event.kind.startswith("failure.") else COLOURS[4]
            actions.axvline(event.step / hz, color=colour, linewidth=1.2)
            actions.text(event.step / hz, 1.0, plain(event.kind), fontsize=7, rotation=90, color=colour, va="top",
                         transform=actions.get_xaxis_transform())  # fmt: skip
    actions.set(xlabel="seconds since the episode began (steps / hz)", ylabel="action")


def _score(axes: Axes, by_step: dict[int, float], hz: float, alarm: float | None) -> None:
    axes.plot([step / hz for step in by_step], list(by_step.values()), color=COLOURS[0], marker="o", markersize=3)
    if alarm is not None:
        axes.axhline(alarm, color=COLOURS[3], linestyle="--", linewidth=1)
    axes.set_ylim(bottom=0)


def _who(axes: Axes, episode: Episode) -> None:
    """A band of the adapters that made the chunks, each until the next one came."""
    names = list(dict.fromkeys(recorded.chunk.provenance.adapter for recorded in episode.chunks))
    last = int(episode.steps[-1]) + 1 if len(episode.steps) else 0
    ends = [recorded.step for recorded in episode.chunks[1:]] + [last]
    shown = None
    for recorded, end in zip(episode.chunks, ends, strict=False):
        name = recorded.chunk.provenance.adapter
        at, colour = recorded.step / episode.meta.hz, COLOURS[names.index(name) % len(COLOURS)]
        axes.barh(0, (end - recorded.step) / episode.meta.hz, 0.8, at, color=colour, alpha=0.6)
        if name != shown:
            axes.text(at, 0, f" {plain(name)}", fontsize=7, va="center", clip_on=True)
        shown = name
    axes.set(yticks=[], ylabel="adapter")


def _actions(axes: Axes, actions: NDArray[np.float32], seconds: NDArray[np.float64]) -> None:
    named = actions.shape[1] == len(ACTION_NAMES) if actions.ndim == 2 and len(actions) else False
    for at, column in enumerate(actions.T):
        name = ACTION_NAMES[at] if named else str(at)
        axes.plot(seconds, column, color=COLOURS[at % len(COLOURS)], linewidth=1.4 if at < 3 else 0.8, label=name)
    if len(actions):
        axes.legend(ncols=len(actions.T), loc="lower left", fontsize=7)
