"""StoreState: what a directory of adapters remembers, one JSON file that is replaced whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.manifest import BASE, Sha256
from flexor.runtime.disk import sync

STATE = "state.json"
RECENT = 50
"""Episodes in whose success an adapter is compared with its parent: before them, the world may have been another."""

_CONFIG = ConfigDict(frozen=True, extra="forbid", strict=True)

State = Literal["RECEIVED", "VERIFIED", "STAGED", "SHADOW", "CANARY", "ACTIVE", "RETIRED", "REJECTED", "ROLLED_BACK"]
UNDER_WAY: tuple[State, ...] = ("RECEIVED", "VERIFIED", "STAGED", "SHADOW", "CANARY")
"""States of the one candidate, in their order."""


class Record(BaseModel):
    """How one adapter fared.

    Attributes:
        id: its name; sha256: of its manifest, model_sha256: of its tensors, None before they were read.
        parent: the adapter that it was tried against.
        state: where it stands; reason, told: why it was refused or taken back, as a word and as a sentence.
        at: when it came into that state, ISO 8601.
        episodes, successes: that ended while it was active or tried, as success or failure.
        recent: the last 50 of them, the latest last, 1 for a success and 0 for a failure.
    """

    model_config = _CONFIG

    id: str
    state: State
    at: str
    sha256: Sha256 | None = None
    model_sha256: Sha256 | None = None
    parent: str = BASE
    reason: str | None = None
    told: str = ""
    episodes: int = Field(default=0, ge=0)
    successes: int = Field(default=0, ge=0)
    recent: str = Field(default="", pattern=r"^[01]{0,50}$")


class StoreState(BaseModel):
    """Attributes:
    active: id of the adapter that is served, `base` for none.
    candidate: id of the one that is being tried.
    history: ids that were active before, the latest last.
    seen: highest version that was ever taken for a trial; only a later one is taken again.
    blacklist: hash of the tensors of adapters that may not come back, and why.
    records: by id, of adapters that are still on disk, active or tried.
    """

    model_config = _CONFIG

    schema_version: Literal[1] = 1
    active: str = BASE
    candidate: str | None = None
    history: tuple[str, ...] = Field(default=(), strict=False)
    seen: int = Field(default=0, ge=0)
    blacklist: dict[str, str] = {}
    records: dict[str, Record] = {}

    @classmethod
    def read(cls, root: Path) -> StoreState:
        """The state of a directory; a new one where there is none.

        Raises:
            AdapterError: torn.
        """
        path = root / STATE
        try:
            return cls.model_validate(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return cls()
        except (OSError, ValidationError, ValueError, RecursionError) as error:
            raise AdapterError(
                "torn", f"{path} cannot be read ({error}); move it away to begin with the base"
            ) from error

    def write(self, root: Path) -> None:
        """Replace the state of a directory, whole and durable.

        Raises:
            OSError: the disk refuses; the state on it is then as it was.
        """
        draft = root / f".{STATE}.part"
        draft.write_text(json.dumps(self.model_dump(mode="json"), indent=1) + "\n")
        sync(draft)
        draft.replace(root / STATE)
        sync(root)
