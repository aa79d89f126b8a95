"""Labelling: an operator corrects how an episode ended, in the files and in the index."""

from __future__ import annotations

from pathlib import Path

from flexor.runtime.episodes.corrections import Correction, add_correction, now_utc
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.index_row import EpisodeRow


def label_episode(
    root: Path, episode_id: str, outcome: str | None, label: str | None, by: str, note: str = ""
) -> EpisodeRow:
    """Say how a finished episode of `root` really ended; its row in the index says so from then on.

    The correction is on disk before the index is told, so an index that is made again has it, too.

    Args:
        outcome: None leaves it as it is.
        label: how it failed; None takes a label away where the outcome is another one, and leaves it else.
        by: who says so.

    Raises:
        EpisodeError: the episode is unfinished, damaged or not there; a word is not allowed; nothing would change;
            or the disk or the index refuses.
    """
    path = finished_file(root, episode_id)
    episode = read_episode(path)
    wanted = outcome or episode.outcome
    kept = label if label is not None or wanted != episode.outcome else episode.label
    if (wanted, kept, episode.source) == (episode.outcome, episode.label, "operator"):
        told = f"{wanted}, {kept}" if kept else wanted
        raise EpisodeError(
            f"an operator has said of episode {episode_id} that it is {told}; there is nothing to correct"
        )
    add_correction(path, Correction(now_utc(), by, wanted, kept, episode.outcome, episode.label, episode.source, note))
    try:
        return EpisodeIndex(root).add(path)
    except EpisodeError as error:
        raise EpisodeError(f"the correction of {path} is on disk, but its row could not be changed: {error}") from error


def finished_file(root: Path, episode_id: str) -> Path:
    """The file of a finished episode of `root`. Raises EpisodeError when there is none."""
    name = Path(episode_id).name.split(".")[0]
    path = root / "episodes" / f"{name}.mcap"
    if path.exists():
        return path
    if path.with_suffix(".mcap.part").exists():
        raise EpisodeError(
            f"episode {name} is not finished: it is being recorded, or its writer was killed; end it, or run "
            f"`flexor episodes verify {root} --repair` first"
        )
    raise EpisodeError(f"{root} has no episode {name}; `flexor episodes list {root}` names those it has")
