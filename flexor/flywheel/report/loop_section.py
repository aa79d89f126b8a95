"""The part of a run's page that tells an online loop from its ledger: three phases, forgetting, and every adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flexor.flywheel.online.stages import GATE, OFFER
from flexor.flywheel.online.summary import summarise
from flexor.flywheel.report.drawing import FORMATS
from flexor.flywheel.report.html_page import HtmlPage

PHASES = (
    ("before", "the bundle alone"),
    ("one_shot", "the first adapter that went into service"),
    ("loop", "the last"),
)
PAIRS = (("after", "fresh episodes, changed world"), ("unshifted", "fresh episodes, nothing changed"))
COLUMNS = ("cycle", "triggers", "adapter", "loss before", "loss after", "gate: points shifted", "not shifted", "state",
           "reason", "told", "success after it")  # fmt: skip
HEADINGS = {"loop": "Loop", "forgetting": "Forgetting"}


def write_loop(page: HtmlPage, rows: Sequence[Mapping[str, Any]], plots: Mapping[str, Mapping[str, bytes]]) -> None:
    """Add it to a page.

    Args:
        rows: of the ledger.
        plots: of loop_plots.
    """
    told = summarise(rows)
    page.heading(HEADINGS["loop"])
    _picture(page, "loop", plots)
    page.table(("what", "success", "95 %"), [(name, *_success(told[key])) for key, name in PHASES])
    page.text(
        f"{told['episodes']} episodes that could be learned from, {told['wall_minutes']:.1f} minutes without the "
        f"measurements before and after; {told['adapters']['learned']} adapters learned, {told['adapters']['served']} "
        "went into service.",
        faint=True,
    )
    page.heading(HEADINGS["forgetting"])
    _picture(page, "forgetting", plots)
    found = [row for key, name in PAIRS for row in _pair(name, told[key])]
    if found:
        page.table(("what", "success", "95 %"), found)
    else:
        page.text("Not measured: the loop has not come so far, or measure.after and measure.unshifted are 0.")
    page.heading("Swaps")
    page.text("What each cycle learned, and what became of it.", faint=True)
    page.table(COLUMNS, _swaps(rows, told["cycles"]))


def _picture(page: HtmlPage, name: str, plots: Mapping[str, Mapping[str, bytes]]) -> None:
    if name in plots:
        page.picture(plots[name]["svg"], FORMATS["svg"])


def _success(figures: Mapping[str, Any] | None) -> tuple[str, str]:
    if figures is None:
        return "not reached", ""
    low, high = figures["ci95"]
    return f"{figures['successes']} of {figures['episodes']}", f"{low:.0%} to {high:.0%}"


def _pair(name: str, pair: Mapping[str, Any] | None) -> Iterator[tuple[str, str, str]]:
    """Base, last, and the difference of the same episodes; nothing where that was not measured."""
    if pair is None or pair["base"] is None:
        return
    yield (f"{name}: base", *_success(pair["base"]))
    yield (f"{name}: last adapter", *_success(pair["last"]))
    low, high = pair["ci95"]
    said = f"{pair['points']:+.1f} points (McNemar p {pair['mcnemar_p']:.2g})"
    yield f"{name}: difference", said, f"{low:+.1f} to {high:+.1f} points"


def _swaps(rows: Sequence[Mapping[str, Any]], cycles: Sequence[Mapping[str, Any]]) -> Iterator[tuple[object, ...]]:
    by = {(row["cycle"], row["verb"]): row for row in rows}
    for cycle in cycles:
        number = cycle["cycle"]
        gate = by.get((number, GATE), {})
        points = [
            f"{100 * gate[world]['difference']:+.1f}" if world in gate else "" for world in ("shifted", "unshifted")
        ]
        learned = (cycle["adapter"], cycle["loss_before"], cycle["loss_after"])
        told = by.get((number, OFFER), {}).get("told")
        ended = (cycle["state"], cycle["reason"], told, " ".join(_success(cycle["measured"])))
        yield (number, ", ".join(cycle["triggers"]), *learned, *points, *ended)
