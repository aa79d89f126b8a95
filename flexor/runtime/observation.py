"""What a policy is asked and what it answers: Observation and ActionChunk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at the world.

    Attributes:
        images: uint8 [height, width, 3] RGB by camera name, upright (row 0 is the top).
        state: float32 [S] in robot units; for the Franka S = 8: gripper-frame position (m), its orientation as
            axis-angle (rad), both finger positions (m), as in openpi's LIBERO client.
        prompt: the instruction, a plain sentence.
    """

    images: Mapping[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    prompt: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """What computed a chunk, so that a log line can be traced to its weights and repeated."""

    bundle: str  # name@first 12 hex digits of the bundle hash
    adapter: str  # adapter id, "base" when none is carried
    engine: str  # torch, onnx, ...
    provider: str  # the device it really ran on: cpu, cuda:0, ...
    precision: str  # fp32, bf16, int8+bf16 (prefix and expert), ...
    flow_steps: int
    noise_seed: int


@dataclass(frozen=True, slots=True)
class ActionChunk:
    """A plan of H actions, the first one meant for the control step at which the observation was taken.

    Attributes:
        actions: float32 [H, A] in robot units.
        provenance: what computed it.
        timing_ms: milliseconds by stage (prepare, encode, denoise, ...).
        scores: entropy scores by name: accel of this chunk; ace_bits and gauss_nats when they are known.
    """

    actions: NDArray[np.float32]
    provenance: Provenance
    timing_ms: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
