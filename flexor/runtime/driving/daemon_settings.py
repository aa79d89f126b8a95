"""DaemonSettings: what can be set of the robot-side daemon, and its defaults."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flexor.runtime.driving.corrector import CorrectionSettings
from flexor.runtime.driving.guard import GuardSettings
from flexor.runtime.teleop.operator_settings import OperatorSettings


class DaemonSettings(BaseModel):
    """How the daemon behaves.

    Attributes:
        splice: how a chunk continues the one before. "prefix": it is asked to begin with the actions already committed
            (training-time real-time chunking, arXiv 2512.05964), as far as the bundle was trained for that; one that
            was not is replanned plainly. "replan": it knows nothing of the one before, and its actions for the steps
            that passed meanwhile are dropped.
        hold_limit_s: the arm is held this long without an action before the episode is aborted.
        reply_timeout_s: how long the client waits for an answer to hello and to the begin and end of an episode.
        connect_timeout_s: how long an episode waits for a server that is ready before the run ends.
        guard: limits beside those of the robot.
        correct: when an expert takes over, where one may.
        operator: what a person's keys and gamepad do, where one looks on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    splice: Literal["replan", "prefix"] = "prefix"
    hold_limit_s: float = Field(default=2.0, gt=0)
    reply_timeout_s: float = Field(default=1.0, gt=0)
    connect_timeout_s: float = Field(default=10.0, gt=0)
    guard: GuardSettings = GuardSettings()
    correct: CorrectionSettings = CorrectionSettings()
    operator: OperatorSettings = OperatorSettings()
