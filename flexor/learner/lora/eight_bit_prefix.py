"""Eight-bit prefix: what reads images and words in 8 bits, by bitsandbytes, while an adapter is learned.

LLM.int8(), Dettmers et al., arXiv 2208.07339, as transformers' `load_in_8bit` and PEFT's k-bit training have it: frozen
weights are held in 8 bits, gradients pass through them rounded. The expert, a tenth of Pi0.5, stays as it is.
"""

from __future__ import annotations

import torch
from torch import nn

from flexor.errors import FlexorError
from flexor.pi05.model import Pi05


def hold_in_8_bits(model: Pi05) -> tuple[str, ...]:
    """Replace the linear layers of image tower and prefix; the projector between them stays as it is.

    Args:
        model: on the CPU, without gradients; changed in place.

    Returns:
        The names of those that were replaced.

    Raises:
        FlexorError: bitsandbytes is not installed.
    """
    try:
        from bitsandbytes.nn.modules import Linear8bitLt
    except ModuleNotFoundError as error:
        raise FlexorError("load_in_8bit needs bitsandbytes; pip install 'flexor[torch]'") from error
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and _reads(name)]
    for name in linear:  # the last reference to a layer's own weights goes before the next is rounded
        model.set_submodule(name, _rounded(model.get_submodule(name), Linear8bitLt))
    return tuple(linear)


def _reads(name: str) -> bool:
    return name.startswith(("vision.layers.", "prefix_layers."))


def _rounded(linear: nn.Module, kind: type[nn.Linear]) -> nn.Module:
    assert isinstance(linear, nn.Linear)
    bias = linear.bias is not None
    held = kind(linear.in_features, linear.out_features, bias=bias, has_fp16_weights=False, threshold=0.0)  # type: ignore[call-arg]
    held.load_state_dict(linear.state_dict())
    return held.to(torch.device("cpu")).requires_grad_(False)  # it rounds when it is brought to its device
