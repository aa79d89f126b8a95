"""ForesightTask: what an adapter is asked besides its actions while it learns: where the gripper will close and let go.

See flexor.learner.foresight: a few dozen episodes say little about which of several objects a sentence names, and where
the hand went in the end says it at once. The head is thrown away; what the prefix learned for it stays.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flexor.learner.foresight import Foresight
from flexor.pi05.model import Pi05

LR = 5e-4  # peak, of AdamW, whatever the adapter is trained by


class ForesightTask:
    """The head of one run and its optimiser.

    Args:
        model: its prefix is read as it is encoded.
        image_tokens: tokens of the prefix before the first one of the prompt.
    """

    def __init__(self, model: Pi05, image_tokens: int) -> None:
        self._head, self._image_tokens = Foresight(model), image_tokens
        self._parameters = dict(self._head.named_parameters())
        self._optimiser = torch.optim.AdamW(self._parameters.values(), lr=LR, betas=(0.9, 0.95), weight_decay=0.0)

    def loss(self, places: NDArray[np.float32], known: NDArray[np.bool_]) -> Tensor:
        """Of the samples that the model encoded last: `waypoints` of theirs, places normalised."""
        return self._head.loss(self._image_tokens, torch.from_numpy(places), torch.from_numpy(known))

    def forget_gradients(self) -> None:
        """Of a step that was left in the middle."""
        self._optimiser.zero_grad(set_to_none=True)

    def step(self, rate: float) -> None:
        """Change the head by its gradients, at `rate` of the peak."""
        for group in self._optimiser.param_groups:
            group["lr"] = LR * rate
        self._optimiser.step()

    def tensors(self) -> dict[str, Tensor]:
        """Head and moments, for a checkpoint."""
        state = self._optimiser.state_dict()["state"]
        moments = {f"{number}/{slot}": value for number, slots in state.items() for slot, value in slots.items()}
        return {name: parameter.detach() for name, parameter in self._parameters.items()} | moments

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            number, _, slot = name.partition("/")
            if slot:
                state.setdefault(int(number), {})[slot] = tensor
            else:
                self._parameters[name].copy_(tensor)
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": state, "param_groups": groups})
