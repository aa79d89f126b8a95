"""Exports the episodes of a folder as one LeRobotDataset v3.0, which appears under its name whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flexor.runtime.draft_folder import draft_folder, sweep_drafts
from flexor.runtime.episodes.episode import Episode, read_episode
from flexor.runtime.episodes.episode_files import episode_folder, finished_files
from flexor.runtime.episodes.episode_schema import OUTCOMES, EpisodeError
from flexor.runtime.episodes.lerobot.dataset_writer import DATA_MB, VIDEO_MB, DatasetWriter
from flexor.runtime.episodes.lerobot.frame_table import ACTIONS, Form


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: episodes and rows, and the ids of episodes without a single step, which were left out."""

    episodes: int
    frames: int
    empty: tuple[str, ...]


def export_lerobot(
    root: Path,
    out: Path,
    actions: str = "played",
    video: str = "h264",
    outcome: str | None = None,
    task: str | None = None,
    data_mb: float = DATA_MB,
    video_mb: float = VIDEO_MB,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Write the finished episodes of `root`, oldest first, as the new folder `out`.

    A process that is killed in here leaves a hidden draft beside `out`, which the next export to it removes.

    Args:
        actions: what the column `action` holds: "played", or "expert": as the labels have it.
        video: "h264", or "lossless": every pixel as it was recorded.
        outcome, task: only these.
        data_mb, video_mb: a file that has reached this many MiB takes no further episode.
        told: hears how many files of how many were read.

    Raises:
        EpisodeError: no such episode, a damaged one, episodes of several forms, `out` is there already, a package is
            not installed, or the disk refuses.
    """
    if outcome is not None and outcome not in OUTCOMES:
        raise EpisodeError(f'outcome is "{outcome}"; give one of {", ".join(OUTCOMES)}')
    if actions not in ACTIONS:
        raise EpisodeError(f'actions is "{actions}"; give one of {", ".join(ACTIONS)}')
    if out.exists():
        raise EpisodeError(f"{out} is there already; give a folder that is not, or remove it")
    episode_folder(root)
    files, writer, empty, written, frames = finished_files(root), None, [], 0, 0
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        sweep_drafts(out.parent, out.name)
        with draft_folder(out) as draft:
            made = draft.stat().st_ino
            for number, file in enumerate(files, start=1):
                episode = read_episode(file)
                if _is_wanted(episode, outcome, task):
                    if len(episode.steps) == 0:
                        empty.append(episode.id)
                    else:
                        writer = writer or DatasetWriter(draft, Form.of(episode, actions), video, data_mb, video_mb)
                        writer.add(episode)
                        written, frames = written + 1, frames + len(episode.steps)
                told(number, len(files))
            if writer is None:
                raise EpisodeError(
                    f"{root} has no episode to export (outcome {outcome or 'any'}, task {task or 'any'}, with a step); "
                    "`flexor episodes list` names those it has"
                )
            writer.close()
        if out.stat().st_ino != made:
            raise EpisodeError(f"another process wrote {out} meanwhile, and its dataset stays; give another folder")
    except OSError as error:
        raise EpisodeError(f"cannot write the dataset {out}: {error}; free the disk or export elsewhere") from error
    return Exported(written, frames, tuple(empty))


def _is_wanted(episode: Episode, outcome: str | None, task: str | None) -> bool:
    return outcome in (None, episode.outcome) and task in (None, episode.meta.task)
