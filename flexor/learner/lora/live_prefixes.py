"""LivePrefixes: prefixes computed anew in every step, with a gradient, for an adapter that changes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

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
        lengths = [sample.tokens.shape[1] for sample in seen]
        longest, device = max(lengths), self._model.token_embedding.weight.device
        tokens = [torch.nn.functional.pad(s.tokens, (0, longest - s.tokens.shape[1])) for s in seen]
        mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
        images = torch.cat([sample.images for sample in seen])
        return self._model.encode(images.to(device), torch.cat(tokens).to(device), None, mask.to(device))
