"""PrefixCache: the prefix of every sample encoded once, for an adapter that leaves the prefix program alone.

Nothing behind the prefix is trained in the profile `expert`, so that its keys and values are the same in every step:
they are computed without a gradient, kept, and read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from flexor.learner.lora.prefix_store import PrefixStore
from flexor.learner.lora.sample_pool import SamplePool
from flexor.pi05.model import Pi05
from flexor.pi05.prefix import Prefix

VERSION = 1  # of what is kept and of how inputs become images and tokens


class PrefixCache:
    """Prefixes of a pool's samples.

    Args:
        model: whose prefix program encodes; its expert may carry anything.
        base: hash of the bundle that the model is of.
        precision: bf16 or fp32, what products are computed in.
        pool: the samples.
        store: where they are kept.

    Attributes:
        encoded, read: how many were computed, and found, so far.
    """

    def __init__(self, model: Pi05, base: str, precision: str, pool: SamplePool, store: PrefixStore) -> None:
        self._model, self._pool, self._store = model, pool, store
        self._precision = precision
        self._about = f"{VERSION} {base} {precision}"
        self.encoded = self.read = 0

    def prefixes(self, rows: Sequence[int], encodings: Sequence[int]) -> Prefix:
        """The prefixes of samples, each in one of its encodings, padded to one length.

        Raises:
            PrefixStoreError: the disk refuses.
        """
        kept: list[dict[str, Tensor]] = []
        for row, encoding in zip(rows, encodings, strict=True):
            key = hashlib.sha256(f"{self._about} {self._pool.key(row, encoding)}".encode()).hexdigest()
            tensors = self._store.get(key)
            if tensors is None:
                tensors = self._encode(row, encoding)
                self._store.put(key, tensors)
                self.encoded += 1
            else:
                self.read += 1
            kept.append(tensors)
        return join(kept)

    @torch.no_grad()
    def _encode(self, row: int, encoding: int) -> dict[str, Tensor]:
        """Keys and values of every layer, [L, kv_heads, N, head_dim] each."""
        seen = self._pool.see(row, encoding)
        device = self._model.token_embedding.weight.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self._precision == "bf16"):
            prefix = self._model.encode(seen.images.to(device), seen.tokens.to(device))
        keys, values = (torch.stack([tensor[0] for tensor in side]) for side in (prefix.keys, prefix.values))
        return {"keys": keys.cpu().contiguous(), "values": values.cpu().contiguous()}


def join(kept: Sequence[dict[str, Tensor]]) -> Prefix:
    """Prefixes of one sample each as one of all, the shorter ones padded and masked."""
    lengths = [tensors["keys"].shape[2] for tensors in kept]
    longest = max(lengths)

    def padded(name: str) -> tuple[Tensor, ...]:
        rows = [torch.nn.functional.pad(t[name], (0, 0, 0, longest - t[name].shape[2])) for t in kept]
        return torch.stack(rows, dim=1).unbind(0)

    offset = torch.tensor(lengths)
    mask = None if min(lengths) == longest else torch.arange(longest) < offset[:, None]
    return Prefix(keys=padded("keys"), values=padded("values"), mask=mask, offset=offset)
