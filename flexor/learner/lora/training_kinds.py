"""Training kinds: which parameters a run changes, and by which optimisers, as its settings say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from flexor.learner.lora.factors import Factors
from flexor.learner.lora.settings import LoraSettings
from flexor.learner.lora.trained import Trained
from flexor.learner.lora.whole_weights import WholeWeights
from flexor.learner.muon import Muon
from flexor.learner.optimiser import is_hidden_matrix
from flexor.pi05.model import Pi05

BESIDE_MUON = 1 / 3
"""Rate of AdamW beside Muon's, for what is_hidden_matrix leaves out: projector, action projections, foresight's."""

Named = Mapping[str, nn.Parameter]
Optimisers = Sequence[tuple[torch.optim.Optimizer, float]]
"""Each with its peak rate."""


def _factors(model: Pi05, settings: LoraSettings) -> Trained:
    return Factors(model, settings.profile, settings.r, settings.lora_alpha, settings.seed, settings.ema)


def _weights(model: Pi05, settings: LoraSettings) -> Trained:
    return WholeWeights(model, settings.profile, settings.r, settings.lora_alpha, settings.ema)


def _adamw(named: Named, settings: LoraSettings, share: float = 1.0) -> Optimisers:
    rate = share * settings.lr
    made = torch.optim.AdamW(named.values(), lr=rate, betas=(0.9, 0.95), weight_decay=settings.weight_decay)
    return [(made, rate)]


def _muon(named: Named, settings: LoraSettings) -> Optimisers:
    hidden = {name: parameter for name, parameter in named.items() if is_hidden_matrix(name, parameter)}
    rest = {name: parameter for name, parameter in named.items() if name not in hidden}
    made = Muon(hidden.values(), lr=settings.lr, momentum=0.95, weight_decay=settings.weight_decay)
    return [(made, settings.lr), *(_adamw(rest, settings, BESIDE_MUON) if rest else [])]


TRAINED: Mapping[str, Callable[[Pi05, LoraSettings], Trained]] = {"factors": _factors, "weights": _weights}
"""By LoraSettings.trains."""

OPTIMISERS: Mapping[str, Callable[[Named, LoraSettings], Optimisers]] = {"adamw": _adamw, "muon": _muon}
"""By LoraSettings.optimiser."""
