"""CompiledEngine: the plain model under torch.compile, as others serve it; a line of comparison in a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import EngineError
from flexor.runtime.inference.torch_engine import load_model
from flexor.runtime.inference.torch_resample import torch_resample


class CompiledEngine:
    """An Engine without adapters, in float32 on the CPU: `Pi05.encode` and `Pi05.denoise`, each compiled whole.

    The first call of each number of tokens or samples compiles, which takes minutes.

    Args:
        bundle: of weights.
        threads: CPU threads of every call.
        flow_steps: Euler steps of denoise.
    """

    name, provider, precision, slots, captures = "compiled", "cpu", "fp32", 1, 0
    resample = staticmethod(torch_resample)

    def __init__(self, bundle: Bundle, threads: int, flow_steps: int) -> None:
        torch.set_num_threads(threads)
        self.threads, self.flow_steps = threads, flow_steps
        model = load_model(bundle, torch.float32)
        self._encode, self._denoise = torch.compile(model.encode), torch.compile(model.denoise)

    def encode(self, images: NDArray[np.float32], tokens: NDArray[np.int64], slot: int = 0) -> Any:
        """See Engine."""
        with torch.no_grad():
            return self._encode(torch.from_numpy(images)[None], torch.from_numpy(tokens)[None])

    def denoise(
        self, prefix: Any, noise: NDArray[np.float32], action_prefix: NDArray[np.float32] | None, slot: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See Engine.

        Raises:
            EngineError: another slot than 0.
        """
        if slot:
            raise EngineError(f"slot is {slot}; the compiled engine has slot 0 alone")
        clamp = None if action_prefix is None else torch.from_numpy(action_prefix)
        with torch.no_grad():
            actions, velocities = self._denoise(prefix, torch.from_numpy(noise), self.flow_steps, clamp)
        return actions.numpy(), velocities.numpy()

    def load_slot(self, slot: int, tensors: Mapping[str, NDArray[np.float32]] | None) -> None:
        """See Engine.

        Raises:
            EngineError: always.
        """
        raise EngineError("the compiled engine carries no adapter; it is for benchmarks")
