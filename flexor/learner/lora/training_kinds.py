"""Training kinds: which parameters a run changes, and by which optimiser, as its settings say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from flexor.learner.lora.factors import Factors
from flexor.learner.lora.settings import LoraSettings
from flexor.learner.lora.trained import Trained
from flexor.learner.lora.whole_weights import WholeWeights
from flexor.learner.muon import Muon
from flexor.pi05.model import Pi05


def _factors(model: Pi05, settings: LoraSettings) -> Trained:
    return Factors(model, settings.profile, settings.r, settings.lora_alpha, settings.seed, settings.ema)


def _weights(model: Pi05, settings: LoraSettings) -> Trained:
    return WholeWeights(model, settings.profile, settings.r, settings.lora_alpha, settings.ema)


def _adamw(parameters: Iterable[nn.Parameter], settings: LoraSettings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=settings.lr, betas=(0.9, 0.95), weight_decay=settings.weight_decay)


def _muon(parameters: Iterable[nn.Parameter], settings: LoraSettings) -> torch.optim.Optimizer:
    return Muon(parameters, lr=settings.lr, momentum=0.95, weight_decay=settings.weight_decay)


TRAINED: Mapping[str, Callable[[Pi05, LoraSettings], Trained]] = {"factors": _factors, "weights": _weights}
"""By LoraSettings.trains."""

OPTIMISERS: Mapping[str, Callable[[Iterable[nn.Parameter], LoraSettings], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "muon": _muon,
}
"""By LoraSettings.optimiser."""
