"""Eight-bit prefix: what reads images and words in 8 bits, by bitsandbytes, while an adapter is learned.

LLM.int8(), Dettmers et al., arXiv 2208.07339, as transformers' `load_in_8bit` and PEFT's k-bit training have it: frozen
weights are held in 8 bits, gradients pass through them rounded. The expert, a tenth of Pi0.5, stays as it is.
"""

from __future__ import annotations

import ctypes
import mmap

import torch
from torch import nn

from flexor.errors import FlexorError
from flexor.pi05.model import Pi05

MADV_PAGEOUT = 21  # linux/mman-common.h; loses nothing, unlike MADV_DONTNEED on memory that is not mapped from a file


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


def _give_back(weight: torch.Tensor) -> None:
    """Let the kernel take back at once the pages of a mapped file that were read for a weight.

    Only advice: no harm where it is not mapped, or the kernel does not know how.
    """
    first = -(-weight.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (weight.data_ptr() + weight.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), MADV_PAGEOUT)


def _reads(name: str) -> bool:
    return name.startswith(("vision.layers.", "prefix_layers."))


def _rounded(linear: nn.Module, kind: type[nn.Linear]) -> nn.Module:
    assert isinstance(linear, nn.Linear)
    bias = linear.bias is not None
    held = kind(linear.in_features, linear.out_features, bias=bias, has_fp16_weights=False, threshold=0.0)  # type: ignore[call-arg]
    held.load_state_dict(linear.state_dict())
    _give_back(linear.weight)
    return held.to(torch.device("cpu")).requires_grad_(False)  # it rounds when it is brought to its device
