"""KeptEncodings: what is computed of every sample once, because no adapter of the profile changes it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from flexor.learner.lora.prefix_store import PrefixStore
from flexor.learner.lora.sample_pool import SamplePool, Seen
from flexor.pi05.model import Pi05


class KeptEncodings(ABC):
    """Encodings of a pool's samples.

    Args:
        model: what computes them; it may carry what does not change them.
        base: names the bundle that the model is of, and how it is held.
        precision: bf16 or fp32, what products are computed in.
        pool: the samples.
        store: where they are kept.

    Attributes:
        encoded, read: how many were computed, and found, so far.
    """

    about: str
    """Names what is kept, and how inputs become images and tokens: another release that changes either changes it."""

    def __init__(self, model: Pi05, base: str, precision: str, pool: SamplePool, store: PrefixStore) -> None:
        self._model, self._pool, self._store = model, pool, store
        self._precision = precision
        self._named = f"{self.about} {base} {precision}"
        self.encoded = self.read = 0

    def kept(self, rows: Sequence[int], encodings: Sequence[int]) -> list[dict[str, Tensor]]:
        """What is kept of samples, each in one of its encodings.

        Raises:
            PrefixStoreError: the disk refuses.
        """
        found: list[dict[str, Tensor]] = []
        for row, encoding in zip(rows, encodings, strict=True):
            key = hashlib.sha256(f"{self._named} {self._pool.key(row, encoding)}".encode()).hexdigest()
            tensors = self._store.get(key)
            if tensors is None:
                tensors = self._once(row, encoding)
                self._store.put(key, tensors)
                self.encoded += 1
            else:
                self.read += 1
            found.append(tensors)
        return found

    @abstractmethod
    def _encode(self, seen: Seen) -> dict[str, Tensor]:
        """What is kept of one sample; no gradient, in the precision of the products."""

    @torch.no_grad()
    def _once(self, row: int, encoding: int) -> dict[str, Tensor]:
        device = self._model.token_embedding.weight.device
        seen = self._pool.see(row, encoding)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._precision == "bf16"):
            made = self._encode(Seen(seen.images.to(device), seen.tokens.to(device)))
        return {name: tensor.cpu().contiguous() for name, tensor in made.items()}
