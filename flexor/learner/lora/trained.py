"""Trained: the parameters that learning an adapter changes, and the average of them, which is what gets published."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flexor.errors import FlexorError
from flexor.pi05 import lora


class Trained(ABC):
    """Parameters by name, and their moving average, decay min(decay, (1 + n) / (10 + n)) at step n.

    Args:
        live: the parameters, as the model has them.
        nothing: their values with which the model computes what it did before anything was learned; None for zeros.
        decay: of the average, at most.

    Attributes:
        live: what an optimiser changes.
        average: what is published.
    """

    def __init__(self, live: Mapping[str, nn.Parameter], nothing: Mapping[str, Tensor] | None, decay: float) -> None:
        self.live, self._nothing, self._decay = dict(live), nothing, decay
        self.average: dict[str, Tensor] = {name: value.detach().clone() for name, value in self.live.items()}

    @abstractmethod
    def values_of(self, factors: lora.Factors) -> dict[str, Tensor]:
        """What the parameters are, under their names, for an adapter's A [r, in] and B [out, r] by projection."""

    @abstractmethod
    def published(self) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """The averaged A [r, in] and B [out, r], float32, by the name of the projection; alpha / r is not in them."""

    def begin_with(self, factors: lora.Factors) -> None:
        """Take an adapter's A [r, in] and B [out, r], float32, by the name of the projection, as live and as average.

        Raises:
            FlexorError: its projections or its rank are others.
        """
        given = self.values_of(factors)
        mine = {name: tuple(value.shape) for name, value in self.live.items()}
        theirs = {name: tuple(value.shape) for name, value in given.items()}
        if mine != theirs:
            odd = sorted(set(mine.items()) ^ set(theirs.items()))[:2]
            raise FlexorError(f"the adapter to go on from has other factors: {odd}; set rank and profile to its own")
        self.assign(given)
        self.average = {name: value.detach().clone() for name, value in self.live.items()}

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move the average towards the live values after `step` (from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, value in self.live.items():
            self.average[name].lerp_(value, 1 - decay)

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the model computes with the average."""
        return self._computing_with(self.average)

    def left_out(self) -> AbstractContextManager[None]:
        """Inside, the model computes what it did before anything was learned."""
        if self._nothing is not None:
            return self._computing_with(self._nothing)
        return self._computing_with({name: torch.zeros_like(value) for name, value in self.live.items()})

    @contextlib.contextmanager
    def _computing_with(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        kept = {name: value.detach().clone() for name, value in self.live.items()}
        self.assign(values)
        try:
            yield
        finally:
            self.assign(kept)

    @torch.no_grad()
    def assign(self, values: Mapping[str, Tensor]) -> None:
        """Copy values into the live parameters."""
        for name, value in self.live.items():
            value.copy_(values[name])
