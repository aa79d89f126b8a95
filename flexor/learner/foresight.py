"""Foresight: a training-only head that says where the gripper will close next and where it will last let go.

The flow loss asks for the next half second, in which two objects may lie in the same direction; a small model then
takes long to find out that a word names one of them. Where the hand went in the end says it at once, and every
recording holds that: no simulator state is used. The head reads the prefix at the first prompt token, before the last
layer, and is thrown away after training: the shipped model is Pi0.5 alone.
"""

from __future__ import annotations

import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flexor.pi05.model import Pi05

EVENTS, AXES = 2, 3  # next grasp and last release; x, y, z
GRASP = 0


def waypoints(
    states: NDArray[np.float32], actions: NDArray[np.float32], episodes: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Hindsight of every sample from the rows of its own episode.

    Args:
        states: [n, S]; the first three numbers are the gripper frame's position.
        actions: [n, H, A]; the last number of the first action closes the gripper when above 0.
        episodes: [n], equal and consecutive for the samples of one episode, in the order of time.

    Returns:
        float32 [n, 2, 3], positions in the units of `states`, and bool [n, 2], whether the event is still to come.
        The next grasp is not to come while the gripper closes or is closed.
    """
    places = np.zeros((len(states), EVENTS, AXES), np.float32)
    known = np.zeros((len(states), EVENTS), bool)
    closing = actions[:, 0, -1] > 0
    for episode in np.unique(episodes):
        rows = np.flatnonzero(episodes == episode)
        closed = rows[closing[rows]]
        if len(closed) == 0:
            continue
        following = np.searchsorted(closed, rows)
        ahead = (following < len(closed)) & ~closing[rows]
        places[rows[ahead], 0] = states[closed[following[ahead]], :AXES]
        known[rows[ahead], 0] = True
        before = rows <= closed[-1]
        places[rows[before], 1] = states[closed[-1], :AXES]
        known[rows[before], 1] = True
    return places, known


def untouched(actions: NDArray[np.float32], episodes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Bool [n]: the gripper will close, and has not yet in this episode: nothing was carried away. As `waypoints`."""
    closing = actions[:, 0, -1] > 0
    before = np.zeros(len(actions), bool)
    for episode in np.unique(episodes):
        rows = np.flatnonzero(episodes == episode)
        if closing[rows].any():
            before[rows[: int(np.argmax(closing[rows]))]] = True
    return before


class Foresight(nn.Module):
    """The head and the hook by which it reads a model's prefix."""

    def __init__(self, model: Pi05) -> None:
        super().__init__()
        self.head = nn.Linear(model.config.prefix.width, EVENTS * AXES)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self._seen = threading.local()  # each thread's own: several may learn at once
        model.prefix_layers[-2].register_forward_hook(self._keep)

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, Tensor, Tensor]) -> None:
        self._seen.hidden = outputs[0]

    def loss(self, first_text_token: int, places: Tensor, known: Tensor) -> Tensor:
        """Mean squared error over the events to come of the batch that the model encoded last.

        Args:
            first_text_token: its place in the prefix (the number of image tokens).
            places: float32 [B, 2, 3], normalised.
            known: bool [B, 2].

        Raises:
            RuntimeError: nothing was encoded before.
        """
        errors = (self._guess(first_text_token) - places).square().mean(dim=-1)
        return (errors * known).sum() / known.sum().clamp(min=1)

    def grasp_loss(self, first_text_token: int, places: Tensor) -> Tensor:
        """The same for the next grasp alone, known of every sample; places: float32 [B, 3], normalised."""
        return (self._guess(first_text_token)[:, GRASP] - places).square().mean()

    def _guess(self, first_text_token: int) -> Tensor:
        last: Tensor | None = getattr(self._seen, "hidden", None)
        if last is None:
            raise RuntimeError("foresight has no prefix to read; call the model's encode before loss")
        hidden, self._seen.hidden = last[:, first_text_token].float(), None
        hidden = hidden * torch.rsqrt(hidden.square().mean(dim=-1, keepdim=True) + 1e-6)
        return self.head(hidden).float().unflatten(-1, (EVENTS, AXES))
