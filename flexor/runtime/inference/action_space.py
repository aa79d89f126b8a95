"""ActionSpace: what the A numbers of an action mean on the robot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ActionSpace:
    """Names and units of an action. The first three dimensions are the gripper frame's translation.

    Attributes:
        names: one name a dimension.
        units: what +-1 means, one text a dimension, for people.
        metres_per_unit: how far a translation of 1 moves the gripper frame's target (RobotSpec.metres_per_unit).
        workspace: lowest and highest position of the gripper frame, ((x, y, z), (x, y, z)) in metres
            (RobotSpec.workspace); the entropy's cell is a share of its sides.

    Raises:
        ValueError: lengths that do not fit, a scale or a side that is not positive.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    metres_per_unit: float
    workspace: tuple[tuple[float, ...], tuple[float, ...]]

    def __post_init__(self) -> None:
        if len(self.names) < 3 or len(self.names) != len(self.units):
            raise ValueError(
                f"action_space has {len(self.names)} names and {len(self.units)} units; expected as many units as"
                " names, and at least the 3 translations"
            )
        if not self.metres_per_unit > 0:
            raise ValueError(f"action_space.metres_per_unit is {self.metres_per_unit}; expected a length above 0 m")
        low, high = self.workspace
        if len(low) != 3 or len(high) != 3 or any(not a < b for a, b in zip(low, high, strict=True)):
            raise ValueError(
                f"action_space.workspace is {self.workspace}; expected [[x, y, z], [x, y, z]] in metres, low below high"
            )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "names": list(self.names),
            "units": list(self.units),
            "metres_per_unit": self.metres_per_unit,
            "workspace": [list(corner) for corner in self.workspace],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ActionSpace:
        """Read the JSON form.

        Raises:
            ValueError: an unknown or missing key (named), a wrong length.
        """
        expected = ("names", "units", "metres_per_unit", "workspace")
        if not isinstance(data, Mapping) or set(data) != set(expected):
            found = sorted(data) if isinstance(data, Mapping) else data
            raise ValueError(f"action_space has {found}; expected exactly the keys {', '.join(expected)}")
        workspace = data["workspace"]
        if not isinstance(workspace, list) or len(workspace) != 2:
            raise ValueError(f"action_space.workspace is {workspace!r}; expected two corners [[x, y, z], [x, y, z]]")
        low, high = (tuple(float(value) for value in corner) for corner in workspace)
        return cls(tuple(data["names"]), tuple(data["units"]), float(data["metres_per_unit"]), (low, high))


FRANKA_DELTA_ACTIONS = ActionSpace(
    # LIBERO's operational-space command at 20 Hz; the box is where the tabletop's gripper may go.
    names=("dx", "dy", "dz", "rx", "ry", "rz", "gripper"),
    units=("0.05 m", "0.05 m", "0.05 m", "0.5 rad", "0.5 rad", "0.5 rad", "-1 open, +1 close"),
    metres_per_unit=0.05,
    workspace=((0.25, -0.45, 0.0), (0.75, 0.45, 0.55)),
)
