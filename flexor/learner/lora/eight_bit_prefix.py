"""Eight-bit prefix: what reads images and words in 8 bits, by bitsandbytes, while an adapter is learned.

LLM.int8(), Dettmers et al., arXiv 2208.07339, as transformers' `load_in_8bit` and PEFT's k-bit training have it: frozen
weights are held in 8 bits, gradients pass through them rounded. The expert, a tenth of Pi0.5, stays as it is.
"""

from __future__ import annotations

import torch
from torch import nn

from flexor.errors import FlexorError
from flexor.pi05.model import Pi05


def hold_in_8_bits(model: Pi05) -> int:
    """Replace the linear layers of image tower and prefix; the projector between them stays as it is.

    Args:
        model: on the CPU, without gradients; changed in place.

    Returns:
        How many were replaced.

    Raises:
        FlexorError: bitsandbytes is not installed.
    """
    try:
        from bitsandbytes.nn.modules import Linear8bitLt
    except ModuleNotFoundError as error:
        raise FlexorError("load_in_8bit needs bitsandbytes; pip install 'flexor[torch]'") from error
    count = 0
    for tower in (model.vision.layers, model.prefix_layers):
        for owner in [module for module in tower.modules() if not isinstance(module, nn.Linear)]:
            for name, linear in list(owner.named_children()):
                if isinstance(linear, nn.Linear):
                    setattr(owner, name, _rounded(linear, Linear8bitLt))
                    count += 1
    return count


def _rounded(linear: nn.Linear, kind: type[nn.Linear]) -> nn.Module:
    bias = linear.bias is not None
    held = kind(linear.in_features, linear.out_features, bias=bias, has_fp16_weights=False, threshold=0.0)  # type: ignore[call-arg]
    held.load_state_dict(linear.state_dict())
    return held.to(torch.device("cpu")).requires_grad_(False)  # it rounds when it is brought to its device
