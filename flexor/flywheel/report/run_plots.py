"""The pictures of a run: success over episodes and cycles, entropy and failure labels by cycle, the learner's loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flexor.flywheel.alerts import LOSS
from flexor.flywheel.cycles import Cycle, judged, labels, success, success_window
from flexor.flywheel.report.drawing import COLOURS, GREY, drawn, plain
from flexor.flywheel.run_record import Curve
from flexor.runtime.inference.conformal import ALARM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, HIGH = 9.0, 3.2  # inches
BAR = 0.7


def run_plots(found: Sequence[Cycle], curves: Sequence[Curve], window: int) -> dict[str, dict[str, bytes]]:
    """The pictures of a run by name, each by format; of what there is nothing of, there is no picture.

    Args:
        found: its cycles.
        curves: of its learner.
        window: judged episodes that success is counted over.

    Raises:
        FlexorError: matplotlib is not installed.
    """
    rows = [row for cycle in found for row in cycle.rows]
    wanted: dict[str, tuple[bool, Callable[[Axes], None]]] = {
        "success": (any(judged(row) is not None for row in rows), lambda axes: _success(axes, found, window)),
        "cycles": (any(success(cycle.own)["judged"] for cycle in found), lambda axes: _cycles(axes, found)),
        "entropy": (any(row.entropy_bits_max is not None for row in rows), lambda axes: _entropy(axes, found)),
        "labels": (bool(labels(rows)), lambda axes: _labels(axes, found)),
        "loss": (any(LOSS in row for curve in curves for row in curve.rows), lambda axes: _loss(axes, curves)),
    }
    return {name: drawn(_alone(draw), (WIDE, HIGH)) for name, (there, draw) in wanted.items() if there}


def _alone(draw: Callable[[Axes], None]) -> Callable[[Figure], None]:
    return lambda figure: draw(figure.subplots())


def _success(axes: Axes, found: Sequence[Cycle], window: int) -> None:
    rows = [row for cycle in found for row in cycle.rows]
    points = success_window(rows, window)
    numbers = [point["n"] for point in points]
    low, high = ([point["ci95"][end] for point in points] for end in (0, 1))
    axes.fill_between(numbers, low, high, color=COLOURS[0], alpha=0.18, linewidth=0)
    axes.plot(numbers, [point["success_rate"] for point in points], color=COLOURS[0])
    before = 0
    for cycle in found:
        if before and cycle.number:
            axes.axvline(before + 0.5, color=GREY, linestyle=":", linewidth=1)
            axes.text(before + 0.7, 0.02, plain(cycle.adapter), fontsize=7, rotation=90, color=GREY, va="bottom")
        before += sum(judged(row) is not None for row in cycle.rows)
    axes.set(ylim=(0, 1.02), xlabel="judged episodes", ylabel="success", title=f"success in the last {window} episodes")


def _cycles(axes: Axes, found: Sequence[Cycle]) -> None:
    for cycle in found:
        told = success(cycle.own)
        if told["judged"]:
            rate, (low, high) = told["success_rate"], told["ci95"]
            axes.errorbar(cycle.number, rate, yerr=[[rate - low], [high - rate]], fmt="o", color=COLOURS[0], capsize=3)
            text = f"{told['successes']}/{told['judged']}"
            axes.annotate(text, (cycle.number, rate), xytext=(6, 4), textcoords="offset points", fontsize=7)
    _cycle_axis(axes, found)
    axes.set(ylim=(0, 1.05), ylabel="success", title="success of each cycle, and its 95 % interval")


def _entropy(axes: Axes, found: Sequence[Cycle]) -> None:
    rows = [row for cycle in found for row in cycle.own]
    calibrated = any(row.calibrated_max is not None for row in rows)
    rng = np.random.default_rng(0)
    for cycle in found:
        scores = [row.calibrated_max if calibrated else row.entropy_bits_max for row in cycle.own]
        known = [score for score in scores if score is not None]
        axes.scatter(cycle.number + rng.uniform(-0.2, 0.2, len(known)), known, s=9, color=COLOURS[0], alpha=0.6)
        if known:
            axes.hlines(np.median(known), cycle.number - 0.3, cycle.number + 0.3, color=COLOURS[2])
    if calibrated:
        axes.axhline(ALARM, color=COLOURS[3], linestyle="--", linewidth=1)
    unit = "calibrated; dashed: alarm" if calibrated else "raw, bits; not calibrated, so no threshold"
    _cycle_axis(axes, found)
    axes.set_ylim(bottom=0)
    axes.set(ylabel=unit, title="largest entropy score of each episode, and the median of each cycle")


def _labels(axes: Axes, found: Sequence[Cycle]) -> None:
    names = list(labels([row for cycle in found for row in cycle.own]))
    counted = [labels(cycle.own) for cycle in found]
    below = np.zeros(len(found))
    for at, name in enumerate(names):
        counts = np.array([count.get(name, 0) for count in counted], float)
        axes.bar(
            [cycle.number for cycle in found], counts, BAR, below, color=COLOURS[at % len(COLOURS)], label=plain(name)
        )
        below += counts
    _cycle_axis(axes, found)
    axes.locator_params(axis="y", integer=True)
    axes.set(ylabel="failures", title="failures of each cycle, by label")
    axes.legend()


def _loss(axes: Axes, curves: Sequence[Curve]) -> None:
    for at, curve in enumerate(curves):
        rows = [row for row in curve.rows if LOSS in row]
        colour = COLOURS[at % len(COLOURS)]
        axes.plot([row["step"] for row in rows], [row[LOSS] for row in rows], color=colour, label=plain(curve.name))
    axes.set(yscale="log", xlabel="step", ylabel=LOSS, title="loss of the learner")
    axes.legend()


def _cycle_axis(axes: Axes, found: Sequence[Cycle]) -> None:
    names = [f"{cycle.number}\n{plain(cycle.adapter)}" for cycle in found]
    axes.set_xticks([cycle.number for cycle in found], names, fontsize=7, rotation=90 if len(found) > 8 else 0)
    axes.set(xlim=(found[0].number - 0.6, found[-1].number + 0.6), xlabel="cycle: what was active")
