"""StaticEncoder: the prefix program on buffers that never move, for prompts of any length up to a fixed one."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from flexor.pi05.program import Program


class StaticEncoder:
    """Nothing in `run` depends on a number that the host would have to wait for, and no shape on the prompt.

    What is past the end of a prompt is computed and masked: the numbers are those of the prompt alone, to rounding.

    Args:
        program: prepared; its buffers are used, too.
        views: cameras.
        stream: dtype of the cache.

    Attributes:
        images: float32 [V, 3, S, S].
        tokens: int64 [longest], the prompt's first.
        weights: those of the program, with a projector of its own into which that of a slot is copied.
        count: int64 [], the tokens of the prefix: those of the images, and of the prompt its real ones.
        keys, values: [layers, capacity, head_dim], zero past what was computed.
        capacity: tokens of the longest prefix.
    """

    def __init__(self, program: Program, views: int, stream: torch.dtype) -> None:
        config, device = program.config, program.turns(1).device
        vision, prefix, longest = config.vision, config.prefix, config.max_prompt_tokens
        self._program, self._seen = program, views * vision.tokens
        base = program.prefix_weights(0)
        self.weights = base.with_projector(copy.deepcopy(base.projector))
        self.capacity = self._seen + longest
        program.turns(self.capacity + config.horizon)  # never grown, so never moved, from here on
        self.images = torch.zeros(views, 3, vision.image_size, vision.image_size, device=device)
        self.tokens = torch.zeros(longest, dtype=torch.int64, device=device)
        self.count = torch.full((), self.capacity, dtype=torch.int64, device=device)
        self.keys = torch.zeros(prefix.depth, self.capacity, prefix.head_dim, dtype=stream, device=device)
        self.values = torch.zeros_like(self.keys)

    def put(self, images: Tensor, tokens: Tensor) -> None:
        """Copy a question in.

        Raises:
            ValueError: another number or size of images, or a prompt that is empty or too long.
        """
        if images.shape != self.images.shape or tokens.ndim != 1 or not 1 <= len(tokens) <= len(self.tokens):
            raise ValueError(
                f"images {list(images.shape)} and tokens {list(tokens.shape)}; expected {list(self.images.shape)} and "
                f"[T] with T from 1 to {len(self.tokens)}"
            )
        self.images.copy_(images)
        self.tokens[: len(tokens)].copy_(tokens)
        self.count.fill_(self._seen + len(tokens))

    def run(self, length: int) -> None:
        """Read the first `length` tokens of the buffer, at least as many as the prompt has."""
        size = self._seen + length
        past = torch.arange(size, device=self.count.device) >= self.count
        bias = torch.zeros(size, device=past.device).masked_fill_(past, -torch.inf)
        keys, values = self._program.read(self.images, self.tokens[:length], self.weights, bias)
        self.keep(keys, values)

    def keep(self, keys: list[Tensor], values: list[Tensor]) -> None:
        """Write what was read, per layer [N, head_dim], to the buffers."""
        size = len(keys[0])
        for buffer, found in ((self.keys, keys), (self.values, values)):
            buffer[:, :size] = torch.stack(found)
            buffer[:, size:] = 0.0  # a number that is not finite would reach the scores through any mask
