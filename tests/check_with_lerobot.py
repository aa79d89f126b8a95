"""Loads a LeRobotDataset with lerobot itself and compares all it gives with the files (docs/episodes.md).

    python tests/check_with_lerobot.py DATASET [VIDEO_BACKEND]

Runs in lerobot's environment; imports nothing of flexor.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
from lerobot.datasets.lerobot_dataset import LeRobotDataset  # pyright: ignore[reportMissingImports]


def main(out: Path, backend: str | None) -> None:
    """Every row, every frame, a window of actions, and the statistics."""
    info = json.loads((out / "meta/info.json").read_text())
    fps, total = info["fps"], info["total_frames"]
    cameras = [name for name, feature in info["features"].items() if feature["dtype"] == "video"]
    tables = [pq.read_table(path).to_pylist() for path in sorted(out.glob("data/*/*.parquet"))]
    rows = [row for table in tables for row in table]
    dataset = LeRobotDataset("local/checked", root=out, video_backend=backend)
    assert (len(dataset), dataset.num_episodes) == (total, info["total_episodes"]), dataset
    frames = {camera: _frames(out, camera) for camera in cameras}
    for number, row in enumerate(rows):
        item = dataset[number]
        for name, value in row.items():
            got = item[name] if isinstance(item[name], str) else np.asarray(item[name])
            expected = value if isinstance(value, str) else np.asarray(value, got.dtype)
            same = got == value if isinstance(value, str) else np.array_equal(got, expected, equal_nan=True)
            assert same, (number, name, got, value)
        told = dataset.meta.episodes[row["episode_index"]]
        assert item["task"] == told["tasks"][0]
        for camera in cameras:
            file = (told[f"videos/{camera}/chunk_index"], told[f"videos/{camera}/file_index"])
            at = round((told[f"videos/{camera}/from_timestamp"] + row["timestamp"]) * fps)
            expected = frames[camera][file][at].transpose(2, 0, 1) / 255
            assert np.abs(np.asarray(item[camera]) - expected).max() < 3 / 255, (number, camera)
    window = LeRobotDataset(
        "local/checked", root=out, video_backend=backend, delta_timestamps={"action": [k / fps for k in range(10)]}
    )
    chunk = np.asarray(window[0]["action"])
    length = min(10, dataset.meta.episodes[0]["length"])
    assert np.array_equal(chunk[:length], np.array([row["action"] for row in rows[:length]], np.float32))
    for name in ("observation.state", "action", *cameras):
        statistics = dataset.meta.stats[name]
        assert {"min", "max", "mean", "std", "count", "q01", "q99"} <= statistics.keys(), name
        assert np.isfinite(statistics["mean"]).all(), name
    print(f"lerobot reads {out}: {dataset.num_episodes} episodes, {total} rows, {len(cameras)} cameras, all as written")


def _frames(out: Path, camera: str) -> dict[tuple[int, int], list[np.ndarray]]:
    """Every frame of a camera by (chunk, file), uint8 [height, width, 3]."""
    found = {}
    for path in sorted(out.glob(f"videos/{camera}/*/*.mp4")):
        with av.open(str(path)) as container:
            images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        found[int(path.parent.name[6:]), int(path.stem[5:])] = images
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
