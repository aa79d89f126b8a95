"""The benchmark's own evaluation loop, run as a program: frames, states and simulator states into a file.

It renders with robosuite, so it needs a process of its own.
"""

from __future__ import annotations

import math
import sys

import numpy as np
from numpy.typing import NDArray

from flexor.sim.libero.assets import prepare
from flexor.sim.libero.suites import find_suite, official_starts

WAIT, STEPS = 10, 16
LOOKS = (9, 10, 15, 25)  # control steps, the ten of waiting included, after which frames are compared


def actions(trial: int) -> NDArray[np.float32]:
    """What is played after the waiting, float32 [STEPS, 7]."""
    rng = np.random.default_rng(trial)
    gripper = rng.choice([-1.0, 1.0], (STEPS, 1))
    return np.concatenate([rng.uniform(-1.0, 1.0, (STEPS, 6)), gripper], axis=1).astype(np.float32)


def _axis_angle(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    w = min(1.0, max(-1.0, float(quaternion[3])))
    length = np.sqrt(1.0 - w * w)
    return np.zeros(3) if math.isclose(length, 0.0) else (quaternion[:3] * 2.0 * math.acos(w)) / length


def play(suite: str, number: str, trials: int) -> dict[str, NDArray[np.generic]]:
    """As openpi's evaluation does it: seeded once, one reset a trial, then the official initial state."""
    prepare()
    from libero.libero.envs import OffScreenRenderEnv  # pyright: ignore[reportMissingImports]

    task = find_suite(suite).find(number)
    starts = official_starts(task)
    env = OffScreenRenderEnv(bddl_file_name=str(task.bddl_file), camera_heights=256, camera_widths=256)
    env.seed(7)
    found: dict[str, NDArray[np.generic]] = {}
    for trial in range(trials):
        env.reset()
        env.set_init_state(starts[trial])
        frames, states = [], []
        still = [[0.0] * 6 + [-1.0]] * WAIT
        for step, action in enumerate(still + actions(trial).tolist()):
            seen, _, _, _ = env.step(action)
            if step in LOOKS:
                frames.append([seen["agentview_image"], seen["robot0_eye_in_hand_image"]])
            turned = _axis_angle(seen["robot0_eef_quat"])
            states.append(np.concatenate([seen["robot0_eef_pos"], turned, seen["robot0_gripper_qpos"]]))
        found[f"frames{trial}"], found[f"states{trial}"] = np.array(frames), np.array(states)
        found[f"simulator{trial}"] = env.get_sim_state()
    return found


if __name__ == "__main__":
    np.savez(sys.argv[3], **play(sys.argv[1], sys.argv[2], 2))  # type: ignore[arg-type]
