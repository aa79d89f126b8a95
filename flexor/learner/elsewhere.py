"""Elsewhere: where the gripper would have closed first, had something else been asked for in a recorded scene.

Foresight (flexor.learner.foresight) asks where the gripper will close for what was said. A scene recorded once says
that for one of the things in it; `flexor elsewhere` notes it for the others, so that one frame can be read with several
sentences, each with an answer of its own: nothing but the words tells them apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError

AXES = 3


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What else could have been asked for in each episode, M things at most.

    Attributes:
        tasks: int64 [E, M], index of a task whose sentences ask for it; -1 where there is nothing more.
        places: float32 [E, M, 3] m, where the gripper would close first.
    """

    tasks: NDArray[np.int64]
    places: NDArray[np.float32]

    @classmethod
    def nothing(cls, episodes: int) -> Elsewhere:
        """Nothing else could have been asked for in any of so many episodes."""
        return cls(np.zeros((episodes, 0), np.int64), np.zeros((episodes, 0, AXES), np.float32))

    def digest(self) -> str:
        """Names the content."""
        return hashlib.sha256(self.tasks.tobytes() + self.places.tobytes()).hexdigest()[:16]

    def has_any(self) -> NDArray[np.bool_]:
        """Bool [E]: something else could have been asked for."""
        return np.asarray((self.tasks >= 0).any(axis=1))


def read_elsewhere(path: Path, origins: Sequence[tuple[str, str, str]], task_names: Sequence[str]) -> Elsewhere:
    """Read elsewhere.json; all of it -1 where there is no such file.

    Args:
        origins: of each episode its robot, task ("OTHER@TASK" where another one was asked for) and seed.
        task_names: a thing that none of these asks for is left out.

    Raises:
        FlexorError: the file has another form.
    """
    numbers = {name: number for number, name in enumerate(task_names)}
    found: list[list[tuple[int, list[float]]]] = []
    try:
        noted = json.loads(path.read_text()) if path.exists() else {}
        for robot, task, seed in origins:
            places = noted.get(robot, {}).get(f"{task.rpartition('@')[2]}:{seed}", {})
            asked = {name: numbers.get(name, numbers.get(name.partition("@")[0])) for name in places if name != task}
            found.append([(number, places[name]) for name, number in asked.items() if number is not None])
        most = max((len(others) for others in found), default=0)
        tasks = np.full((len(found), most), -1, np.int64)
        where = np.zeros((len(found), most, AXES), np.float32)
        for episode, others in enumerate(found):
            for column, (number, place) in enumerate(others):
                tasks[episode, column], where[episode, column] = number, place
    except (ValueError, AttributeError, TypeError) as error:
        form = '{robot: {"task:seed": {task: [x, y, z]}}}'
        raise FlexorError(f"{path} does not have the form {form}: {error}; remove it, or make it again") from error
    return Elsewhere(tasks, where)
