"""Bnb8: a product by bitsandbytes (LLM.int8()), for memory: as `load_in_8bit` has it, and as slow."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # on a CPU it warns of kernels that 8 bits do not need
from bitsandbytes.nn.modules import Int8Params, Linear8bitLt  # noqa: E402

THRESHOLD = 6.0
"""Channels in which an activation is larger than this are multiplied in their own precision (Dettmers et al., arXiv
2208.07339), as in transformers' `load_in_8bit`."""


class Bnb8:
    """8-bit weights, a scale an output channel; 8-bit activations but for channels with outliers.

    Which channels these are is looked up on the host, so that no CUDA graph can hold it.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._linear = Linear8bitLt(
            weight.shape[1], weight.shape[0], bias=False, has_fp16_weights=False, threshold=THRESHOLD, device="meta"
        )
        # It rounds when it is brought to its device from the CPU.
        wide = weight.detach().to("cpu", torch.float32)
        parameter: Any = Int8Params(wide, requires_grad=False, has_fp16_weights=False)  # pyright: ignore[reportCallIssue]
        self._linear.weight = parameter.to(weight.device)
        self._bias = None if bias is None else bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        """See Product."""
        found = self._linear(x.reshape(-1, x.shape[-1])).to(x.dtype)
        if self._bias is not None:
            found = found + self._bias.to(x.dtype)
        return found.view(*x.shape[:-1], -1)

    def added(self, x: Tensor, to: Tensor) -> Tensor:
        """See Product."""
        return to + self(x)
