"""Operator: a person who takes the arm from the policy, and who says when and how an episode ended."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flexor.runtime.driving.intervention import Situation, Takeover
from flexor.runtime.robot import RobotSpec
from flexor.runtime.teleop.device import AXES, Device, OperatorError
from flexor.runtime.teleop.operator_settings import OperatorSettings

VERDICTS = ("success", "failure", "abort")


class Operator:
    """An Intervener and a Judge: the two words that the daemon has for a person.

    While they have the arm and press nothing, it stands still, and nobody learns from that. The gripper stays as it was
    when they took over, until they press for it.

    Args:
        spec: of the robot; its actions are six deltas and a gripper.
        devices: what the person holds; their motions add up.
        settings: how fast the arm moves, and how long the person is waited for.

    Raises:
        OperatorError: another kind of action, or no device.
    """

    name = source = "operator"

    def __init__(self, spec: RobotSpec, devices: Sequence[Device], settings: OperatorSettings) -> None:
        if spec.action_dim != len(AXES) + 1:
            raise OperatorError(
                f"robot {spec.name} has {spec.action_dim} action values; a person can drive six deltas and a gripper"
            )
        if not devices:
            raise OperatorError("an operator holds no device; give a terminal or a gamepad")
        self._devices, self._settings = devices, settings
        self._low, self._high = spec.action_low, spec.action_high
        speeds = [settings.translation] * 3 + [settings.rotation] * 3
        self._reach = np.array(speeds, np.float32) * np.minimum(spec.action_high, -spec.action_low)[: len(AXES)]
        self.begin()

    @property
    def ready_s(self) -> float:
        """How long a run waits for them before an episode, seconds."""
        return self._settings.ready_s

    @property
    def answer_s(self) -> float:
        """How long they are waited for at the step limit, seconds."""
        return self._settings.answer_s

    def ready(self) -> bool:
        """Whether they let the next episode begin."""
        return "ready" in self._pressed()

    def begin(self) -> None:
        """An episode begins; what was pressed before it counts for nothing."""
        self._pressed()
        self._driving, self._closed = False, False
        self._turns_begun, self._squeezes = False, 0
        self._verdict: str | None = None

    def takeover(self, situation: Situation) -> Takeover | None:
        """What they command while they have the arm.

        Raises:
            OperatorError: a device is gone; whoever drove the arm drives it no more.
        """
        self._listen()
        if not self._driving:
            return None
        if not self._turns_begun:
            self._turns_begun = True
            self._closed = situation.gripper > (self._low[-1] + self._high[-1]) / 2.0
        self._closed ^= self._squeezes % 2 == 1
        squeezed, self._squeezes = self._squeezes > 0, 0
        asked = np.clip(np.sum([device.motion() for device in self._devices], axis=0), -1.0, 1.0)
        grip = self._high[-1] if self._closed else self._low[-1]
        wanted = np.append(asked * self._reach, grip).astype(np.float32)
        return Takeover(wanted, self.name, idle=not (squeezed or asked.any()))

    def verdict(self) -> str | None:
        """The last of success, failure, abort that they pressed in this episode.

        Raises:
            OperatorError: a device is gone; nobody can say how this ends.
        """
        self._listen()
        return self._verdict

    def _listen(self) -> None:
        for press in self._pressed():
            if press == "takeover":
                self._driving, self._turns_begun, self._squeezes = not self._driving, False, 0
            elif press == "gripper" and self._driving:
                self._squeezes += 1
            elif press in VERDICTS:
                self._verdict = press

    def _pressed(self) -> list[str]:
        return [press for device in self._devices for press in device.presses()]
