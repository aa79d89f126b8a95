"""What a scene must tell so that what goes wrong in it can be watched."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Way = Literal["carry", "push", "work"]
"""Carry the item to its target, push it there, or work something that stays where it is: a drawer, a door, a knob."""


@dataclass(frozen=True, slots=True)
class Aim:
    """What is to be done at present.

    Attributes:
        item, target: names as `Anatomy.owners` has them; the target is empty where the way is "work".
        finished: how many parts of the task have been done on the way here.
    """

    way: Way
    item: str
    target: str
    finished: int = 0


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What stays the same through an episode.

    Attributes:
        model, data: MuJoCo's.
        owners: by geom id, the name of the thing that it is part of: failures are told in these names.
        robot: by geom id, whether it is part of the robot, bool [geoms].
        fingers: which finger a geom belongs to, by geom id.
        movable: the body of each thing that can be moved away, by name.
        about: what may be moved, as the task is about it.
        ground: what carries everything, table and floor: nothing is told of an item that rests on it.
        smallest_gap: between fingers that hold something, m.
        closing_steps: control steps in which fully open fingers close.
        cameras: the names of those by which the robot sees.
        seen_groups: the geom groups that light stops at, uint8 [6]; None means all.
    """

    model: Any
    data: Any
    owners: tuple[str, ...]
    robot: NDArray[np.bool_]
    fingers: Mapping[int, int]
    movable: Mapping[str, int]
    about: frozenset[str]
    ground: frozenset[str]
    smallest_gap: float
    closing_steps: int
    cameras: Sequence[str]
    seen_groups: NDArray[np.uint8] | None = None


class WatchedScene(Protocol):
    """One episode of one task in a simulator, for the failure watches; a new one each episode. It changes nothing."""

    @property
    def anatomy(self) -> Anatomy:
        """What stays the same."""
        ...

    def aim(self, gripped: str | None, touched: Container[str]) -> Aim:
        """What is to be done now, given what the closing fingers hold and what the robot touches; asked once a step."""
        ...

    def item_position(self) -> NDArray[np.float64]:
        """Middle of the item of the last aim, [3] m."""
        ...

    def target_position(self) -> NDArray[np.float64]:
        """Where the last aim wants it, [3] m; its own middle where it stays."""
        ...

    def grip_position(self) -> NDArray[np.float64]:
        """The point between the finger tips, [3] m."""
        ...

    def finger_gap(self) -> float:
        """Between the fingers, m."""
        ...

    def finger_target(self) -> float:
        """Where the finger servo drives: 0 is closed; it moves with the command until it is at an end of its way."""
        ...
