"""Episodes become samples: which, with which actions, and from which cache."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recordings import CAMERAS, record

from flexor.errors import FlexorError
from flexor.learner.demonstrations import DemonstrationError, Demonstrations, action_chunks, load_demonstrations
from flexor.pi05.images import resize_with_pad
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.labelling import label_episode

READS = """
import os, pathlib, signal, sys
from flexor.learner.demonstrations import load_demonstrations
def load(on_episode=None):
    return load_demonstrations(pathlib.Path(sys.argv[1]), ("agentview", "robot0_eye_in_hand"), 32, 10, on_episode)
"""
KILLED_WHILE_IT_READS = READS + "load(lambda done, total: os.kill(os.getpid(), signal.SIGKILL))"
WAITS_WHILE_IT_READS = (
    READS
    + """
def wait(done, total):
    if done == 1:
        print("reading", flush=True)
        sys.stdin.readline()
print(load(wait).digest)
"""
)
READS += "load()"


def load(root: Path, **changes) -> Demonstrations:
    options = {"cameras": CAMERAS, "image_size": 32, "horizon": 10, **changes}
    return load_demonstrations(root, **options)


def caches(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if "cache" in path.name]


def test_past_the_end_the_arm_rests_and_the_gripper_stays_as_it_was():
    labels = np.arange(21, dtype=np.float32).reshape(3, 7)
    chunk = action_chunks(labels, np.array([1]), 4)[0]
    rest = np.array([0, 0, 0, 0, 0, 0, 20], np.float32)
    np.testing.assert_array_equal(chunk, [labels[1], labels[2], rest, rest])


def test_a_sample_is_a_recorded_frame_with_the_experts_actions_not_the_played_ones(tmp_path: Path):
    file = record(tmp_path, episodes=1, steps=9, every=4)[0]
    episode, found = read_episode(file), load(tmp_path)
    assert not np.allclose(episode.labels, episode.actions)
    np.testing.assert_array_equal(found.states, episode.states[[0, 4, 8]])
    np.testing.assert_array_equal(found.actions[0], action_chunks(episode.labels, np.array([0]), 10)[0])
    np.testing.assert_array_equal(found.actions[1, :5], episode.labels[4:])
    np.testing.assert_array_equal(found.played[0], action_chunks(episode.actions, np.array([0]), 10)[0])
    for view, camera in enumerate(CAMERAS):
        np.testing.assert_array_equal(found.images[1, view], resize_with_pad(episode.frames[camera][4], 32))


def test_the_cameras_come_in_the_order_asked_for(recordings: Path, demonstrations: Demonstrations):
    swapped = load(recordings, cameras=CAMERAS[::-1])
    np.testing.assert_array_equal(swapped.images[:, ::-1], demonstrations.images)


def test_failures_are_not_learned_from(tmp_path: Path):
    record(tmp_path, episodes=2, steps=6)
    record(tmp_path, episodes=1, steps=6, outcome="failure")
    assert len(set(load(tmp_path).episodes)) == 2


def test_an_episode_is_held_out_whole_and_every_task_has_some(tmp_path: Path):
    record(tmp_path, episodes=24, steps=4)
    found = load(tmp_path)
    training, held_out = found.split(0.1)
    assert set(training) | set(held_out) == set(range(len(found.states)))
    assert not set(found.episodes[training]) & set(found.episodes[held_out])
    assert set(found.tasks[held_out]) == set(found.tasks[training]) == {0, 1}


def test_too_few_episodes_to_hold_one_out_are_refused_with_the_number_that_is_enough(tmp_path: Path):
    record(tmp_path, episodes=2, steps=4)
    found = load(tmp_path)
    with pytest.raises(DemonstrationError, match=r"of 2 successful episodes none .* held_out=0.05; record at least 11"):
        found.split(0.05)
    assert len(set(found.episodes[found.split(0.5)[1]])) == 1


def test_what_was_read_once_is_read_from_the_cache(tmp_path: Path):
    record(tmp_path, episodes=2, steps=6)
    read: list[int] = []
    first = load(tmp_path, on_episode=lambda done, total: read.append(done))
    again = load(tmp_path, on_episode=lambda done, total: read.append(done))
    assert read == [1, 2]
    assert first.digest == again.digest
    for name in ("images", "states", "actions", "played", "tasks", "episodes"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


def test_a_new_episode_makes_a_new_cache(tmp_path: Path):
    record(tmp_path, episodes=2, steps=6)
    before = load(tmp_path)
    record(tmp_path, episodes=1, steps=6)
    after = load(tmp_path)
    assert after.digest != before.digest
    assert len(after.states) == len(before.states) + 3


def test_a_reading_that_was_broken_off_leaves_nothing_behind(tmp_path: Path):
    record(tmp_path, episodes=2, steps=6)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(tmp_path, on_episode=stop)
    assert caches(tmp_path) == []


def test_a_process_killed_while_it_reads_leaves_a_draft_that_the_next_one_sweeps_away(tmp_path: Path):
    record(tmp_path, episodes=2, steps=6)
    child = subprocess.run([sys.executable, "-c", KILLED_WHILE_IT_READS, str(tmp_path)], timeout=60)
    assert child.returncode == -signal.SIGKILL
    (draft,) = caches(tmp_path)
    assert draft.name.startswith(".cache-")
    assert (draft / "images.raw").exists()
    found = load(tmp_path)
    assert [path.name for path in caches(tmp_path)] == [f"cache-v5-{found.digest}"]


def test_the_draft_of_a_process_that_still_reads_is_left_alone_and_the_first_to_finish_wins(tmp_path: Path):
    record(tmp_path, episodes=2, steps=6)
    command = [sys.executable, "-c", WAITS_WHILE_IT_READS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "reading\n"
        (draft,) = caches(tmp_path)
        found = load(tmp_path)
        assert {path.name for path in caches(tmp_path)} == {draft.name, f"cache-v5-{found.digest}"}
        told, _ = child.communicate("go on\n", timeout=60)
    assert (child.returncode, told) == (0, f"{found.digest}\n")
    assert [path.name for path in caches(tmp_path)] == [f"cache-v5-{found.digest}"]
    np.testing.assert_array_equal(load(tmp_path).images, found.images)


def test_a_disk_that_fills_up_while_the_cache_is_written_is_an_error_that_leaves_nothing(tmp_path: Path):
    record(tmp_path, episodes=2, steps=6)
    child = subprocess.run(
        [sys.executable, "-c", READS, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert child.stderr.splitlines()[-1].startswith(
        "flexor.learner.demonstrations.DemonstrationError: cannot write the training cache"
    )
    assert "File too large; free the disk" in child.stderr
    assert caches(tmp_path) == []


def test_a_camera_that_was_not_recorded_is_named(recordings: Path):
    with pytest.raises(DemonstrationError, match=r"no frames of \['overhead'\]"):
        load(recordings, cameras=("agentview", "overhead"))


def test_an_empty_folder_says_how_to_record(tmp_path: Path):
    (tmp_path / "sentences.json").write_text("{}")
    with pytest.raises(DemonstrationError, match="flexor collect"):
        load(tmp_path)


def test_a_task_without_sentences_is_named(tmp_path: Path):
    record(tmp_path, episodes=2, steps=6)
    (tmp_path / "sentences.json").write_text(json.dumps({"red": {"train": ["a"], "held_out": ["b"]}}))
    with pytest.raises(DemonstrationError, match="blue"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "does not have the form"),
        ('{"red": ["a"]}', "does not have the form"),
        ('{"red": {"train": ["a"], "held_out": []}}', "0 held-out"),
        ('{"red": {"train": ["a"], "held_out": ["a"]}}', "1 in both"),
    ],
)
def test_sentences_that_cannot_be_used_are_refused(tmp_path: Path, content: str, said: str):
    (tmp_path / "sentences.json").write_text(content)
    with pytest.raises(FlexorError, match=said):
        load(tmp_path)


def test_recordings_at_two_control_rates_are_refused(tmp_path: Path):
    record(tmp_path, episodes=1, steps=4)
    record(tmp_path, episodes=1, steps=4, hz=10.0)
    with pytest.raises(DemonstrationError, match=r"10\.0, 20\.0"):
        load(tmp_path)


def test_how_frames_were_drawn_is_kept_and_two_ways_are_refused(tmp_path: Path):
    record(tmp_path, episodes=1, steps=4, render="fast")
    assert load(tmp_path).render == "fast"
    record(tmp_path, episodes=1, steps=4)
    with pytest.raises(DemonstrationError, match=r"drawn in several ways \(None, fast\)"):
        load(tmp_path)


def test_a_success_from_an_official_initial_state_is_refused_by_its_file_until_it_is_called_no_success(tmp_path: Path):
    record(tmp_path, episodes=2, steps=4, starts="sampled")
    assert len(np.unique(load(tmp_path).episodes)) == 2
    (official,) = record(tmp_path, episodes=1, steps=4, starts="official")
    with pytest.raises(DemonstrationError, match=rf"{official.name} has starts \"official\", expected \"sampled\""):
        load(tmp_path)
    label_episode(tmp_path, official.stem, "unknown", None, "ada")
    assert len(np.unique(load(tmp_path).episodes)) == 2


def test_what_an_operator_said_later_is_learned_from_although_a_cache_was_made_before(tmp_path: Path):
    files = record(tmp_path, episodes=3, steps=9)
    before = load(tmp_path)
    label_episode(tmp_path, files[1].stem, "failure", "grasp_slip", "ada")
    after = load(tmp_path)
    assert (len(np.unique(before.episodes)), len(np.unique(after.episodes))) == (3, 2)
    assert after.digest != before.digest
    label_episode(tmp_path, files[1].stem, "success", None, "ada")
    assert len(load(tmp_path).states) == len(before.states)
