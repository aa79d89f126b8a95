"""OperatorSettings: what can be set of a person's keys and gamepad, and its defaults."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class GamepadSettings(BaseModel):
    """Numbers of buttons and axes as the joystick API counts them; the defaults fit pads of Xbox and PlayStation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    takeover: int = Field(default=5, ge=0, description="button: right shoulder")
    gripper: int = Field(default=0, ge=0, description="button: the lowest")
    success: int = Field(default=3, ge=0, description="button")
    failure: int = Field(default=1, ge=0, description="button")
    abort: int = Field(default=2, ge=0, description="button")
    ready: int = Field(default=4, ge=0, description="button: left shoulder")
    x: int = Field(default=1, ge=0, description="axis: left stick, up is forward")
    y: int = Field(default=0, ge=0, description="axis: left stick, left is left")
    z: int = Field(default=4, ge=0, description="axis: right stick, up is up")
    roll: int = Field(default=6, ge=0, description="axis: cross, sideways")
    pitch: int = Field(default=7, ge=0, description="axis: cross, up and down")
    yaw: int = Field(default=3, ge=0, description="axis: right stick, sideways")
    deadzone: float = Field(default=0.1, ge=0, lt=1, description="share of an axis around its middle that is still")


class OperatorSettings(BaseModel):
    """How fast a person moves the arm, and how long they are waited for.

    Attributes:
        translation, rotation: share of the action's range that a key, or a stick at its end, commands.
        pulse_s: how long a key moves the arm; a key that is held down repeats, and the arm goes on.
        ready_s: how long a run waits before an episode until the operator lets it begin.
        answer_s: how long the arm is held at the step limit for a verdict; then the outcome is unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    translation: float = Field(default=0.2, gt=0, le=1)
    rotation: float = Field(default=0.2, gt=0, le=1)
    pulse_s: float = Field(default=0.1, gt=0, le=1)
    ready_s: float = Field(default=600.0, gt=0)
    answer_s: float = Field(default=20.0, ge=0)
    gamepad: GamepadSettings = GamepadSettings()
