"""PrefixCache: the prefix of every sample encoded once, for an adapter that leaves the prefix program alone.

Nothing behind the prefix is trained in the profile `expert`, so that its keys and values are the same in every step:
they are computed without a gradient, kept, and read again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flexor.learner.lora.kept_encodings import KeptEncodings
from flexor.learner.lora.sample_pool import Seen
from flexor.pi05.prefix import Prefix


class PrefixCache(KeptEncodings):
    """Prefixes of a pool's samples."""

    about = "2"

    def prefixes(self, rows: Sequence[int], encodings: Sequence[int]) -> Prefix:
        """The prefixes of samples, each in one of its encodings, padded to one length.

        Raises:
            PrefixStoreError: the disk refuses.
        """
        return join(self.kept(rows, encodings))

    def _encode(self, seen: Seen) -> dict[str, Tensor]:
        """Keys and values of every layer, [L, kv_heads, N, head_dim] each."""
        prefix = self._model.encode(seen.images, seen.tokens)
        keys, values = (torch.stack([tensor[0] for tensor in side]) for side in (prefix.keys, prefix.values))
        return {"keys": keys, "values": values}


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
