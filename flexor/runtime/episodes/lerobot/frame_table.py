"""FrameTable: one episode as the rows of a LeRobotDataset, one a control step, and the features these rows have.

Knows numbers and names only: parquet and video files are written elsewhere in this folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.episodes.episode import Episode
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.frame_codec import frame_size
from flexor.runtime.episodes.lerobot.plan_trace import NONE, PlanTrace

IMAGE_PREFIX = "observation.images."
ACTIONS = ("played", "expert")
# What every dataset has, of lerobot's own and then of ours; float and int columns are scalars.
SCALARS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
    "intervention": "bool",
    "is_success": "bool",
    "failure_category": "string",
    "action_entropy": "float32",
    "calibrated_entropy": "float32",
    "accel": "float32",
    "adapter_sha": "string",
    "chunk_index": "int64",
    "chunk_step": "int64",
    "executed_len": "int64",
    "image_age": "int64",
    "control_step": "int64",
    "wall_time": "float64",
}
FRANKA_STATE = ("x", "y", "z", "rx", "ry", "rz", "finger_left", "finger_right")
FRANKA_ACTION = ("dx", "dy", "dz", "drx", "dry", "drz", "gripper")


@dataclass(frozen=True, slots=True)
class Form:
    """What the episodes of one dataset have in common.

    Attributes:
        fps: control rate, a whole number of steps a second.
        state_dim, action_dim: S and A.
        cameras: (height, width) of each by name.
        actions: what the column `action` holds: "played" or "expert".
    """

    fps: int
    state_dim: int
    action_dim: int
    cameras: Mapping[str, tuple[int, int]]
    actions: str

    @classmethod
    def of(cls, episode: Episode, actions: str) -> Form:
        """The form of an episode with at least one step.

        Raises:
            EpisodeError: its rate is no whole number, a camera has no frame, or frames of a camera differ in size.
        """
        if actions not in ACTIONS:
            raise EpisodeError(f'actions is "{actions}"; give one of {", ".join(ACTIONS)}')
        if episode.meta.hz != round(episode.meta.hz):
            raise EpisodeError(
                f"episode {episode.id} runs at {episode.meta.hz} Hz; a LeRobotDataset has a whole number of frames a "
                "second: leave it out"
            )
        cameras = {}
        for camera, frames in episode.frames.items():
            sizes = {frame_size(frames.encoded(step)) for step in frames}
            if len(sizes) != 1:
                raise EpisodeError(
                    f"episode {episode.id} has frames of {camera} in sizes {sorted(sizes)}; expected one size: leave "
                    "it out"
                )
            cameras[camera] = sizes.pop()
        return cls(round(episode.meta.hz), episode.states.shape[1], episode.actions.shape[1], cameras, actions)

    @property
    def other_actions(self) -> str:
        """The column of the actions that are not in `action`."""
        return "expert_action" if self.actions == "played" else "played_action"

    def features(self) -> dict[str, dict[str, Any]]:
        """The features of info.json, without what is known of the videos only when they are written."""
        state = FRANKA_STATE if self.state_dim == len(FRANKA_STATE) else _numbered("state", self.state_dim)
        action = FRANKA_ACTION if self.action_dim == len(FRANKA_ACTION) else _numbered("action", self.action_dim)
        found: dict[str, dict[str, Any]] = {
            "observation.state": {"dtype": "float32", "shape": [self.state_dim], "names": list(state)},
            "action": {"dtype": "float32", "shape": [self.action_dim], "names": list(action)},
            self.other_actions: {"dtype": "float32", "shape": [self.action_dim], "names": list(action)},
        }
        for camera, size in self.cameras.items():
            names = ["height", "width", "channels"]
            found[IMAGE_PREFIX + camera] = {"dtype": "video", "shape": [*size, 3], "names": names}
        return found | {name: {"dtype": kind, "shape": [1], "names": None} for name, kind in SCALARS.items()}


@dataclass(frozen=True, slots=True)
class FrameTable:
    """The rows of one episode.

    Attributes:
        columns: by feature, all but the videos': arrays [T] or [T, n], lists of T strings.
        shown: int64 [T], the step whose frames row t shows; -1 while there were none yet.
    """

    columns: Mapping[str, NDArray[Any] | list[str]]
    shown: NDArray[np.int64]

    @classmethod
    def of(cls, episode: Episode, form: Form, episode_index: int, first_index: int, task_index: int) -> FrameTable:
        """The T rows of an episode whose first has the number `first_index` in the dataset."""
        length, plan = len(episode.steps), PlanTrace.of(episode)
        chosen = (episode.actions, episode.labels)
        action, other = chosen if form.actions == "played" else reversed(chosen)
        shown = _shown(episode)
        adapters = [recorded.chunk.provenance.adapter for recorded in episode.chunks] + [episode.meta.adapter]
        columns: dict[str, NDArray[Any] | list[str]] = {
            "observation.state": episode.states,
            "action": action,
            form.other_actions: other,
            "timestamp": (np.arange(length) / form.fps).astype(np.float32),
            "frame_index": np.arange(length),
            "episode_index": np.full(length, episode_index),
            "index": np.arange(first_index, first_index + length),
            "task_index": np.full(length, task_index),
            "intervention": episode.interventions,
            "is_success": np.full(length, episode.outcome == "success"),
            "failure_category": [episode.label or ""] * length,
            "action_entropy": plan.bits,
            "calibrated_entropy": plan.calibrated,
            "accel": plan.accel,
            "adapter_sha": [adapters[chunk] for chunk in plan.chunk.tolist()],
            "chunk_index": plan.chunk,
            "chunk_step": plan.row,
            "executed_len": plan.executed,
            "image_age": np.where(shown == NONE, NONE, episode.steps - shown),
            "control_step": episode.steps,
            "wall_time": episode.times,
        }
        return cls(columns, shown)


def _shown(episode: Episode) -> NDArray[np.int64]:
    """The last step up to each row's own at which every camera was recorded."""
    if not episode.frames:
        return np.full(len(episode.steps), NONE, np.int64)
    recorded = np.array(sorted(set.intersection(*(set(frames) for frames in episode.frames.values()))), np.int64)
    return np.append(recorded, NONE)[np.searchsorted(recorded, episode.steps, side="right") - 1]


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}_{number}" for number in range(count))
