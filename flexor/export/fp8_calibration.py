"""Calibration of fp8: a bundle answers recorded observations, and its products remember their largest activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from flexor.pi05.fp8 import observed
from flexor.pi05.program import Program
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.fp8_scales import write_scales
from flexor.runtime.inference.policy import Policy
from flexor.runtime.inference.torch_engine import TorchEngine
from flexor.runtime.observation import Observation


class _ObservingEngine(TorchEngine):
    """Both programs in e4m3, without scales."""

    def _calibrate(self, bundle: Bundle) -> None:
        pass

    def _record(self, program: Program, views: int, precisions: set[str]) -> Program:
        return program  # a graph is recorded on whatever its buffers hold, and that would be observed, too

    def observed(self) -> dict[str, float]:
        return observed(self._program)


def calibrate_fp8(
    bundle: Bundle, observations: Sequence[Observation], threads: int, told: Callable[[int], None]
) -> Path:
    """Find the scales of a bundle's activations and keep them in it; chunk k begins with the noise of seed k.

    One file does for fp8 in prefix, expert or both.

    Raises:
        FlexorError: an observation that does not fit the bundle, a model without products of its own, or a folder that
            cannot be written.
    """
    engine = _ObservingEngine(bundle, "fp8", threads, bundle.config.flow_steps)
    policy = Policy(bundle, engine)
    for seed, observation in enumerate(observations):
        policy.infer(observation, seed)
        told(seed + 1)
    return write_scales(bundle, engine.observed(), len(observations))
