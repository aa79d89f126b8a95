"""What can be set about the daemon that learns, and its defaults."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flexor.learner.lora.settings import LoraSettings
from flexor.learner.replay.settings import ReplaySettings


class LearnerSettings(BaseModel):
    """Attributes:
    init: what an adapter begins with: "base", nothing, or "current", the factors of the last one that was published.
    poll_s: seconds between two looks at the index of episodes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    init: Literal["base", "current"] = "base"
    poll_s: float = Field(default=2.0, gt=0)


class PublishSettings(BaseModel):
    """When the next adapter is learned and published: whichever is due first.

    Attributes:
        every_episodes: so many episodes that teach came since the last one was begun.
        every_minutes: so many minutes passed since then, or since the start, and at least one came.
        every_steps: at once, whether something came or not: each adapter is so many optimiser steps (SOP, arXiv
            2601.03044, publishes every 25).
        min_episodes: fewer that teach, and are not held out, are never enough.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    every_episodes: int | None = Field(default=20, gt=0)
    every_minutes: float | None = Field(default=None, gt=0)
    every_steps: int | None = Field(default=None, gt=0)
    min_episodes: int = Field(default=5, gt=0)

    @model_validator(mode="after")
    def _at_some_time(self) -> Self:
        if self.every_episodes is None and self.every_minutes is None and self.every_steps is None:
            raise ValueError("nothing says when to publish; give every_episodes, every_minutes or every_steps")
        return self


class ContinualSettings(LoraSettings):
    """How one adapter after the other is learned: each as LoraSettings say, from episodes as `replay` draws them.

    Attributes:
        learner: of the daemon itself.
        publish: when an adapter is due.
        replay: which episodes it is learned from.
    """

    learner: LearnerSettings = LearnerSettings()
    publish: PublishSettings = PublishSettings()
    replay: ReplaySettings = ReplaySettings()

    @model_validator(mode="after")
    def _fits_a_daemon(self) -> Self:
        if self.replay_share != LoraSettings.model_fields["replay_share"].default:
            raise ValueError(
                "replay_share is of --once; a daemon's share follows the losses: replay.share_low, replay.share_high"
            )
        if self.replay.failures:
            raise ValueError(
                "replay.failures is true, and behaviour cloning learns nothing from a failure; leave it out"
            )
        every = self.publish.every_steps
        if every is not None and self.steps != every:
            raise ValueError(f"publish.every_steps is {every} and the budget steps={self.steps}; give steps={every}")
        return self

    def identity(self) -> dict[str, object]:
        """See LoraSettings."""
        return {key: value for key, value in super().identity().items() if key not in ("learner", "publish")}
