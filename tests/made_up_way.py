"""A made-up arm that has to go one way, recorded and driven by a served policy; in a mirrored world the opposite one.

What a policy has to know is a constant, so that one that was trained for a moment masters it, and what it does shows in
success alone.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from recordings import CAMERAS, SENTENCES

from flexor.runtime.episodes.episode_schema import EpisodeMeta
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.observation import Observation
from flexor.runtime.serving.client import PolicyClient

WAY = np.array([0.6, -0.5, 0.4])
SPREAD = 0.5  # of what is recorded around it: the opposite is not far beyond what the policy's units reach
CHUNKS, REPLAN, SIZE = 4, 5, 32
NEAR = 0.5  # of the length of the way: success


def seen(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A frame and a state, of which nothing follows."""
    state = np.concatenate([rng.uniform(-0.2, 0.2, 3), [3.1, 0, 0], [0.02, -0.02]]).astype(np.float32)
    return rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8), state


def record_way(root: Path, episodes: int, mirrored: bool = False, steps: int = 24) -> None:
    """Record episodes of an expert, as `recordings.record` does."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "sentences.json").write_text(json.dumps(SENTENCES))
    way = np.append(-WAY if mirrored else WAY, [0.2, -0.2, 0.1, 1.0])
    with EpisodeRecorder(root, images="png") as recorder:
        for number in range(episodes):
            rng, task = np.random.default_rng(number), sorted(SENTENCES)[number % 2]
            prompt = SENTENCES[task]["train"][0]
            recorder.begin(EpisodeMeta("sim:made-up", task, prompt, number, "", "", 20.0, CAMERAS))
            for step in range(steps):
                frame, state = seen(rng)
                recorder.frames(step, dict.fromkeys(CAMERAS, frame))
                action = (way + rng.normal(0, SPREAD, 7)).astype(np.float32)
                recorder.step(step, state, action, label=action)
            recorder.end("success", None, "sim")


def play(client: PolicyClient, seed: int, mirrored: bool = False) -> tuple[str, bool]:
    """One episode: the adapter that played it, and whether it went the right way."""
    rng, task = np.random.default_rng([9, seed]), sorted(SENTENCES)[seed % 2]
    adapter, moved = client.begin_episode(task, seed), np.zeros(3)
    for chunk in range(CHUNKS):
        frame, state = seen(rng)
        said = Observation(dict.fromkeys(CAMERAS, frame), state, SENTENCES[task]["train"][0])
        moved += client.infer(said, step=chunk * REPLAN, noise_seed=seed).actions[:REPLAN, :3].sum(axis=0)
    wanted = CHUNKS * REPLAN * (-WAY if mirrored else WAY)
    there = bool(np.linalg.norm(moved - wanted) < NEAR * np.linalg.norm(wanted))
    client.end_episode("success" if there else "failure")
    return adapter, there
