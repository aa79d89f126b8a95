"""TargetRobot: which robot an imported policy is to drive; its cameras, its state, its actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexor.export.checkpoints.checkpoint_error import CheckpointError
from flexor.export.checkpoints.weight_files import read_json
from flexor.runtime.inference.action_space import FRANKA_DELTA_ACTIONS, ActionSpace


@dataclass(frozen=True, slots=True)
class TargetRobot:
    """What a checkpoint's files do not say about the robot, because the code around it knew.

    Attributes:
        name: for people.
        cameras: the robot's camera names, each with the image slots of checkpoints that show its view.
        state_dim: S.
        hz: control rate.
        action_space: meaning of the first A numbers of an action.
    """

    name: str
    cameras: Mapping[str, tuple[str, ...]]
    state_dim: int
    hz: float
    action_space: ActionSpace

    @property
    def action_dim(self) -> int:
        """A."""
        return len(self.action_space.names)

    def camera_of(self, slot: str) -> str | None:
        """The camera whose view an image slot shows, None when it has none."""
        return next((camera for camera, slots in self.cameras.items() if slot in (camera, *slots)), None)


ROBOTS: Mapping[str, TargetRobot] = {
    # The arm of LIBERO and of the tabletop: gripper position, axis-angle and fingers in, a 7-d delta action out.
    "libero": TargetRobot(
        name="libero",
        cameras={
            "agentview": ("base_0_rgb", "image", "camera0", "agentview_image"),
            "robot0_eye_in_hand": (
                "left_wrist_0_rgb",
                "image2",
                "wrist_image",
                "camera1",
                "robot0_eye_in_hand_image",
            ),
        },
        state_dim=8,
        hz=20.0,
        action_space=FRANKA_DELTA_ACTIONS,
    ),
}


def find_robot(robot: str) -> TargetRobot:
    """A robot by name, or from a JSON file with the keys name, cameras, state_dim, hz and action_space.

    Raises:
        CheckpointError: neither, or a file with other keys or impossible values.
    """
    if robot in ROBOTS:
        return ROBOTS[robot]
    path = Path(robot)
    if not path.is_file():
        raise CheckpointError(
            f"no robot {robot!r}: known are {', '.join(ROBOTS)}, or give a JSON file (docs/import.md)"
        )
    data = read_json(path)
    expected = ("name", "cameras", "state_dim", "hz", "action_space")
    if set(data) != set(expected):
        raise CheckpointError(f"{path} has the keys {sorted(data)}; expected exactly {', '.join(expected)}")
    try:
        return TargetRobot(
            name=str(data["name"]),
            cameras={str(camera): _slots(slots) for camera, slots in data["cameras"].items()},
            state_dim=int(data["state_dim"]),
            hz=float(data["hz"]),
            action_space=ActionSpace.from_dict(data["action_space"]),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} does not describe a robot: {error}") from error


def _slots(slots: Any) -> tuple[str, ...]:
    if not isinstance(slots, list) or not all(isinstance(slot, str) for slot in slots):
        raise ValueError(f"a camera has the slots {slots!r}; expected a list of names")
    return tuple(slots)
