"""The report of a run: its pictures as files, and one HTML page with them, its swaps and its most telling clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flexor.errors import FlexorError
from flexor.flywheel.cycles import Cycle, cycles, success
from flexor.flywheel.report.drawing import FORMATS
from flexor.flywheel.report.html_page import HtmlPage
from flexor.flywheel.report.loop_plots import loop_plots
from flexor.flywheel.report.loop_section import write_loop
from flexor.flywheel.report.run_plots import run_plots
from flexor.flywheel.report.telling import Telling, telling_episodes
from flexor.flywheel.run_record import RunFolders, RunRecord
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.gif import gif_bytes

REPORT = "report.html"
CLIP_HEIGHT, CLIP_FRAMES = 128, 40
CYCLE_COLUMNS = ("cycle", "adapter", "began", "episodes", "on trial", "successes", "judged", "95 %", "failures",
                 "entropy, bits", "alarms", "interventions")  # fmt: skip
EVENT_KEYS = ("at", "event", "adapter", "reason", "told")


def write_run_report(record: RunRecord, folders: RunFolders, out: Path, window: int = 50) -> dict[str, Any]:
    """Write `out`/report.html and each picture as PNG and SVG beside it.

    Args:
        record: of a run.
        folders: where it lies, for its clips.
        out: a folder, made where it is missing.
        window: judged episodes that success is counted over.

    Returns:
        report, plots (paths), episodes, successes, success_rate, ci95, cycles, clips (why, and id) and troubles.

    Raises:
        FlexorError: there is no episode, matplotlib is not installed, or the disk refuses.
    """
    if not record.rows or folders.episodes is None:
        raise FlexorError(f"{folders.episodes} lists no episode; record some first, or name another folder")
    found = cycles(record.rows)
    plots = run_plots(found, record.curves, window) | loop_plots(record.ledger)
    troubles = list(record.troubles)
    page = HtmlPage(f"Run of {record.rows[0].started[:16]}: {len(record.rows)} episodes, {len(found)} cycles")
    _summary(page, found, record)
    if record.ledger:
        write_loop(page, record.ledger, plots)
    for heading, names in (("Success", ("success", "cycles")), ("Entropy", ("entropy",)), ("Failures", ("labels",))):
        if there := [name for name in names if name in plots]:
            page.heading(heading)
            for name in there:
                page.picture(plots[name]["svg"], FORMATS["svg"], "")
    page.heading("Clips")
    clips = telling_episodes(found)
    troubles += _clips(page, clips, folders.episodes)
    page.heading("Adapters")
    page.text("Every change of an adapter's state, oldest first." if record.audit else "No log of adapters was found.")
    if record.audit:
        page.table(EVENT_KEYS, [[entry.get(key) for key in EVENT_KEYS] for entry in record.audit])
    if "loss" in plots:
        page.heading("Learner")
        page.picture(plots["loss"]["svg"], FORMATS["svg"], "")
    for trouble in troubles:
        page.text(f"not in this report: {trouble}", faint=True)
    page.write(out / REPORT)
    return {
        "report": out / REPORT,
        "plots": _write_plots(plots, out),
        "episodes": len(record.rows),
        **success(record.rows),
        "cycles": [cycle.to_dict() for cycle in found],
        "clips": [{"why": why, "id": row.id} for why, row in clips],
        "troubles": troubles,
    }


def _summary(page: HtmlPage, found: Sequence[Cycle], record: RunRecord) -> None:
    told = success(record.rows)
    if told["judged"]:
        low, high = told["ci95"]
        rate = f"{told['successes']} of {told['judged']} succeeded ({low:.0%} to {high:.0%})"
        page.text(f"{rate}. Aborts, episodes that nobody judged and successes with help do not count.")
    rows = []
    for cycle in found:
        one = cycle.to_dict()
        low, high = one["ci95"]
        interval = "" if low is None else f"{low:.0%} to {high:.0%}"
        failures = ", ".join(f"{label} {count}" for label, count in one["labels"].items())
        first = (one["cycle"], one["adapter"], one["began"][:19], one["episodes"], one["on_trial"], one["successes"])
        last = (one["entropy_bits_mean"], one["alarms"], one["interventions"])
        rows.append((*first, one["judged"], interval, failures, *last))
    page.table(CYCLE_COLUMNS, rows)
    page.text("A cycle is what was played between two activations of adapters; its success counts the episodes of "
              "the adapter that was active, not those that tried another one.", faint=True)  # fmt: skip


def _clips(page: HtmlPage, clips: Telling, root: Path) -> list[str]:
    """Show them; what could not be shown, and why."""
    pictures, troubles = [], []
    for why, row in clips:
        try:
            moving = gif_bytes(read_episode(root / row.file), CLIP_HEIGHT, CLIP_FRAMES)
        except EpisodeError as error:  # it was evicted, or is damaged
            troubles.append(f"clip of {row.id}: {error}")
            continue
        ended = row.outcome if row.label is None else f"{row.outcome}, {row.label}"
        pictures.append((moving, "image/gif", f"{why}: {row.id}, {row.task}, seed {row.seed}, {row.adapter}: {ended}"))
    if pictures:
        page.row(pictures)
    else:
        page.text("No failure, no correction, and no seed that was played before and after a swap.", faint=True)
    return troubles


def _write_plots(plots: dict[str, dict[str, bytes]], out: Path) -> list[Path]:
    written = []
    for name, files in plots.items():
        for ending, data in files.items():
            path = out / f"{name}.{ending}"
            try:
                path.write_bytes(data)
            except OSError as error:
                raise FlexorError(f"cannot write the plot to {path}: {error}; choose another --out") from error
            written.append(path)
    return written
