"""LoopWorld: where an online loop works: which simulator, how it has changed, and which of its tasks are asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flexor.errors import FlexorError
from flexor.flywheel.evaluate import open_simulation
from flexor.flywheel.online.settings import OnlineSettings
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.robot import Robot
from flexor.sim.libero.protocol import LiberoSettings
from flexor.sim.robots import EMBEDDED, LIBERO, sim_robot
from flexor.sim.shift import Shift

OFFICIAL, RECORDED = "official", "fast"
"""Frames of LIBERO: those of a bundle that does not say what it was trained on, and those that demonstrations have."""


@dataclass(frozen=True, slots=True)
class LoopWorld:
    """Attributes:
    sim: name of the robot, "sim:tabletop" or "sim:SUITE".
    shift: how the world has changed.
    tasks: those that are asked for, in turn; none at all means every task of the robot.
    libero: of a LIBERO suite: starts drawn by the seed, because its fifty official ones come again with every fiftieth
        seed, so that what is learned from would be measured on; and frames as the bundle was trained on them. None for
        other simulators.
    """

    sim: str
    shift: Shift
    tasks: tuple[str, ...]
    libero: LiberoSettings | None

    @classmethod
    def of(cls, settings: OnlineSettings, bundle: Bundle) -> LoopWorld:
        """The world that settings ask for, as a bundle sees it.

        Raises:
            FlexorError: no such simulator, level or axis; or the base's demonstrations would have other frames than
                those that the bundle was trained on.
        """
        sim, changed = sim_robot(settings.task, (*EMBEDDED, *LIBERO)), settings.domain_shift
        shift = Shift.parse(changed.current_level, changed.axes, settings.task)
        libero = None
        if settings.task in LIBERO:
            render = str(bundle.config.origin.get("render") or OFFICIAL)
            if settings.reserve and render != RECORDED:
                raise FlexorError(
                    f"{bundle.name} was trained on {render} frames of LIBERO, and the {settings.reserve} "
                    f"demonstrations against forgetting are recorded as {RECORDED} ones; go without them: reserve=0"
                )
            libero = LiberoSettings(render=render, starts="sampled")
        return cls(sim, shift, settings.tasks, libero)

    def make_robot(self, shift: Shift) -> Callable[[str], Robot]:
        """Opens the robot by its name in the workplace of a shift; importable, for worker processes."""
        return functools.partial(open_simulation, shift=shift, libero=self.libero)

    def asked(self, known: Sequence[str]) -> Sequence[str]:
        """The tasks that are asked for, the robot's own being `known`.

        Raises:
            FlexorError: one that is asked for is not among them.
        """
        if unknown := [task for task in self.tasks if task not in known]:
            raise FlexorError(f"unknown tasks {', '.join(unknown)}; the tasks of {self.sim} are {', '.join(known)}")
        return self.tasks or known

    def task_of(self, seed: int, known: Sequence[str]) -> str:
        """Which of them the episode of a seed is of, in turn. Raises as `asked` does."""
        asked = self.asked(known)
        return asked[seed % len(asked)]

    def to_dict(self) -> dict[str, Any]:
        """What a figure has to say of it; plain values."""
        return {"sim": self.sim, "shift": self.shift.to_dict()}
