"""Episodes of a made-up arm, written by the real recorder: what the learner's tests train on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from flexor.runtime.episodes.episode_schema import EpisodeMeta
from flexor.runtime.episodes.recorder import EpisodeRecorder

CAMERAS = ("agentview", "robot0_eye_in_hand")
SENTENCES = {
    "red": {
        "train": ["put the red cube on the plate", "place the red block onto the plate"],
        "held_out": ["move the red cube onto the plate, carefully"],
    },
    "blue": {
        "train": ["put the blue cube on the plate", "the blue block goes to the plate", "blue_cube please"],
        "held_out": ["put the blue thing on the plate"],
    },
}


def record(
    root: Path,
    episodes: int,
    steps: int = 24,
    size: int = 48,
    every: int = 2,
    hz: float = 20.0,
    outcome: str = "success",
    mirrored: bool = False,
    **extra: str,
) -> list[Path]:
    """Record episodes whose action follows from frame and state, and write sentences.json beside them.

    In a mirrored world the same frames ask for the opposite.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / "sentences.json").write_text(json.dumps(SENTENCES))
    paths = []
    with EpisodeRecorder(root, images="png") as recorder:
        for number in range(episodes):
            rng = np.random.default_rng(number)
            task = sorted(SENTENCES)[number % 2]
            recorder.begin(
                EpisodeMeta(
                    robot="sim:made-up",
                    task=task,
                    prompt=SENTENCES[task]["train"][0],
                    seed=number,
                    bundle="",
                    adapter="",
                    hz=hz,
                    cameras=CAMERAS,
                    extra=extra,
                )
            )
            goal = rng.uniform(-1, 1, 3)
            position = rng.uniform(-1, 1, 3)
            for step in range(steps):
                action = np.append(np.clip(goal - position, -1, 1), [0, 0, 0, 1.0 if step > steps // 2 else -1.0])
                state = np.concatenate([position * 0.2, [3.1, 0, 0], [0.02, -0.02]]).astype(np.float32)
                if step % every == 0:
                    level = np.clip(127 + 100 * (-goal if mirrored else goal), 0, 255).astype(np.uint8)
                    frames = {camera: np.broadcast_to(level, (size, size, 3)).copy() for camera in CAMERAS}
                    for frame in frames.values():
                        frame[: size // 4] = rng.integers(0, 255, (size // 4, size, 3), dtype=np.uint8)
                    recorder.frames(step, frames)
                noise = rng.normal(0, 0.1, 7).astype(np.float32)
                recorder.step(step, state, action.astype(np.float32) + noise, label=action.astype(np.float32))
                position = position + 0.2 * action[:3]
            paths.append(recorder.end(outcome, None, "sim"))
    return paths
