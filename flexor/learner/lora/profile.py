"""Profile: which projections of a model an adapter changes, and how they get their factors.

PEFT wraps the modules (https://huggingface.co/docs/peft), so that what is trained here is what plain PEFT loads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from flexor.errors import FlexorError
from flexor.pi05.config import Pi05Config
from flexor.pi05.lora_targets import ALL_PAIRS, PREFIX_PAIRS, target_sizes
from flexor.pi05.model import Pi05

ADAPTER = "default"  # what PEFT calls the only one


def expert_targets(config: Pi05Config) -> list[str]:
    """Projections of the action expert, action_in and action_out: what it does with what it sees."""
    return [name for name in target_sizes(config) if name not in PREFIX_PAIRS]


def full_targets(config: Pi05Config) -> list[str]:
    """Those of the expert and of everything that reads images and words; only weights can carry them."""
    return list(target_sizes(config, ALL_PAIRS))


def projector_targets(config: Pi05Config) -> list[str]:
    """Those of the expert and the one projection between image tower and prefix: colours and light pass through it."""
    return list(target_sizes(config))


def keys_targets(config: Pi05Config) -> list[str]:
    """Those of the expert, the projector, and the keys and values of every prefix layer: what the expert reads."""
    layers = [f"prefix_layers.{i}.attention.{name}_proj" for i in range(config.prefix.depth) for name in "kv"]
    return [*layers, *projector_targets(config)]


PROFILES: Mapping[str, Callable[[Pi05Config], list[str]]] = {
    "expert": expert_targets,
    "projector": projector_targets,
    "keys": keys_targets,
    "full": full_targets,
}
"""By name: the projections, as `Pi05` names them."""

DEFAULT = "projector"
"""The smallest that fixes a changed world (docs/learning.md)."""

SHALLOW = ("expert", "projector")
"""The profiles that leave image tower and prefix layers as they are: their adapters fit every engine, exported graphs
too, and what they leave alone may be held in 8 bits."""


def projections(model: Pi05, profile: str) -> dict[str, nn.Linear]:
    """The projections of a profile by name.

    Raises:
        FlexorError: the model does not have them.
    """
    targets, found = PROFILES[profile](model.config), dict[str, nn.Linear]()
    modules: dict[str, nn.Module] = dict(model.named_modules())
    for name in targets:
        if isinstance(module := modules.get(name), nn.Linear):
            found[name] = module
    if absent := [name for name in targets if name not in found]:
        raise FlexorError(
            f"profile {profile}: the model has no projections {absent[:3]}; expected {len(targets)} linear"
        )
    return found


def add_lora(model: Pi05, profile: str, rank: int, alpha: float, seed: int) -> dict[str, nn.Parameter]:
    """Give the projections of a profile their factors and freeze everything else.

    A is drawn as PEFT draws it (uniform, after Kaiming), from `seed`; B is zero, so that nothing changes yet.

    Args:
        model: changed in place.
        profile: key of PROFILES.
        rank: r.
        alpha: what B A is scaled by, times r.

    Returns:
        The trainable factors by name.

    Raises:
        FlexorError: the model does not have the projections that the profile names.
    """
    targets = list(projections(model, profile))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, lora_dropout=0.0, bias="none")  # type: ignore[arg-type]
        inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    wrapped = [name for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    if sorted(wrapped) != sorted(targets):
        odd = sorted(set(wrapped) ^ set(targets))
        raise FlexorError(f"profile {profile}: PEFT wrapped {len(wrapped)} modules of {len(targets)}; odd: {odd[:3]}")
    factors = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for factor in factors.values():
        factor.data = factor.data.float()  # PEFT rounds them, A as it was drawn, to the dtype of their weight
    return factors


def parameter_names(projection: str) -> tuple[str, str]:
    """What PEFT calls A and B of a projection among the model's parameters."""
    return f"{projection}.lora_A.{ADAPTER}.weight", f"{projection}.lora_B.{ADAPTER}.weight"


def factors_of(model: Pi05) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """A [r, in] and B [out, r], float32, as they are now, by the name of the projection."""

    def array(factor: nn.Module) -> NDArray[np.float32]:
        weight = factor.weight
        assert isinstance(weight, torch.Tensor)
        return weight.detach().float().cpu().numpy().copy()  # not a view of what is trained on

    wrapped = [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    return {name: (array(module.lora_A[ADAPTER]), array(module.lora_B[ADAPTER])) for name, module in wrapped}
