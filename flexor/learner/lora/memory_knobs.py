"""Memory knobs: what to turn when the learner runs out of memory, one after the other.

The order is that of the project whose recipe for 16 GB this follows: rank 8, bf16, gradient checkpointing, a batch of 1
with accumulation, the base in 8 bits. What comes after these is ours: fewer draws, and at last `profile=expert`, which
needs no gradient through the prefix at all and learns less.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from flexor.errors import FlexorError
from flexor.learner.lora.profile import SWAPPED
from flexor.learner.lora.settings import LoraSettings

SMALL_RANK = 8


class LearnerOutOfMemory(FlexorError):
    """The learner's process got no more memory; nothing but the learner is affected."""


def next_knob(settings: LoraSettings) -> str | None:
    """The first setting that would take less memory, as it is written on the command line; None when there is none."""
    whole = settings.batch * settings.accumulation
    knobs = (
        (settings.r > SMALL_RANK, f"r={SMALL_RANK}, and the same at the server (adapters.rank={SMALL_RANK})"),
        (settings.precision == "fp32", "precision=bf16"),
        (settings.profile != "expert" and not settings.gradient_checkpointing, "gradient_checkpointing=true"),
        (settings.batch > 1, f"batch=1 accumulation={whole}"),
        (not settings.load_in_8bit and settings.profile in SWAPPED, "load_in_8bit=true"),
        (settings.draws > 1, "draws=1"),
        (settings.profile != "expert", "profile=expert"),
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
        way_out = f"set {knob}" if knob else "every setting that saves memory is turned already: use a larger machine"
        first_line = str(error).partition("\n")[0][:300] or type(error).__name__
        raise LearnerOutOfMemory(f"the learner is out of memory ({first_line}); {way_out}") from error


def _is_about_memory(error: BaseException) -> bool:
    # torch has a type of its own for a GPU alone; its CPU allocator raises a bare RuntimeError.
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(word in str(error) for word in ("can't allocate memory", "out of memory"))
