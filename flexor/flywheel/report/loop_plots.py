"""The pictures of an online loop: success over its cycles, one adapter beside all of them, and what was forgotten."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flexor.flywheel.online.summary import summarise
from flexor.flywheel.report.drawing import COLOURS, GREY, drawn, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (9.0, 3.2)  # inches
WORLDS = (("after", "changed world"), ("unshifted", "where nothing is changed"))
Figures = Mapping[str, Any]


def loop_plots(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, bytes]]:
    """The pictures of a ledger by name, each by format; of what was not measured there is none.

    Raises:
        FlexorError: matplotlib is not installed.
    """
    told = summarise(rows)
    wanted: dict[str, tuple[bool, Callable[[Axes], None]]] = {
        "loop": (told["before"] is not None, lambda axes: _loop(axes, told)),
        "forgetting": (any(told[name] is not None for name, _ in WORLDS), lambda axes: _forgetting(axes, told)),
    }
    return {name: drawn(_alone(draw), SIZE) for name, (there, draw) in wanted.items() if there}


def _alone(draw: Callable[[Axes], None]) -> Callable[[Figure], None]:
    return lambda figure: draw(figure.subplots())


def _loop(axes: Axes, told: Mapping[str, Any]) -> None:
    """Each cycle's success with its interval on the same episodes; what became of its adapter stands above it."""
    points = [(0, told["before"]), *((cycle["cycle"], cycle["measured"]) for cycle in told["cycles"])]
    known = [(number, figures) for number, figures in points if figures is not None]
    for number, figures in known:
        _point(axes, number, figures, COLOURS[0])
    axes.plot([n for n, _ in known], [f["success_rate"] for _, f in known], color=COLOURS[0], linewidth=0.8, alpha=0.5)
    one_shot = told["one_shot"]
    if one_shot is not None:
        label = f"one adapter: {one_shot['successes']} of {one_shot['episodes']}"
        axes.axhline(one_shot["success_rate"], color=COLOURS[2], linestyle="--", linewidth=1, label=label)
        axes.axhspan(*one_shot["ci95"], color=COLOURS[2], alpha=0.12, linewidth=0)
        axes.legend(loc="best")
    for cycle in told["cycles"]:
        if cycle["state"] not in (None, "NONE"):
            taken = cycle["state"] == "ACTIVE"
            said = plain("swapped in" if taken else f"{cycle['state'].lower()}: {cycle['reason']}".replace("_", " "))
            axes.text(cycle["cycle"], 1.03, said, fontsize=7, ha="center", va="top", color=COLOURS[1 if taken else 3])
            if taken:
                axes.axvline(cycle["cycle"], color=GREY, linestyle=":", linewidth=1)
    axes.set_xticks([number for number, _ in points])
    axes.set(xlim=(-0.6, points[-1][0] + 0.6), ylim=(0, 1.05), xlabel="cycle; 0: the bundle alone", ylabel="success")
    axes.set_title("success in the changed world, the same episodes each time, and its 95 % interval")


def _forgetting(axes: Axes, told: Mapping[str, Any]) -> None:
    """Base and last adapter on the same fresh episodes, and the difference of the pairs with its interval."""
    shown = [(name, pair) for key, name in WORLDS if (pair := told[key]) is not None and pair["base"] is not None]
    for at, (name, pair) in enumerate(shown):
        _point(axes, at - 0.15, pair["base"], COLOURS[0])
        _point(axes, at + 0.15, pair["last"], COLOURS[1])
        low, high = pair["ci95"]
        said = f"{name}\n{pair['points']:+.1f} points ({low:+.1f} to {high:+.1f}), p {pair['mcnemar_p']:.2g}"
        axes.text(at, 0.04, said, fontsize=8, ha="center", color=GREY)
    axes.set_xticks([at + side for at in range(len(shown)) for side in (-0.15, 0.15)], ["base", "last"] * len(shown))
    axes.set(xlim=(-0.6, len(shown) - 0.4), ylim=(0, 1.05), ylabel="success")
    axes.set_title("the bundle alone and the last adapter on the same fresh episodes")


def _point(axes: Axes, x: float, figures: Figures, colour: str) -> None:
    rate, (low, high) = figures["success_rate"], figures["ci95"]
    axes.errorbar(x, rate, yerr=[[rate - low], [high - rate]], fmt="o", color=colour, capsize=3)
    text = f"{figures['successes']}/{figures['episodes']}"
    axes.annotate(text, (x, rate), xytext=(6, 4), textcoords="offset points", fontsize=7)
