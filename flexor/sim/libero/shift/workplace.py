"""Workplace: one LIBERO scene in a shift, episode by episode; without a shift it changes nothing at all."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.sim.actuation import Actuation
from flexor.sim.libero.assets import prepare
from flexor.sim.libero.retina import Retina
from flexor.sim.libero.shift.arrangement import arrange
from flexor.sim.libero.shift.draw import LiberoDraw, draw_libero_shift
from flexor.sim.libero.shift.dressing import Dressing
from flexor.sim.libero.shift.extras import distractor_bodies
from flexor.sim.libero.shift.lens import Lens
from flexor.sim.libero.stage import WAIT_ACTION, Stage
from flexor.sim.libero.suites import SuiteTask
from flexor.sim.libero.view import View
from flexor.sim.shift import Shift


def open_stage(task: SuiteTask, shift: Shift) -> Stage:
    """Build a task's scene, with further bodies in it where the shift needs them."""
    return Stage(task, distractor_bodies() if shift.acts_on("distractors") else "")


class Workplace:
    """What a shift makes of a stage.

    Attributes:
        drawn: what the shift came to in the present episode.
    """

    def __init__(self, stage: Stage, shift: Shift) -> None:
        self._stage, self._shift = stage, shift
        self._dressing = None if shift.level == "none" else Dressing(stage, prepare().folder)
        self._painted = False
        self._begin(LiberoDraw(), 0)

    @property
    def sentence(self) -> str:
        """How the task is said in this episode."""
        return self.drawn.sentence or self._stage.sentence

    def clear(self) -> None:
        """The model as it was built: before LIBERO's own draws, which are to be those of the unshifted scene."""
        if self._dressing is not None:
            self._dressing.undress()

    def dress(self, seed: int) -> None:
        """The model as the episode of a seed has it: before the stage is reset."""
        self._begin(draw_libero_shift(self._shift, self._stage.task, seed, self._stage.sentence), seed)
        if self._dressing is not None:
            self._dressing.wear(self.drawn)
            self._painted = True

    def arrange(self) -> None:
        """Objects, arm and distractors as the episode has them: after the reset, and before things settle."""
        arrange(self._stage, self.drawn)

    def send(self, command: NDArray[np.floating] | None) -> NDArray[np.floating]:
        """What reaches the arm in this control step, [7], when a command, or a hold (None), is sent to it."""
        arrived = self._actuation.send(command)
        if arrived is None:
            arrived = np.zeros(WAIT_ACTION.shape, dtype=np.float32)
            arrived[-1] = self._gripper
        self._gripper = arrived[-1]
        return arrived

    def undone(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """The action [7] to send so that this one arrives, as far as that can be: for the expert."""
        motion = self._actuation.undone(action[:6].astype(np.float64))
        return np.clip([*motion, action[6]], -1.0, 1.0).astype(np.float32)

    def shoot(self, view: View, retina: Retina, camera: str, step: int) -> NDArray[np.uint8]:
        """One frame of what a retina saw, as the policy gets it in a control step."""
        if self._painted and self._dressing is not None:
            view.load_textures(self._dressing.surfaces.textures)
            self._painted = False
        return view.shoot(retina, camera, lambda frame: self._lens.look(frame, camera, step))

    def _begin(self, drawn: LiberoDraw, seed: int) -> None:
        self.drawn, self._lens = drawn, Lens(drawn)
        self._actuation = Actuation(drawn, seed)
        self._gripper = WAIT_ACTION[-1]
