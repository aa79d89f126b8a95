"""WholeWeights: the weights of a profile's projections, trained as they are, and published as factors.

Of a small model the factors of a large rank are as many numbers as the weights, and slower to train. What is published
is the change of rank r that is nearest to the one that was learned (Eckart and Young, 1936: the first r singular values
and vectors): all of it where r is not below the smaller side of a weight.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flexor.errors import FlexorError
from flexor.learner.lora.profile import projections
from flexor.learner.lora.trained import Trained
from flexor.pi05 import lora
from flexor.pi05.model import Pi05


class WholeWeights(Trained):
    """The weights of a profile.

    Args:
        model: frozen but for them; they become float32.
        profile: key of PROFILES.
        rank, alpha: of what is published.
        decay: of the average, at most.
    """

    def __init__(self, model: Pi05, profile: str, rank: int, alpha: float, decay: float) -> None:
        model.requires_grad_(False)
        self._rank, self._scale = rank, alpha / rank
        live: dict[str, nn.Parameter] = {}
        live: dict[str, nn.Parameter] = {}
        for name, linear in projections(model, profile).items():
            linear.weight = live[name] = nn.Parameter(linear.weight.detach().float())
        self._base = {name: weight.detach().clone() for name, weight in live.items()}
        super().__init__(live, self._base, decay)

    def values_of(self, factors: lora.Factors) -> dict[str, Tensor]:
        """See Trained; factors of any rank up to the published one."""
        changes = {}
        for name, (a, b) in factors.items():
            if name not in self._base or len(a) > self._rank:
                told = f"factors of rank {len(a)} for {name}"
                raise FlexorError(f"the adapter to go on from has {told}; set rank and profile to its own")
            change = torch.from_numpy(self._scale * np.asarray(b, np.float32) @ np.asarray(a, np.float32))
            changes[name] = self._base[name] + change
        return self._base | changes

    def published(self) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """See Trained."""
        return {
            name: nearest_factors(weight - self._base[name], self._rank, self._scale)
            for name, weight in self.average.items()
        }


def nearest_factors(change: Tensor, rank: int, scale: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A [rank, in] and B [out, rank] with scale B A nearest to `change` [out, in]; what is more than its rank is 0."""
    left, values, right = torch.linalg.svd(change.double(), full_matrices=False)
    kept = min(rank, len(values))
    root = (values[:kept] / scale).sqrt()
    a, b = torch.zeros(rank, change.shape[1]), torch.zeros(change.shape[0], rank)
    a[:kept], b[:, :kept] = (root[:, None] * right[:kept]).float(), (left[:, :kept] * root).float()
    return a.numpy(), b.numpy()
