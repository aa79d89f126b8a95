"""Factors: what an adapter's training changes, and the average of it, which is what gets published."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flexor.errors import FlexorError
from flexor.learner.lora.profile import add_lora, factors_of, parameter_names
from flexor.pi05 import lora
from flexor.pi05.model import Pi05


class Factors:
    """A and B of a model's projections, and their moving average, decay min(decay, (1 + n) / (10 + n)) at step n.

    Args:
        model: given its factors, and frozen but for them.
        profile, rank, alpha, seed: as of `add_lora`.
        decay: of the average, at most.
    """

    def __init__(self, model: Pi05, profile: str, rank: int, alpha: float, seed: int, decay: float) -> None:
        model.requires_grad_(False)
        self._model, self._decay = model, decay
        self.live: dict[str, nn.Parameter] = add_lora(model, profile, rank, alpha, seed)
        self.average: dict[str, Tensor] = {name: factor.detach().clone() for name, factor in self.live.items()}

    def begin_with(self, factors: lora.Factors) -> None:
        """Take an adapter's A [r, in] and B [out, r], float32, by the name of the projection, as live and as average.

        Raises:
            FlexorError: its projections or its rank are others.
        """
        given = {
            parameter: torch.from_numpy(np.asarray(factor, np.float32))
            for name, pair in factors.items()
            for parameter, factor in zip(parameter_names(name), pair, strict=True)
        }
        mine = {name: tuple(factor.shape) for name, factor in self.live.items()}
        theirs = {name: tuple(factor.shape) for name, factor in given.items()}
        if mine != theirs:
            odd = sorted(set(mine.items()) ^ set(theirs.items()))[:2]
            raise FlexorError(f"the adapter to go on from has other factors: {odd}; set rank and profile to its own")
        self.assign(given)
        self.average = {name: factor.detach().clone() for name, factor in self.live.items()}

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move the average towards the live factors after `step` (from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, factor in self.live.items():
            self.average[name].lerp_(factor, 1 - decay)

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the model computes with the average."""
        return self._computing_with(self.average)

    def left_out(self) -> AbstractContextManager[None]:
        """Inside, the model computes what it did before anything was learned."""
        return self._computing_with({name: torch.zeros_like(factor) for name, factor in self.live.items()})

    @contextlib.contextmanager
    def _computing_with(self, values: dict[str, Tensor]) -> Iterator[None]:
        kept = {name: factor.detach().clone() for name, factor in self.live.items()}
        self.assign(values)
        try:
            yield
        finally:
            self.assign(kept)

    @torch.no_grad()
    def assign(self, values: dict[str, Tensor]) -> None:
        """Copy values into the live factors."""
        for name, factor in self.live.items():
            factor.copy_(values[name])

    def published(self) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """The averaged A [r, in] and B [out, r], float32, by the name of the projection."""
        with self.averaged():
            return factors_of(self._model)
