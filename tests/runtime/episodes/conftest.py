"""Episodes to test with: small ones, every value a function of the step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flexor.runtime.episodes.episode_schema import EpisodeMeta
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.observation import ActionChunk, Provenance

CAMERAS = ("agentview", "wrist")


def _frame(step: int, size: int) -> NDArray[np.uint8]:
    """A smooth scene with an edge and a little sensor noise, like a camera's picture."""
    y, x = np.mgrid[0:size, 0:size] * (128 / size)
    scene = np.stack([128 + 80 * np.sin(x / 17 + step), 128 + 60 * np.sin((x + y) / 23), 60 + y], -1)
    scene[size // 3 : size // 2, size // 4 : size // 2] = (200, 40 + step % 100, 30)
    return np.clip(scene + np.random.default_rng(step).normal(0, 2, scene.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def frame() -> Callable[[int, int], NDArray[np.uint8]]:
    """frame(step, size): uint8 [size, size, 3]."""
    return _frame


@pytest.fixture
def meta() -> EpisodeMeta:
    return EpisodeMeta(
        robot="sim:tabletop",
        task="lift",
        prompt="lift the red cube",
        seed=2**64 - 1,
        bundle="pi05-nano@0123456789ab",
        adapter="base",
        hz=20.0,
        cameras=CAMERAS,
        extra={"shift": "none", "axes": [1, 2]},
    )


@pytest.fixture
def chunk() -> Callable[[int], ActionChunk]:
    """chunk(step): H = 10, A = 7, with an accel score that is a function of the step, and ace_bits from step 5 on."""

    def make(step: int) -> ActionChunk:
        actions = np.random.default_rng(step).normal(size=(10, 7)).astype(np.float32)
        scores = {"accel": 0.1 * step} | ({"ace_bits": 1.5 + step} if step >= 5 else {})
        provenance = Provenance("pi05-nano@0123456789ab", "base", "torch", "cpu", "fp32", 10, 2**63 + step)
        return ActionChunk(actions, provenance, {"encode": 1.25, "denoise": 7.0}, scores)

    return make


@pytest.fixture
def state() -> Callable[[int], NDArray[np.float32]]:
    """state(step): float32 [8]."""
    return lambda step: np.random.default_rng(100 + step).normal(size=8).astype(np.float32)


@pytest.fixture
def action() -> Callable[[int], NDArray[np.float32]]:
    """action(step): float32 [7]."""
    return lambda step: np.random.default_rng(200 + step).normal(size=7).astype(np.float32)


@pytest.fixture
def record(
    meta: EpisodeMeta,
    frame: Callable[[int, int], NDArray[np.uint8]],
    chunk: Callable[[int], ActionChunk],
    state: Callable[[int], NDArray[np.float32]],
    action: Callable[[int], NDArray[np.float32]],
) -> Callable[..., EpisodeRecorder]:
    """record(root, steps): a recorder whose episode is still open, with frames and a chunk at every fifth step."""

    def run(root: Path, steps: int = 12, size: int = 16, images: str = "jpeg", meta: EpisodeMeta = meta):
        recorder = EpisodeRecorder(root, images=images)
        recorder.begin(meta)
        for step in range(steps):
            if step % 5 == 0:
                recorder.frames(step, {camera: frame(step, size) for camera in CAMERAS})
                recorder.chunk(step, chunk(step))
            recorder.step(step, state(step), action(step))
        return recorder

    return run


@pytest.fixture
def record_corrected(meta, frame, chunk, state, action) -> Callable[..., Path]:
    """record_corrected(root, steps): one finished episode with PNG frames, scores, a correction and labels."""

    def run(root: Path, steps: int = 23, outcome: str = "failure", task: str = "lift", size: int = 16) -> Path:
        with EpisodeRecorder(root, images="png") as recorder:
            recorder.begin(replace(meta, task=task, prompt=f"please {task} the cube"))
            for step in range(steps):
                corrected = 12 <= step < 16
                if step % 5 == 0 or (corrected and step % 2 == 0):
                    recorder.frames(step, {camera: frame(step + 7 * n, size) for n, camera in enumerate(CAMERAS)})
                if step % 5 == 0 and not corrected:
                    recorder.chunk(step, chunk(step))
                    scores = {"ace_bits": 0.25 * step, "calibration": "raw", "calibrated": {"ace_bits": 0.125 * step}}
                    recorder.event(step, "entropy", {**scores, "accel": 0.5})
                label = action(step + 1000) if step % 3 == 0 else None
                recorder.step(step, state(step), action(step), label=label, intervention=corrected)
            return recorder.end(outcome, "reach_miss" if outcome == "failure" else None, "sim")

    return run


@pytest.fixture
def root(tmp_path, record_corrected) -> Path:
    """Three episodes of two sentences."""
    for steps, outcome, task in ((23, "failure", "lift"), (9, "success", "push"), (17, "success", "lift")):
        record_corrected(tmp_path / "episodes-root", steps, outcome, task)
    return tmp_path / "episodes-root"
