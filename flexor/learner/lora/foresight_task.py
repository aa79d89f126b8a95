"""ForesightTask: what an adapter is asked besides its actions while it learns: where the gripper will close and let go.

See flexor.learner.foresight: a few dozen episodes say little about which of several objects a sentence names, and where
the hand went in the end says it at once. The head is thrown away; what the prefix learned for it stays.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flexor.learner.foresight import Foresight
from flexor.pi05.model import Pi05


class ForesightTask:
    """The head of one run.

    Args:
        model: its prefix is read as it is encoded.
        image_tokens: tokens of the prefix before the first one of the prompt.

    Attributes:
        live: the head's parameters by name.
    """

    def __init__(self, model: Pi05, image_tokens: int) -> None:
        self._head, self._image_tokens = Foresight(model), image_tokens
        self.live = {f"foresight.{name}": parameter for name, parameter in self._head.named_parameters()}

    def loss(self, places: NDArray[np.float32], known: NDArray[np.bool_]) -> Tensor:
        """Of the samples that the model encoded last: `waypoints` of theirs, places normalised."""
        return self._head.loss(self._image_tokens, torch.from_numpy(places), torch.from_numpy(known))

    @torch.no_grad()
    def assign(self, values: Mapping[str, Tensor]) -> None:
        """Copy values into the head."""
        for name, parameter in self.live.items():
            parameter.copy_(values[name])
