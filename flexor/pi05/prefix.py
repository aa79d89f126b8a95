"""What the prefix program leaves behind: keys and values that the action expert reads in every flow step."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Prefix:
    """Keys and values of images and prompt, one pair a layer.

    Attributes:
        keys, values: per layer [B, kv_heads, N, head_dim]; keys carry their rotary positions.
        mask: bool [B, N], True where a token is real; None when all are.
        offset: int64 [B], number of real tokens: the position of the first action.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    mask: Tensor | None
    offset: Tensor

    @property
    def batch(self) -> int:
        """B."""
        return self.offset.shape[0]

    def expand(self, count: int) -> Prefix:
        """One sample as `count` equal ones, without copying.

        Raises:
            ValueError: this prefix holds more than one sample.
        """
        if self.batch != 1:
            raise ValueError(f"expand needs a prefix of one sample, this one holds {self.batch}; take rows first")
        return replace(
            self,
            keys=tuple(key.expand(count, -1, -1, -1) for key in self.keys),
            values=tuple(value.expand(count, -1, -1, -1) for value in self.values),
            mask=None if self.mask is None else self.mask.expand(count, -1),
            offset=self.offset.expand(count),
        )
