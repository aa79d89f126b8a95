"""LivePrefixes: prefixes computed anew in every step, with a gradient, for an adapter that changes all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flexor.learner.lora.sample_pool import SamplePool
from flexor.pi05.model import Pi05
from flexor.pi05.prefix import Prefix


class LivePrefixes:
    """Prefixes of a pool's samples under the model as it is now.

    Args:
        model: which is trained.
        pool: the samples.
    """

    def __init__(self, model: Pi05, pool: SamplePool) -> None:
        self._model, self._pool = model, pool

    def prefixes(self, rows: Sequence[int], encodings: Sequence[int]) -> Prefix:
        """The prefixes of samples, each in one of its encodings; prompts are padded to one length."""
        seen = [self._pool.see(row, encoding) for row, encoding in zip(rows, encodings, strict=True)]
        tokens, mask = pad_tokens([sample.tokens for sample in seen])
        images, device = torch.cat([sample.images for sample in seen]), self._model.token_embedding.weight.device
        return self._model.encode(images.to(device), tokens.to(device), None, mask.to(device))


def pad_tokens(tokens: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Prompts int64 [1, T each] as one [B, longest], and bool [B, longest], True where a token is real."""
    lengths = [one.shape[1] for one in tokens]
    longest = max(lengths)
    padded = [torch.nn.functional.pad(one, (0, longest - one.shape[1])) for one in tokens]
    return torch.cat(padded), torch.arange(longest) < torch.tensor(lengths)[:, None]
