"""Frozen base: the model that an adapter is learned on, in no more memory than its numbers need.

Under bf16 products read their weights in bfloat16 anyway, so they are held so, and what a bundle stores in bfloat16
stays mapped from its file: pages that the kernel shares with a server of the same bundle and may drop. Where 8 bits are
asked for, one layer after the other is rounded from there, and the whole is never held in float32.
"""

from __future__ import annotations

import torch
from torch import nn

from flexor.learner.lora.eight_bit_prefix import hold_in_8_bits
from flexor.learner.lora.settings import LoraSettings
from flexor.pi05.model import Pi05
from flexor.pi05.precision import dtype_of
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.torch_engine import load_model


def open_frozen_base(bundle: Bundle, settings: LoraSettings) -> Pi05:
    """The model of a bundle on the CPU, without gradients, for the precision of `settings`.

    Raises:
        FlexorError: the bundle holds no weights that are its model's, or bitsandbytes is missing and asked for.
    """
    model = load_model(bundle, None)
    model.recompute = settings.gradient_checkpointing
    rounded = hold_in_8_bits(model) if settings.load_in_8bit else ()
    kinds = dict(model.named_modules())
    for name, parameter in model.named_parameters():
        owner = name.rpartition(".")[0]
        if owner not in rounded:
            narrow = settings.precision == "bf16" and _may_be_narrow(name, kinds[owner], parameter.dtype)
            parameter.data = parameter.data.to(torch.bfloat16 if narrow else torch.float32)
    return model


def _may_be_narrow(name: str, owner: nn.Module, stored: torch.dtype) -> bool:
    """Whether autocast computes the same numbers from a parameter in bfloat16 as from one in float32."""
    if dtype_of(name, torch.bfloat16) == torch.float32:
        return False
    # autocast keeps norms in float32, and the CPU's want weights of the same dtype
    return isinstance(owner, nn.Linear) or (stored == torch.bfloat16 and isinstance(owner, nn.Embedding))
