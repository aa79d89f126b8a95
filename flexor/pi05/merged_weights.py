"""MergedWeights: weights with an adapter merged in, one at a time, before anything is rounded or fused."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flexor.pi05.config import Pi05Config
from flexor.pi05.lora import check_packed, is_deep, packed_places
from flexor.pi05.lora_targets import ALL_PAIRS, PAIRS, target_sizes
from flexor.pi05.model import Pi05

Packed = Mapping[str, NDArray[np.float32]]
"""An adapter as `flexor.pi05.lora` packs it."""


def own_weights(model: Pi05) -> dict[str, Tensor]:
    """The weights of a model that an adapter may change, by their projection, and their biases; not copied."""
    parameters = dict(model.named_parameters())
    targets = target_sizes(model.config, ALL_PAIRS)
    own = {name: parameters[f"{name}.weight"].detach() for name in targets}
    return own | {bias: parameters[bias].detach() for name in targets if (bias := f"{name}.bias") in parameters}


class MergedWeights:
    """W + B A of every projection.

    Args:
        config: of the model.
        own: W, as from `own_weights`.
        packed: A and B.
        device: where they are added.

    Raises:
        ValueError: an adapter of another model, or one that holds numbers that are not finite.
    """

    def __init__(self, config: Pi05Config, own: Mapping[str, Tensor], packed: Packed, device: torch.device) -> None:
        check_packed(config, packed)
        self._own, self._device = own, device
        self._packed = {
            name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in packed.items()
        }
        self._places = packed_places(config, ALL_PAIRS if is_deep(packed) else PAIRS)

    def __call__(self, name: str) -> Tensor:
        """The merged weight of a projection, float32 [out, in], or a bias as it is.

        Raises:
            ValueError: a sum that is not finite.
        """
        own = self._own[name].to(self._device, torch.float32)
        if name not in self._places:
            return own
        pair, layer, _, rows = self._places[name]
        a, b = self._packed[f"{pair}_a"], self._packed[f"{pair}_b"]
        if layer is not None:
            a, b = a[layer], b[layer]
        merged = torch.addmm(own, b[rows], a)
        if not merged.isfinite().all():
            raise ValueError(
                f"{pair}_b times {pair}_a added to {name} is not finite; expected an adapter of finite size"
            )
        return merged
