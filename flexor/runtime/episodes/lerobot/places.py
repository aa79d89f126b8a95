"""Places: the names of the files of a LeRobotDataset v3.0."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
TASKS_PATH, INFO_PATH, STATS_PATH = "meta/tasks.parquet", "meta/info.json", "meta/stats.json"


@dataclass(frozen=True, slots=True)
class Place:
    """One file among its like: which folder ("chunk"), and which file in it."""

    chunk_index: int
    file_index: int

    def next(self, chunk_size: int) -> Place:
        """The one after, with at most `chunk_size` files a folder."""
        if self.file_index + 1 < chunk_size:
            return Place(self.chunk_index, self.file_index + 1)
        return Place(self.chunk_index + 1, 0)


def data_file(folder: Path, place: Place) -> Path:
    """A file of rows."""
    return folder / DATA_PATH.format(chunk_index=place.chunk_index, file_index=place.file_index)


def video_file(folder: Path, key: str, place: Place) -> Path:
    """A file of frames of the feature `key`."""
    path = VIDEO_PATH.format(video_key=key, chunk_index=place.chunk_index, file_index=place.file_index)
    return folder / path
