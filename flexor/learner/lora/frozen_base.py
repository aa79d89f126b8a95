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
    products = {
        f"{name}.{kind}"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        for kind in ("weight", "bias")
    }
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[0] not in rounded:
            parameter.data = parameter.data.to(_held(name, parameter.dtype, settings.precision, name in products))
    return model


def _held(name: str, stored: torch.dtype, precision: str, product: bool) -> torch.dtype:
    """What a parameter is held in; autocast computes with the same numbers as if it were float32."""
    if precision == "fp32" or dtype_of(name, torch.bfloat16) == torch.float32:
        return torch.float32
    return torch.bfloat16 if product or stored == torch.bfloat16 else torch.float32
