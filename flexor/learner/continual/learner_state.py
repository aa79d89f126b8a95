"""LearnerState: what a learner that was killed has to know to go on: one JSON file that is replaced whole."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from flexor.learner.replay.replay_error import ReplayError
from flexor.learner.replay.state_file import read_state, write_state
from flexor.runtime.adapters.manifest import BASE

STATE = "learner.json"
VERSION = 1


class Plan(BaseModel):
    """What one adapter is learned from; with it and the settings, everything about it is decided.

    Attributes:
        parent: the adapter that it begins with, or `base`.
        online: weight of each of the robot's own episodes by task and id.
        replayed: the base's demonstrations by task.
        held_out, replay_held_out: episodes of both that are only measured.
        digest: of their samples; other ones make it another adapter.
        version, created_at: of the manifest, settled before it is written for the first time, so that a second time
            gives the same folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parent: str
    online: dict[str, dict[str, float]]
    replayed: dict[str, tuple[str, ...]]
    held_out: tuple[str, ...]
    replay_held_out: tuple[str, ...]
    digest: str
    version: int | None = None
    created_at: str | None = None

    @property
    def own(self) -> list[str]:
        """All of the robot's own episodes in it."""
        return sorted([*self.held_out, *(one for pool in self.online.values() for one in pool)])

    @property
    def base(self) -> list[str]:
        """All of the base's demonstrations in it."""
        return sorted([*self.replay_held_out, *(one for pool in self.replayed.values() for one in pool)])


class LearnerState(BaseModel):
    """Attributes:
    number: of the publication under way, or of the last one.
    plan: of the one under way.
    current: the adapter that was published last and not refused; before: the one before it.
    unannounced: an adapter that is written and that the server has not been told of.
    known: episodes that teach and were there when the last plan was made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = 0
    plan: Plan | None = None
    current: str = BASE
    before: str = BASE
    unannounced: str | None = None
    known: tuple[str, ...] = ()

    @classmethod
    def read(cls, work: Path) -> LearnerState:
        """That of a work folder; a new one where there is none.

        Raises:
            ReplayError: it does not read.
        """
        path = work / STATE
        if not path.exists():
            return cls()
        try:
            return cls.model_validate(read_state(path, VERSION))
        except ValidationError as error:
            raise ReplayError(f"{path} does not read ({error.errors()[0]['msg']}); delete it to begin anew") from error

    def write(self, work: Path) -> None:
        """Replace it, whole and durable. Raises ReplayError when the disk refuses."""
        write_state(work / STATE, VERSION, self.model_dump(mode="json"))
