"""Recipe: how a checkpoint wants to be asked and read, as its own files tell it; and what a user may say instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flexor.export.checkpoints.tensor_file import StoredTensor
from flexor.pi05.normalize import Mode, NormStats

MODEL_STATE_DIM = 32
"""Width to which all origins pad a state, and its prompt where they wrote out the padding."""

MIDDLE_BIN = 128
"""Bin of a zero, with which a normalised state was padded."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user says; None leaves it to the checkpoint's files.

    Attributes:
        origin: key of origin.ORIGINS.
        state_in_prompt: whether the prompt carries the state.
        pad_state: whether the prompt writes out the state's padding.
        prompt: key of prompt.FORMATS.
        dataset: whose statistics, where the checkpoint has several.
        stats: file with the statistics to use instead of the checkpoint's.
        horizon: H.
        cameras: image slot -> robot camera, beside what the robot knows.
    """

    origin: str | None = None
    state_in_prompt: bool | None = None
    pad_state: bool | None = None
    prompt: str | None = None
    dataset: str | None = None
    stats: Path | None = None
    horizon: int | None = None
    cameras: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """What an origin's reader looks at: the folder, and the tensors by stored name."""

    folder: Path
    tensors: Mapping[str, StoredTensor]


@dataclass(frozen=True, slots=True)
class Quantity:
    """Statistics of state or actions as the checkpoint has them (perhaps padded), and how they are used."""

    stats: NormStats
    mode: Mode


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a checkpoint's files tell about its use.

    Attributes:
        horizon: H.
        replan: control steps after which its own evaluation asks again.
        flow_steps: Euler steps.
        max_prompt_tokens: longest prompt.
        rtc_max_delay: longest committed action prefix that its training has seen.
        slots: image slots in the network's order, their names as the checkpoint has them.
        masked: whether slots without a camera were masked there, so that dropping them is exact.
        state: statistics and mode of the state.
        actions: statistics and mode of the actions.
        epsilon: what the normalisation adds to every span.
        prompt_format: key of prompt.FORMATS.
        prompt_state: whether the prompt carries the state.
        padded_to: number of bins that the prompt is filled up to; 0 when it is not.
        padding_bin: what it is filled with.
        notes: decisions that a person should know, a sentence each.
    """

    horizon: int
    replan: int
    flow_steps: int
    max_prompt_tokens: int
    rtc_max_delay: int
    slots: tuple[str, ...]
    masked: bool
    state: Quantity
    actions: Quantity
    epsilon: float
    prompt_format: str
    prompt_state: bool
    padded_to: int
    padding_bin: int
    notes: tuple[str, ...]
