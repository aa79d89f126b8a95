"""AskedEngine: an engine with one random question to it, as `flexor.runtime.timing.swap` measures it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import Engine

TOKENS = 24  # of the prompt, or the longest there is


class AskedEngine:
    """A Carrier.

    Args:
        engine: opened for the bundle.
        samples: N, chunks on one prefix.
    """

    def __init__(self, engine: Engine, bundle: Bundle, samples: int) -> None:
        config, generator = bundle.model_config, np.random.default_rng(0)
        size = config.vision.image_size
        self.engine = engine
        self._images = generator.uniform(-1, 1, (len(bundle.config.cameras), 3, size, size)).astype(np.float32)
        self._tokens = generator.integers(0, config.vocab_size, min(TOKENS, config.max_prompt_tokens))
        self._noise = generator.standard_normal((samples, config.horizon, config.action_dim), np.float32)

    @property
    def captures(self) -> int:
        """See Engine."""
        return self.engine.captures

    def load_slot(self, slot: int, tensors: Mapping[str, NDArray[np.float32]] | None) -> None:
        """See Engine."""
        self.engine.load_slot(slot, tensors)

    def chunk(self, slot: int) -> NDArray[np.float32]:
        """See Carrier."""
        return self.engine.denoise(self.engine.encode(self._images, self._tokens, slot), self._noise, None, slot)[0]
