"""The post-mortem page of one episode: what the cameras showed, what was planned by whom, and what happened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flexor.flywheel.report.drawing import FORMATS
from flexor.flywheel.report.episode_plot import episode_plot, scores, turns
from flexor.flywheel.report.html_page import HtmlPage
from flexor.runtime.episodes.episode import Episode
from flexor.runtime.episodes.gif import frame_steps
from flexor.runtime.inference.calibration import PRIMARY

MOST_FRAMES = 80  # of each camera
EPISODE_COLUMNS = ("robot", "task", "seed", "bundle", "adapter", "judged by", "steps", "hz", "seconds")
CHUNK_COLUMNS = ("step", "seconds", "adapter", "bundle", "engine", "noise seed", "policy, ms", "accel", "ACE, bits",
                 "calibrated")  # fmt: skip


def write_postmortem(episode: Episode, path: Path) -> dict[str, Any]:
    """Write the page of one episode to `path`.

    Returns:
        page, id, outcome, label, frames (shown), frames_recorded (of one camera), chunks, adapters, guard (events by
        kind), turns (of somebody else, [from, to) in steps) and alarm_step.

    Raises:
        FlexorError: matplotlib is not installed, or the disk refuses.
    """
    ended = episode.outcome if episode.label is None else f"{episode.outcome}, {episode.label}"
    page = HtmlPage(f"Episode {episode.id}: {ended}")
    meta = episode.meta
    page.text(meta.prompt)
    told = (meta.robot, meta.task, meta.seed, meta.bundle, meta.adapter, episode.source, len(episode.steps), meta.hz)
    page.table(EPISODE_COLUMNS, [(*told, episode.duration_s)])
    for said in episode.corrections:
        page.text(f"{said.time}: {said.by} says {said.outcome} {said.label or ''} (was {said.was_outcome}) {said.note}")
    shown = frame_steps(episode, MOST_FRAMES)
    page.heading("Frames")
    for camera in episode.frames:
        page.text(camera, faint=True)
        page.strip(_strip(episode, camera, shown))
    page.text("A bar at the left: a chunk was asked for here. A bar on top: somebody else acts.", faint=True)
    page.heading("Over time")
    page.picture(episode_plot(episode)["svg"], FORMATS["svg"], "dotted: chunk borders; shaded: somebody else acts")
    page.heading("Chunks")
    page.table(CHUNK_COLUMNS, _chunks(episode))
    page.heading("Events")
    happened = [(event.step, event.time_s, event.kind, json.dumps(dict(event.data))) for event in episode.events]
    page.table(("step", "seconds", "kind", "data"), happened)
    page.write(path)
    guard = [event.kind for event in episode.events if event.kind.startswith("guard.")]
    return {
        "page": path,
        "id": episode.id,
        "outcome": episode.outcome,
        "label": episode.label,
        "frames": len(shown),
        "frames_recorded": len(frame_steps(episode)),
        "chunks": len(episode.chunks),
        "adapters": sorted({recorded.chunk.provenance.adapter for recorded in episode.chunks}),
        "guard": {kind: guard.count(kind) for kind in dict.fromkeys(guard)},
        "turns": turns(episode),
        "alarm_step": next((event.step for event in episode.events if event.kind == "alarm"), None),
    }


def _strip(episode: Episode, camera: str, steps: list[int]) -> Iterator[tuple[bytes, str, str, str]]:
    kind = f"image/{episode.images}"
    asked = {recorded.step for recorded in episode.chunks}
    helped = set(episode.steps[episode.interventions].tolist())
    for step in steps:
        if step in episode.frames[camera]:
            marks = " ".join(mark for mark, there in (("chunk", asked), ("helped", helped)) if step in there)
            caption = f"{step / episode.meta.hz:.2f} s, {step}"
            yield episode.frames[camera].encoded(step), kind, caption, marks


def _chunks(episode: Episode) -> Iterator[tuple[object, ...]]:
    accel, ace = scores(episode, "accel"), scores(episode, PRIMARY)
    calibrated = scores(episode, PRIMARY, calibrated=True)
    for recorded in episode.chunks:
        by, step = recorded.chunk.provenance, recorded.step
        engine = f"{by.engine} {by.precision}, {by.provider}"
        policy = recorded.chunk.timing_ms.get("policy")
        first = (step, step / episode.meta.hz, by.adapter, by.bundle, engine, by.noise_seed, policy)
        yield (*first, accel.get(step), ace.get(step), calibrated.get(step))
