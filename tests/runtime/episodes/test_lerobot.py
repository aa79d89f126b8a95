"""A LeRobotDataset holds every number of its episodes, checked with pyarrow and PyAV; what is not whole has no name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq

from flexor.runtime.episodes.episode import Episode, read_episode
from flexor.runtime.episodes.lerobot.exporter import Exported, export_lerobot

CAMERAS = ("agentview", "wrist")
FPS = 20


def episodes_of(root: Path) -> list[Episode]:
    return [read_episode(path) for path in sorted((root / "episodes").glob("*.mcap"))]


def rows(out: Path) -> dict[str, Any]:
    tables = [pq.read_table(path).to_pydict() for path in sorted(out.glob("data/*/*.parquet"))]
    return {name: [value for table in tables for value in table[name]] for name in tables[0]}


def told_episodes(out: Path) -> list[dict[str, Any]]:
    return pq.read_table(out / "meta/episodes/chunk-000/file-000.parquet").to_pylist()


def decoded(path: Path) -> list[tuple[float, np.ndarray]]:
    """Seconds and pixels of every frame of a video."""
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def film(out: Path, told: dict[str, Any], camera: str) -> list[tuple[float, np.ndarray]]:
    """The frames of one episode, their seconds counted from its first."""
    key = f"videos/observation.images.{camera}"
    place = f"chunk-{told[f'{key}/chunk_index']:03d}/file-{told[f'{key}/file_index']:03d}.mp4"
    start, end = told[f"{key}/from_timestamp"], told[f"{key}/to_timestamp"]
    near = 0.1 / FPS
    return [(at - start, image) for at, image in decoded(out / key / place) if start - near < at < end - near]


def test_every_number_of_every_step_is_in_the_rows(root, tmp_path):
    assert export_lerobot(root, tmp_path / "set") == Exported(3, 49, ())
    found, at = rows(tmp_path / "set"), 0
    for episode in episodes_of(root):
        part = slice(at, at + len(episode.steps))
        same = {"observation.state": episode.states, "action": episode.actions, "expert_action": episode.labels}
        for name, expected in same.items():
            assert np.array_equal(np.array(found[name][part], np.float32), expected), name
        assert found["intervention"][part] == episode.interventions.tolist()
        assert found["is_success"][part] == [episode.outcome == "success"] * len(episode.steps)
        assert found["failure_category"][part] == [episode.label or ""] * len(episode.steps)
        assert found["control_step"][part] == episode.steps.tolist()
        assert found["wall_time"][part] == episode.times.tolist()
        at += len(episode.steps)
    assert at == len(found["index"])


def test_action_may_be_what_the_expert_wanted(root, tmp_path):
    export_lerobot(root, tmp_path / "set", actions="expert")
    found = rows(tmp_path / "set")
    labels = np.concatenate([episode.labels for episode in episodes_of(root)])
    played = np.concatenate([episode.actions for episode in episodes_of(root)])
    assert not np.array_equal(labels, played)
    assert np.array_equal(np.array(found["action"], np.float32), labels)
    assert np.array_equal(np.array(found["played_action"], np.float32), played)


def test_rows_are_numbered_through_and_timed_at_the_control_rate(root, tmp_path):
    out = tmp_path / "set"
    export_lerobot(root, out)
    found, info = rows(out), json.loads((out / "meta/info.json").read_text())
    assert found["index"] == list(range(49))
    episodes = episodes_of(root)
    lengths, sentences = [len(episode.steps) for episode in episodes], [episode.meta.prompt for episode in episodes]
    numbers = [list(dict.fromkeys(sentences)).index(sentence) for sentence in sentences]
    assert found["episode_index"] == np.repeat([0, 1, 2], lengths).tolist()
    assert found["frame_index"] == [number for length in lengths for number in range(length)]
    assert found["task_index"] == np.repeat(numbers, lengths).tolist()
    assert found["timestamp"] == [float(np.float32(frame / FPS)) for frame in found["frame_index"]]
    assert (info["codebase_version"], info["fps"], info["splits"]) == ("v3.0", 20, {"train": "0:3"})
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 49, 2)
    told = told_episodes(out)
    ends = np.cumsum(lengths).tolist()
    assert [row["length"] for row in told] == lengths
    assert [row["dataset_to_index"] for row in told] == ends
    assert [row["dataset_from_index"] for row in told] == [0, *ends[:-1]]
    assert [row["tasks"] for row in told] == [[sentence] for sentence in sentences]
    for row, episode in zip(told, episodes, strict=True):
        assert (row["episode_id"], row["seed"]) == (episode.id, str(2**64 - 1))
        assert (row["outcome"], row["failure_label"]) == (episode.outcome, episode.label or "")


def test_the_files_have_the_columns_that_info_names_and_no_other(root, tmp_path):
    out = tmp_path / "set"
    export_lerobot(root, out)
    features = json.loads((out / "meta/info.json").read_text())["features"]
    schema = pq.read_schema(out / "data/chunk-000/file-000.parquet")
    assert schema.names == [name for name, feature in features.items() if feature["dtype"] != "video"]
    assert str(schema.field("action").type) == "fixed_size_list<element: float>[7]"
    assert [name for name, feature in features.items() if feature["dtype"] == "video"] == [
        f"observation.images.{camera}" for camera in CAMERAS
    ]
    assert features["observation.images.wrist"]["info"]["video.codec"] == "h264"


def test_sentences_are_the_index_that_lerobot_looks_them_up_in(root, tmp_path):
    export_lerobot(root, tmp_path / "set")
    table = pq.read_table(tmp_path / "set/meta/tasks.parquet")
    sentences = list(dict.fromkeys(episode.meta.prompt for episode in episodes_of(root)))
    assert sorted(sentences) == ["please lift the cube", "please push the cube"]
    assert table.to_pydict() == {"task_index": [0, 1], "task": sentences}
    assert json.loads(table.schema.metadata[b"pandas"])["index_columns"] == ["task"]


def test_lossless_videos_show_each_row_the_newest_frame_bit_for_bit(root, tmp_path):
    out = tmp_path / "set"
    export_lerobot(root, out, video="lossless")
    assert len(list(out.glob("videos/*/*/*.mp4"))) == len(CAMERAS)  # many episodes a file
    ages = iter(rows(out)["image_age"])
    for told, episode in zip(told_episodes(out), episodes_of(root), strict=True):
        for camera in CAMERAS:
            seen = film(out, told, camera)
            assert [round(at * FPS, 3) for at, _ in seen] == list(range(len(episode.steps)))
            for (_, image), step in zip(seen, episode.steps.tolist(), strict=True):
                newest = max(recorded for recorded in episode.frames[camera] if recorded <= step)
                assert np.array_equal(image, episode.frames[camera][newest])
        for step in episode.steps.tolist():
            assert next(ages) == step - max(recorded for recorded in episode.frames["wrist"] if recorded <= step)


def test_h264_videos_are_near(root, tmp_path, record_corrected):
    record_corrected(tmp_path / "large", size=64)
    export_lerobot(tmp_path / "large", tmp_path / "set")
    (episode,) = episodes_of(tmp_path / "large")
    (told,) = told_episodes(tmp_path / "set")
    seen = film(tmp_path / "set", told, "agentview")
    assert len(seen) == len(episode.steps)
    errors = [np.abs(seen[step][1].astype(int) - episode.frames["agentview"][step]) for step in (0, 5, 10, 12, 14)]
    assert np.mean(errors) < 4.0  # levels of 255; the frames have noise of 2 and sharp coloured edges


def test_a_full_file_is_followed_by_another_and_nothing_is_lost(root, tmp_path):
    out = tmp_path / "set"
    export_lerobot(root, out, video="lossless", data_mb=1e-6, video_mb=1e-6)
    names = [f"chunk-000/file-{number:03d}" for number in range(3)]
    assert sorted(out.glob("data/*/*")) == [out / f"data/{name}.parquet" for name in names]
    found, told = rows(out), told_episodes(out)
    assert found["index"] == list(range(49))
    assert [row["data/file_index"] for row in told] == [0, 1, 2]
    for row, episode in zip(told, episodes_of(root), strict=True):
        assert row["videos/observation.images.wrist/from_timestamp"] == 0.0
        assert len(film(out, row, "wrist")) == len(episode.steps)


def test_scores_and_plan_of_a_row_are_those_of_the_chunk_it_was_played_from(root, tmp_path):
    assert export_lerobot(root, tmp_path / "set", outcome="failure").episodes == 1
    found = rows(tmp_path / "set")
    # Chunks at 0, 5, 10, 20 with a horizon of 10; from 12 to 15 somebody intervened, and no plan is left until 20.
    chunks = [0] * 5 + [1] * 5 + [2] * 2 + [-1] * 8 + [3] * 3
    assert found["chunk_index"] == chunks
    assert found["chunk_step"] == [*range(5), *range(5), 0, 1, *[-1] * 8, 0, 1, 2]
    assert found["executed_len"] == [{0: 5, 1: 5, 2: 2, 3: 3, -1: 0}[chunk] for chunk in chunks]
    bits = [{0: 0.0, 1: 1.25, 2: 2.5, 3: 5.0, -1: np.nan}[chunk] for chunk in chunks]
    assert np.array_equal(found["action_entropy"], bits, equal_nan=True)
    assert np.array_equal(found["calibrated_entropy"], np.array(bits) / 2, equal_nan=True)
    assert found["adapter_sha"] == ["base"] * 23


def test_statistics_are_those_of_all_rows(root, tmp_path):
    out = tmp_path / "set"
    export_lerobot(root, out, video="lossless")
    told, found = json.loads((out / "meta/stats.json").read_text()), rows(out)
    for name in ("observation.state", "action", "timestamp"):
        values = np.array(found[name], np.float64).reshape(49, -1)
        of = told[name]
        assert np.allclose([of["min"], of["max"], of["mean"]], [values.min(0), values.max(0), values.mean(0)])
        assert np.allclose(of["std"], values.std(0))
        assert np.allclose([of["q01"], of["q50"], of["q99"]], np.quantile(values, [0.01, 0.5, 0.99], axis=0))
        assert of["count"] == [49]
    bits = np.array(found["action_entropy"])
    assert told["action_entropy"]["count"] == [int(np.isfinite(bits).sum())]
    assert told["action_entropy"]["max"] == [np.nanmax(bits)]
    pixels = np.concatenate([[image for _, image in film(out, row, "wrist")] for row in told_episodes(out)]) / 255
    of = told["observation.images.wrist"]
    assert np.shape(of["mean"]) == (3, 1, 1)
    assert np.allclose(np.ravel(of["mean"]), pixels.mean((0, 1, 2)))
    assert np.allclose(np.ravel(of["std"]), pixels.std((0, 1, 2)))
    lower = np.quantile(pixels.reshape(-1, 3), [0.01, 0.9], axis=0, method="lower")
    assert np.allclose([np.ravel(of["q01"]), np.ravel(of["q90"])], lower)
    row = told_episodes(out)[1]
    of_one = np.array(found["action"][row["dataset_from_index"] : row["dataset_to_index"]])
    assert np.allclose(row["stats/action/mean"], of_one.mean(0))
    assert np.shape(row["stats/observation.images.wrist/q99"]) == (3, 1, 1)
