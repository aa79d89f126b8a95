"""Memory knobs: what to turn when the learner runs out of memory, one after the other.

The order is that of the project whose recipe for 16 GB this follows: rank 8, bf16, gradient checkpointing, a batch of 1
with accumulation, the base in 8 bits. What comes after these is ours: fewer draws, and at last `profile=expert`, which
needs no gradient through the prefix at all and learns less.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from flexor.errors import FlexorError
from flexor.learner.lora.profile import SHALLOW
from flexor.learner.lora.settings import LoraSettings

SMALL_RANK = 8

SAVED: Mapping[str, float] = {
    "r": 0.01,
    "precision": 0.34,
    "gradient_checkpointing": 0.23,
    "batch": 0.29,
    "load_in_8bit": 0.07,
    "draws": 0.03,
}
"""Share of the learner's peak memory that each knob took off in `flexor bench memory`, by its first setting: of two
slices of pi05 the one where it took more (docs/learning.md, Memory)."""


class LearnerOutOfMemory(FlexorError):
    """The learner's process got no more memory; nothing but the learner is affected."""


@dataclass(frozen=True, slots=True)
class Knob:
    """A change of settings that takes less memory.

    Attributes:
        changes: settings by name.
        besides: what has to follow elsewhere.
    """

    changes: Mapping[str, Any]
    besides: str = ""

    def __str__(self) -> str:
        """As it is written on the command line."""
        return " ".join(f"{key}={str(value).lower()}" for key, value in self.changes.items()) + self.besides

    @property
    def saved(self) -> float | None:
        """Share of the peak that it took off where it was measured; None where it was not."""
        return SAVED.get(next(iter(self.changes)))


def next_knob(settings: LoraSettings) -> Knob | None:
    """The first that would take less memory; None when there is none."""
    whole = settings.batch * settings.accumulation
    at_the_server = f", and the same at the server (adapters.rank={SMALL_RANK})"
    knobs = (
        (settings.trains == "weights", Knob({"trains": "factors"})),
        (settings.r > SMALL_RANK, Knob({"r": SMALL_RANK}, at_the_server)),
        (settings.precision == "fp32", Knob({"precision": "bf16"})),
        (settings.profile != "expert" and not settings.gradient_checkpointing, Knob({"gradient_checkpointing": True})),
        (settings.batch > 1, Knob({"batch": 1, "accumulation": whole})),
        (not settings.load_in_8bit and settings.profile in SHALLOW, Knob({"load_in_8bit": True})),
        (settings.draws > 1, Knob({"draws": 1})),
        (settings.profile != "expert", Knob({"profile": "expert"})),
    )
    return next((knob for turned, knob in knobs if turned), None)


@contextlib.contextmanager
def naming_the_next_knob(settings: LoraSettings) -> Iterator[None]:
    """Inside, memory that cannot be had ends in an error that names the setting to change next.

    Raises:
        LearnerOutOfMemory: the system, or torch on its behalf, refused.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_about_memory(error):
            raise
        knob = next_knob(settings)
        way_out = "every setting that saves memory is turned already: use a larger machine"
        if knob is not None:
            took = f" (it took up to {knob.saved:.0%} off the peak of a slice of pi05)" if knob.saved else ""
            way_out = f"set {knob}{took}"
        first_line = str(error).partition("\n")[0][:300] or type(error).__name__
        raise LearnerOutOfMemory(f"the learner is out of memory ({first_line}); {way_out}") from error


def _is_about_memory(error: BaseException) -> bool:
    # torch has a type of its own for a GPU alone; its CPU allocator raises a bare RuntimeError.
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(word in str(error) for word in ("can't allocate memory", "out of memory"))
