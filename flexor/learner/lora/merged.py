"""Merged: a bundle of its own, whose weights carry what an adapter learned; for adapters that cannot be swapped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer

from flexor.learner.lora.factors import Factors
from flexor.learner.lora.profile import ADAPTER
from flexor.pi05.model import Pi05
from flexor.pi05.normalize import NormStats
from flexor.runtime.inference.bundle import NORM_STATS, TOKENIZER, Bundle
from flexor.runtime.inference.bundle_writer import write_bundle
from flexor.runtime.inference.torch_engine import load_model


@torch.no_grad()
def write_merged(out: Path, base: Bundle, model: Pi05, factors: Factors, origin: dict[str, Any]) -> Bundle:
    """Write the averaged factors into the weights of `base`, as a bundle.

    Args:
        out: folder of the new bundle; a bundle that lies there is replaced.
        base: whose tokenizer, statistics and description it keeps.
        model: that carries the factors.
        factors: its factors.
        origin: what bundle.json says of where it came from.

    Raises:
        BundleError: `out` is something else than a bundle.
    """
    # The base's own numbers, not those that the learner holds: they may be narrower. Some are mapped from its file.
    weights = {name: tensor.numpy() for name, tensor in load_model(base, torch.float32).state_dict().items()}
    with factors.averaged():
        for name, module in model.named_modules():
            if isinstance(module, LoraLayer):
                learned = module.get_delta_weight(ADAPTER).float().cpu().numpy()  # type: ignore[operator]
                weights[f"{name}.weight"] = weights[f"{name}.weight"] + learned
    stats = json.loads((base.path / NORM_STATS).read_text())
    return write_bundle(
        out,
        config=replace(base.config, name=out.name, origin=origin),
        weights=weights,
        tokenizer_json=(base.path / TOKENIZER).read_text(),
        norm_stats={name: NormStats.from_dict(values) for name, values in stats.items()},
        replace=True,
    )
