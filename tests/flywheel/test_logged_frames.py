"""What the shipped policy makes of logged frames, against the frames that it saw when they were logged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flexor.flywheel.evaluate import open_policy
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.episode_schema import EpisodeMeta
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.observation import Observation
from flexor.runtime.serving.engine_thread import ServedPolicy
from flexor.sim.robots import TabletopRobot
from flexor.sim.tasks import TASKS

EPISODES, CHUNKS, PLAYED = 4, 8, 5
OTHER_NOISE = 1_000_000


@pytest.fixture(scope="module")
def robot() -> Iterator[TabletopRobot]:
    made = TabletopRobot()
    yield made
    made.close()


@pytest.fixture(scope="module")
def policy() -> ServedPolicy:
    return open_policy("pi05-nano")


def drive_and_log(robot: TabletopRobot, policy: ServedPolicy, root: Path, images: str, number: int) -> Path:
    """An episode in which the policy drives; its chunks came from the raw frames, and lie beside the logged ones."""
    task = sorted(TASKS)[number * len(TASKS) // EPISODES]
    recorder = EpisodeRecorder(root, images)
    robot.reset(5300 + number, task)
    prompt, spec = robot.observe().prompt, robot.spec
    recorder.begin(EpisodeMeta("sim:tabletop", task, prompt, 5300 + number, "", "base", spec.hz, tuple(spec.cameras)))
    for step in range(0, CHUNKS * PLAYED, PLAYED):
        seen = robot.observe()
        chunk = policy.infer(seen, noise_seed=step)
        recorder.frames(step, dict(seen.images))
        recorder.chunk(step, chunk)
        for offset, action in enumerate(chunk.actions[:PLAYED]):
            recorder.step(step + offset, robot.state(), action)
            robot.act(action)
    return recorder.end("unknown", None, "recorder")


def asked_again(policy: ServedPolicy, path: Path, noise: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Actions [n, H, A] as they were recorded, and as the logged frames give them with the noise moved by `noise`."""
    episode = read_episode(path)
    recorded, again = [], []
    for found in episode.chunks:
        images = {camera: frames[found.step] for camera, frames in episode.frames.items()}
        state = episode.states[np.searchsorted(episode.steps, found.step)]
        answer = policy.infer(Observation(images, state, episode.meta.prompt), found.step + noise)
        recorded.append(found.chunk.actions)
        again.append(answer.actions)
    return np.array(recorded), np.array(again)


def test_png_frames_give_the_recorded_actions_bit_for_bit(robot: TabletopRobot, policy: ServedPolicy, tmp_path: Path):
    recorded, again = asked_again(policy, drive_and_log(robot, policy, tmp_path, "png", 0))
    np.testing.assert_array_equal(again, recorded)


def test_jpeg_frames_give_almost_the_recorded_actions(robot: TabletopRobot, policy: ServedPolicy, tmp_path: Path):
    paths = [drive_and_log(robot, policy, tmp_path, "jpeg", number) for number in range(EPISODES)]
    pairs = [asked_again(policy, path) for path in paths]
    recorded, again = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    assert len(recorded) == EPISODES * CHUNKS
    spread = recorded.std(axis=(0, 1))
    difference = np.abs(again - recorded) / spread
    assert np.any(difference > 0)  # the frames did go through JPEG
    assert difference.mean() <= 0.01  # standard deviations of the actions
    # The gripper may close a step earlier; all motion that is played stays near.
    assert difference[:, :PLAYED, :6].max() <= 1.0
    # Far less than the policy differs from itself when it draws other noise.
    noisy = np.concatenate([np.abs(np.subtract(*asked_again(policy, path, OTHER_NOISE))) for path in paths]) / spread
    assert difference.mean() <= 0.05 * noisy.mean()
