"""Records an episode while it happens, as one append-only MCAP file (docs/episodes.md has the format)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.episodes.episode_schema import OUTCOMES, SOURCES, EpisodeError, EpisodeMeta
from flexor.runtime.episodes.episode_writer import EpisodeWriter
from flexor.runtime.episodes.frame_codec import FORMATS
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.observation import ActionChunk


class EpisodeRecorder:
    """Writes episodes into `root`/episodes and lists the finished ones in `root`/index.sqlite.

    When a call returns, the operating system has the record: kill -9 loses no finished call, a power cut may lose
    what the system had not yet written of the open episode. One thread uses a recorder; several processes may
    record into the same root. After a disk error the episode stays as its `.part` file and takes no more records.
    """

    def __init__(self, root: Path | str, images: str = "jpeg") -> None:
        """`images`: "jpeg" (small) or "png" (exact replay)."""
        if images not in FORMATS:
            raise EpisodeError(f'images is "{images}"; give one of {", ".join(FORMATS)}')
        self.root = Path(root)
        self._images = images
        self._open: EpisodeWriter | None = None

    def begin(self, meta: EpisodeMeta) -> None:
        """Open a file for a new episode. Raises EpisodeError when one is open or the disk refuses.

        An episode that failed with a disk error is left behind as its `.part` file.
        """
        if self._open is not None and not self._open.failed:
            raise EpisodeError(f"episode {self._open.id} is still open; call end() before the next begin()")
        self._open = EpisodeWriter(self.root, meta, self._images)

    def frames(self, step: int, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Record what the cameras showed at `step`: uint8 [height, width, 3] by each camera name of the meta."""
        self._episode().frames(step, images)

    def step(
        self,
        step: int,
        state: NDArray[np.float32],
        action: NDArray[np.float32],
        label: NDArray[np.float32] | None = None,
        intervention: bool = False,
        plan: NDArray[np.float32] | None = None,
    ) -> None:
        """Record the action played at `step` and the state before it.

        Args:
            step: control step, larger than that of the last call.
            state: float32 [S] in robot units.
            action: float32 [A] in robot units, as it was played.
            label: float32 [A], what an expert would have played, when that is something else.
            intervention: whether somebody other than the policy acted.
            plan: float32 [P, A], what an expert would have played from this step on, had it had the arm.
        """
        self._episode().step(step, state, action, label, intervention, plan)

    def chunk(self, step: int, chunk: ActionChunk) -> None:
        """Record a plan whose first action was meant for `step`."""
        self._episode().chunk(step, chunk)

    def event(self, step: int, kind: str, data: Mapping[str, Any]) -> None:
        """Record that something happened at `step`; `data` must have a JSON form."""
        self._episode().event(step, kind, data)

    def end(self, outcome: str, label: str | None, source: str) -> Path:
        """Finish the file (fsync, rename), list it in the index, and return its path.

        Args:
            outcome: success, failure, abort or unknown.
            label: a word for how it failed, None when there is none.
            source: who judged: sim, operator, classifier; recorder when nobody did.

        Raises:
            EpisodeError: the words are none of these, the disk refuses, or, when the episode is finished, its index.
        """
        episode = self._episode()
        _one_of("outcome", outcome, OUTCOMES)
        _one_of("source", source, SOURCES)
        if label == "":
            raise EpisodeError("label is an empty string; give a word, or None for no label")
        self._open = None
        path = episode.end(outcome, label, source)
        try:
            EpisodeIndex(self.root).add(path)
        except EpisodeError as error:
            raise EpisodeError(f"episode {path} is finished and whole, but could not be listed: {error}") from error
        return path

    def close(self) -> None:
        """End an episode that is still open as an abort that nobody judged."""
        if self._open is not None and not self._open.failed:
            self.end("abort", None, "recorder")

    def __enter__(self) -> EpisodeRecorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _episode(self) -> EpisodeWriter:
        if self._open is None:
            raise EpisodeError("no episode is open; call begin() first (end() may have been called already)")
        return self._open


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise EpisodeError(f'{name} is "{value}"; give one of {", ".join(allowed)}')
