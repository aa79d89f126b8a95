"""SightCache: what the image tower gives of every sample computed once, for an adapter that begins at the projector.

In the profiles `projector` and `keys` the tower stays as it is; the rest of the prefix is computed anew in every step,
with a gradient through its frozen layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flexor.learner.lora.kept_encodings import KeptEncodings
from flexor.learner.lora.live_prefixes import pad_tokens
from flexor.learner.lora.sample_pool import Seen
from flexor.pi05.prefix import Prefix


class SightCache(KeptEncodings):
    """Prefixes of a pool's samples under the model as it is now, from what its tower saw."""

    about = "sight 2"

    def prefixes(self, rows: Sequence[int], encodings: Sequence[int]) -> Prefix:
        """The prefixes of samples, each in one of its encodings; prompts are padded to one length.

        Raises:
            PrefixStoreError: the disk refuses.
        """
        kept = self.kept(rows, encodings)
        device = self._model.token_embedding.weight.device
        tokens, mask = pad_tokens([sample["tokens"] for sample in kept])
        seen = torch.cat([sample["seen"] for sample in kept])
        return self._model.read(seen.to(device), tokens.to(device), None, mask.to(device))

    def _encode(self, seen: Seen) -> dict[str, Tensor]:
        """What `Pi05.look` gives [1, V, P, width], and the tokens [1, T] as they are."""
        return {"seen": self._model.look(seen.images), "tokens": seen.tokens}
