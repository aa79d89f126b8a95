"""Precisions by name: one word for both programs of a model, or two for prefix and expert. Needs no torch."""

from __future__ import annotations

from flexor.pi05.footprint import WEIGHT_BYTES
from flexor.runtime.inference.engine import EngineError

EXPERT_BESIDE = {"int8": "bf16"}
"""The expert's precision beside a prefix of one, where it is not said and not the same."""

CHOICES = f"{', '.join(WEIGHT_BYTES)}, or prefix and expert: int8+fp32."
"""For the help of an option."""


def parts(precision: str) -> tuple[str, str]:
    """Precisions of prefix and expert.

    Raises:
        EngineError: one that there is not.
    """
    prefix, plus, expert = precision.partition("+")
    expert = expert if plus else EXPERT_BESIDE.get(prefix, prefix)
    if not {prefix, expert} <= set(WEIGHT_BYTES):
        raise EngineError(
            f"engine torch has no precision {precision!r}; choose one of: {', '.join(WEIGHT_BYTES)}, or two for prefix "
            "and expert, e.g. int8+fp32"
        )
    return prefix, expert


def full_name(precision: str) -> str:
    """The name under which gates and replies know a precision: one word where both programs have it, else two.

    Raises:
        EngineError: as `parts`.
    """
    prefix, expert = parts(precision)
    return prefix if prefix == expert else f"{prefix}+{expert}"
