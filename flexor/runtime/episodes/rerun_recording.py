"""An episode as a recording for the Rerun viewer: its frames, plots of its numbers, and what happened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flexor.runtime.episodes.episode import Episode
from flexor.runtime.episodes.episode_schema import EpisodeError

APPLICATION = "flexor"


def write_rerun(episode: Episode, path: Path | str) -> None:
    """Write the episode as an .rrd file with a layout: `rerun FILE.rrd` shows pictures, plots and events side by side.

    Two timelines: `step`, and `time`, which is the robot's own (step / hz, seconds). Entities: `camera/NAME`, `state`,
    `action`, `expert` (where it is not what was played), `intervention`, `scores/NAME` and `timing_ms/NAME` of the
    chunks, `events`, and `episode`, which tells what it is an episode of.

    Raises:
        EpisodeError: rerun-sdk is not installed, or the file cannot be written.
    """
    try:
        import rerun as rr
    except ImportError as error:
        raise EpisodeError(
            "a Rerun recording needs the package rerun-sdk, which is not installed; type: pip install 'flexor[rerun]'"
        ) from error
    path = Path(path)
    draft = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.open("wb").close()  # Rerun itself would only warn of a place that cannot be written to
        # The properties that Rerun adds by itself would say when this file was written, not when it was recorded.
        recording = rr.RecordingStream(APPLICATION, recording_id=episode.id, send_properties=False)
        recording.save(draft, default_blueprint=_layout(episode))
        _Log(recording, episode.meta.hz).episode(episode)
        recording.flush()
        recording.disconnect()
        os.replace(draft, path)
    except (OSError, RuntimeError, ValueError) as error:
        raise EpisodeError(f"cannot write the recording {path}: {error}; choose another file") from error


class _Log:
    def __init__(self, recording: Any, hz: float) -> None:
        self._recording, self._hz = recording, hz

    def episode(self, episode: Episode) -> None:
        import rerun as rr

        told = {"prompt": episode.meta.prompt, "task": episode.meta.task, "outcome": episode.outcome}
        told |= {"label": episode.label, "source": episode.source, "recovered": episode.recovered}
        told |= {"robot": episode.meta.robot, "bundle": episode.meta.bundle, "adapter": episode.meta.adapter}
        told |= {"seed": episode.meta.seed, "hz": episode.meta.hz, **episode.meta.extra}
        rows = "\n".join(f"| {key} | {value} |" for key, value in told.items())
        document = rr.TextDocument(f"| episode | {episode.id} |\n|---|---|\n{rows}", media_type="text/markdown")
        self._recording.log("episode", document, static=True)
        for camera, frames in episode.frames.items():
            blobs = [frames.encoded(step) for step in frames]
            images = rr.EncodedImage.columns(blob=blobs, media_type=[f"image/{episode.images}"] * len(blobs))
            self._columns(f"camera/{camera}", list(frames), images)
        steps = episode.steps
        self._numbers("state", steps, episode.states)
        self._numbers("action", steps, episode.actions)
        corrected = np.any(episode.labels != episode.actions, axis=1)
        self._numbers("expert", steps[corrected], episode.labels[corrected])
        self._numbers("intervention", steps, episode.interventions[:, None], ("intervention",))
        for kind in ("scores", "timing_ms"):
            for name, at, values in _by_name(episode, kind):
                self._numbers(f"{kind}/{name}", at, np.array(values)[:, None], (name,))
        words = [f"{event.kind} {dict(event.data)}" for event in episode.events]
        levels = [rr.TextLogLevel.INFO] * len(words)
        self._columns("events", [e.step for e in episode.events], rr.TextLog.columns(text=words, level=levels))

    def _numbers(self, entity: str, steps: ArrayLike, values: NDArray[Any], names: Sequence[str] = ()) -> None:
        """One line for each column of `values` [n, width]."""
        import rerun as rr

        if len(values) == 0:
            return
        width = values.shape[1]
        lines = rr.SeriesLines(names=names or [f"{entity}[{index}]" for index in range(width)])
        self._recording.log(entity, lines, static=True)
        scalars = rr.Scalars.columns(scalars=values.astype(np.float64).ravel()).partition([width] * len(values))
        self._columns(entity, steps, scalars)

    def _columns(self, entity: str, steps: ArrayLike, columns: Any) -> None:
        import rerun as rr

        at = np.asarray(steps, np.int64)
        if len(at) == 0:
            return
        timelines = [rr.TimeColumn("step", sequence=at), rr.TimeColumn("time", duration=at / self._hz)]
        self._recording.send_columns(entity, timelines, columns)


def _layout(episode: Episode) -> Any:
    import rerun.blueprint as rrb

    def plots(*origins: str) -> list[Any]:
        return [rrb.TimeSeriesView(origin=origin, name=origin) for origin in origins]

    pictures = [rrb.Spatial2DView(origin=f"camera/{name}", name=name) for name in episode.frames]
    corrections = plots("expert", "intervention") if (episode.interventions | episode.advised).any() else []
    scores = [f"scores/{name}" for name, _, _ in _by_name(episode, "scores")]  # each in units of its own
    columns = (
        rrb.Vertical(*pictures, rrb.TextDocumentView(origin="episode", name="episode")),
        rrb.Vertical(*plots("action", "state"), *corrections),
        rrb.Vertical(*plots(*scores, "timing_ms"), rrb.TextLogView(origin="events", name="events")),
    )
    return rrb.Blueprint(rrb.Horizontal(*columns), collapse_panels=True)


def _by_name(episode: Episode, kind: str) -> list[tuple[str, list[int], list[float]]]:
    """Of each score or timing its name, the steps of its chunks, and its values."""
    names = sorted({name for recorded in episode.chunks for name in getattr(recorded.chunk, kind)})
    found = []
    for name in names:
        pairs = [(r.step, getattr(r.chunk, kind)[name]) for r in episode.chunks if name in getattr(r.chunk, kind)]
        found.append((name, [step for step, _ in pairs], [value for _, value in pairs]))
    return found
