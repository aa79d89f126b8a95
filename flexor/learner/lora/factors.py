"""Factors: A and B of a model's projections, trained as such."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flexor.learner.lora.profile import add_lora, factors_of, parameter_names
from flexor.learner.lora.trained import Trained
from flexor.pi05 import lora
from flexor.pi05.model import Pi05


class Factors(Trained):
    """The factors of a profile.

    Args:
        model: given its factors, and frozen but for them.
        profile, rank, alpha, seed: as of `add_lora`.
        decay: of the average, at most.
    """

    def __init__(self, model: Pi05, profile: str, rank: int, alpha: float, seed: int, decay: float) -> None:
        model.requires_grad_(False)
        self._model = model
        super().__init__(add_lora(model, profile, rank, alpha, seed), None, decay)

    def values_of(self, factors: lora.Factors) -> dict[str, Tensor]:
        """See Trained."""
        return {
            parameter: torch.from_numpy(np.asarray(factor, np.float32))
            for name, pair in factors.items()
            for parameter, factor in zip(parameter_names(name), pair, strict=True)
        }

    def published(self) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """See Trained."""
        with self.averaged():
            return factors_of(self._model)
