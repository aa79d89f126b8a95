"""Selective bfloat16, as openpi's PyTorch model has it: large products narrow, what they are steered by in float32."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

# The stem of the image tower, Gemma's norms with the adaRMS Dense, and what lies outside both stacks: actions and time.
# The image tower's own norms are narrow there too.
_WIDE = re.compile(
    r"vision\.(patch_embedding\.|position_embedding$)|(prefix_layers|expert\.layers)\.\d+\.\w+_norm\."
    r"|prefix_norm\.|expert\.norm\.|action_(in|out)_proj\.|time_mlp_"
)


def dtype_of(name: str, dtype: torch.dtype) -> torch.dtype:
    """What a parameter of `Pi05` is stored in when the model computes in `dtype`; `name` as in its state_dict."""
    return torch.float32 if _WIDE.match(name) else dtype


@torch.no_grad()
def cast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Bring the parameters of a `Pi05` into the dtypes of a precision, in place, and return the model."""
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(dtype_of(name, dtype))
    return model


def follow(x: Tensor, weight: Tensor) -> Tensor:
    """x in the dtype of the stack that begins with `weight`, where that is narrower than float32.

    With float32 weights x stays as it is, and under autocast: then it is autocast, if anything, that narrows.
    """
    return x if weight.dtype == torch.float32 or _under_autocast(x) else x.to(weight.dtype)


def steady(x: Tensor) -> Tensor:
    """x in float32 under autocast, which narrows products alone, whatever it was read from; as it is otherwise."""
    return x.float() if _under_autocast(x) else x


def _under_autocast(x: Tensor) -> bool:
    return torch.is_autocast_enabled(x.device.type)
