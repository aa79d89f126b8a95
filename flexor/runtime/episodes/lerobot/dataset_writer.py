"""DatasetWriter: a LeRobotDataset v3.0 in a folder, episode by episode. Nothing in it is valid before `close`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flexor.runtime.episodes.episode import Episode
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.lerobot.frame_table import IMAGE_PREFIX, Form, FrameTable
from flexor.runtime.episodes.lerobot.places import (
    DATA_PATH,
    EPISODES_PATH,
    INFO_PATH,
    STATS_PATH,
    TASKS_PATH,
    VIDEO_PATH,
    Place,
    data_file,
)
from flexor.runtime.episodes.lerobot.statistics import PixelCounts, Statistics, of_numbers, of_tables
from flexor.runtime.episodes.lerobot.video_track import Span, VideoTrack

VERSION = "v3.0"
MIB = 2**20
CHUNK_SIZE, DATA_MB, VIDEO_MB = 1000, 100, 200  # lerobot's own defaults


class DatasetWriter:
    """Writes episodes of one form. Use `add` for each, then `close` once."""

    def __init__(self, folder: Path, form: Form, video: str, data_mb: float = DATA_MB, video_mb: float = VIDEO_MB):
        """
        Args:
            folder: exists and is empty.
            video: how frames are kept, one of video_track.VIDEOS.
            data_mb, video_mb: a file that has reached this many MiB takes no further episode.

        Raises:
            EpisodeError: pyarrow or PyAV is not installed, or the videos cannot be made so.
        """
        self._pa, self._parquet = _pyarrow()
        self._folder, self._form, self._data_bytes = folder, form, data_mb * MIB
        self._limits = {"data_files_size_in_mb": data_mb, "video_files_size_in_mb": video_mb}
        self._features = form.features()
        self._tracks = {
            camera: VideoTrack(folder, IMAGE_PREFIX + camera, size, form.fps, video, video_mb * MIB, CHUNK_SIZE)
            for camera, size in form.cameras.items()
        }
        self._pixels = {camera: PixelCounts() for camera in form.cameras}
        self._schema = self._pa.schema(
            [(name, self._type(feature)) for name, feature in self._features.items() if feature["dtype"] != "video"]
        )
        self._rows: Any = None
        self._place = Place(0, 0)
        self._tables: list[Mapping[str, Any]] = []
        self._episodes: list[dict[str, Any]] = []
        self._tasks: dict[str, int] = {}
        self._robots: set[str] = set()
        self._frames = 0

    def add(self, episode: Episode) -> None:
        """Append an episode with at least one step.

        Raises:
            EpisodeError: it has another form than the dataset.
            OSError: the disk refuses.
        """
        form = Form.of(episode, self._form.actions)
        if form != self._form:
            raise EpisodeError(
                f"episode {episode.id} has {form}, those before it {self._form}; export those of one robot"
            )
        number, task = len(self._episodes), self._tasks.setdefault(episode.meta.prompt, len(self._tasks))
        table = FrameTable.of(episode, form, number, self._frames, task)
        shown = {camera: self._film(episode, camera, table) for camera in form.cameras}
        told = self._describe(episode, number, table)
        for camera, (span, pixels) in shown.items():
            key = IMAGE_PREFIX + camera
            told |= {
                f"videos/{key}/chunk_index": span.place.chunk_index,
                f"videos/{key}/file_index": span.place.file_index,
                f"videos/{key}/from_timestamp": span.from_s,
                f"videos/{key}/to_timestamp": span.to_s,
            }
            told |= _flat(key, pixels.statistics())
            self._pixels[camera].merge(pixels)
        self._write_rows(table)
        self._episodes.append(told)
        self._tables.append({name: values for name, values in table.columns.items() if isinstance(values, np.ndarray)})
        self._robots.add(episode.meta.robot)
        self._frames += len(table.shown)

    def close(self) -> None:
        """Finish every file and write what describes them. At least one episode was added."""
        self._close_rows()
        for camera, track in self._tracks.items():
            track.close()
            self._features[IMAGE_PREFIX + camera]["info"] = track.info()
        (self._folder / "meta").mkdir()
        episodes = self._folder / EPISODES_PATH.format(chunk_index=0, file_index=0)
        episodes.parent.mkdir(parents=True)
        self._parquet.write_table(self._pa.Table.from_pylist(self._episodes), episodes)
        self._parquet.write_table(self._task_table(), self._folder / TASKS_PATH)
        statistics = of_tables(self._tables) | {
            IMAGE_PREFIX + camera: pixels.statistics() for camera, pixels in self._pixels.items()
        }
        _write_json(self._folder / STATS_PATH, statistics)
        _write_json(self._folder / INFO_PATH, self._info())

    def _info(self) -> dict[str, Any]:
        return {
            "codebase_version": VERSION,
            "robot_type": ", ".join(sorted(self._robots)),
            "total_episodes": len(self._episodes),
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": CHUNK_SIZE,
            **self._limits,
            "fps": self._form.fps,
            "splits": {"train": f"0:{len(self._episodes)}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if self._tracks else None,
            "features": self._features,
        }

    def _describe(self, episode: Episode, number: int, table: FrameTable) -> dict[str, Any]:
        """The row of an episode in meta/episodes: what lerobot asks for, and what else there is to know of it."""
        length, meta = len(table.shown), episode.meta
        told: dict[str, Any] = {
            "episode_index": number,
            "tasks": [meta.prompt],
            "length": length,
            "data/chunk_index": self._place.chunk_index,
            "data/file_index": self._place.file_index,
            "dataset_from_index": self._frames,
            "dataset_to_index": self._frames + length,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
            "episode_id": episode.id,
            "outcome": episode.outcome,
            "failure_label": episode.label or "",
            "outcome_source": episode.source,
            "recovered": episode.recovered,
            "robot": meta.robot,
            "task_name": meta.task,
            "seed": str(meta.seed),  # as text: it may need all of 64 bits
            "bundle": meta.bundle,
            "adapter": meta.adapter,
            "started_ns": episode.started_ns,
            "extra_json": json.dumps(dict(meta.extra)),
        }
        for name, values in table.columns.items():
            if isinstance(values, np.ndarray):
                told |= _flat(name, of_numbers(values))
        return told

    def _film(self, episode: Episode, camera: str, table: FrameTable) -> tuple[Span, PixelCounts]:
        """The frames of one camera, each held until the next; black before the first."""
        track, pixels, frames = self._tracks[camera], PixelCounts(), episode.frames[camera]
        starts = np.flatnonzero(np.diff(table.shown, prepend=-2))
        for start, end in zip(starts.tolist(), [*starts.tolist()[1:], len(table.shown)], strict=True):
            step = int(table.shown[start])
            frame = frames[step] if step >= 0 else np.zeros((*self._form.cameras[camera], 3), np.uint8)
            for _ in range(end - start):
                track.add(frame)
            pixels.add(frame, end - start)
        return track.turn(), pixels

    def _write_rows(self, table: FrameTable) -> None:
        if self._rows is None:
            path = data_file(self._folder, self._place)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("wb")
            self._rows = self._parquet.ParquetWriter(self._stream, self._schema, compression="snappy")
        columns = [self._column(table.columns[field.name], field.type) for field in self._schema]
        self._rows.write_table(self._pa.Table.from_arrays(columns, schema=self._schema))
        if self._stream.tell() >= self._data_bytes:
            self._close_rows()
            self._place = self._place.next(CHUNK_SIZE)

    def _close_rows(self) -> None:
        if self._rows is not None:
            self._rows.close()
            self._stream.close()
            self._rows = None

    def _column(self, values: Any, kind: Any) -> Any:
        if isinstance(values, np.ndarray) and values.ndim == 2:
            flat = self._pa.array(np.ascontiguousarray(values).ravel(), kind.value_type)
            return self._pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        return self._pa.array(values, kind)

    def _type(self, feature: Mapping[str, Any]) -> Any:
        scalar = self._pa.bool_() if feature["dtype"] == "bool" else getattr(self._pa, feature["dtype"])()
        return scalar if feature["names"] is None else self._pa.list_(scalar, feature["shape"][0])

    def _task_table(self) -> Any:
        """Sentence -> number, as pandas keeps a frame whose index the sentences are: lerobot reads it with pandas."""
        index = {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object"}
        number = {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
        pandas = {
            "index_columns": ["task"],
            "column_indexes": [{"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object"}],
            "columns": [number | {"metadata": None}, index | {"metadata": None}],
        }
        table = self._pa.table({"task_index": list(self._tasks.values()), "task": list(self._tasks)})
        return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _flat(feature: str, statistics: Statistics) -> dict[str, Any]:
    return {f"stats/{feature}/{name}": value for name, value in statistics.items()}


def _write_json(path: Path, told: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(told, indent=4, allow_nan=False) + "\n")


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise EpisodeError(
            "a LeRobotDataset needs the package pyarrow, which is not installed; type: pip install 'flexor[data]'"
        ) from error
    return pyarrow, pyarrow.parquet
