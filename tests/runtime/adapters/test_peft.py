"""The same adapter in plain PEFT and in the engine: the same chunks, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from random_adapters import ALPHA, RANK, draw_factors

from flexor.pi05.lora import pack
from flexor.pi05.lora_targets import target_sizes
from flexor.runtime.adapters.peft_files import CONFIG, MODEL, factors_of, read_config, read_model
from flexor.runtime.adapters.verification import Verifier
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import open_engine
from flexor.runtime.inference.torch_engine import load_model

STEPS = 3


def question(bundle: Bundle) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    config, rng = bundle.model_config, np.random.default_rng(1)
    size = config.vision.image_size
    images = rng.uniform(-1, 1, (2, 3, size, size)).astype(np.float32)
    tokens = rng.integers(0, config.vocab_size, 6)
    return images, tokens, rng.standard_normal((1, config.horizon, config.action_dim), np.float32)


def of_engine(bundle: Bundle, packed: Any) -> np.ndarray:
    images, tokens, noise = question(bundle)
    engine = open_engine(bundle, flow_steps=STEPS)
    engine.load_slot(1, packed)
    return engine.denoise(engine.encode(images, tokens, 1), noise, None, 1)[0]


def of_peft(bundle: Bundle, model: Any) -> np.ndarray:
    images, tokens, noise = map(torch.from_numpy, question(bundle))
    inner = model.get_base_model()
    with torch.inference_mode():
        prefix = inner.encode(images[None], tokens[None])
        return inner.denoise(prefix, noise, STEPS, None)[0].numpy()


def test_plain_peft_computes_with_our_folder_what_the_engine_does(
    micro_bundle: Bundle, write: Callable[..., Path], verifier: Verifier
) -> None:
    path = write(seed=3, size=0.3)
    peft = PeftModel.from_pretrained(load_model(micro_bundle, None), str(path))
    ours = of_engine(micro_bundle, verifier.verify(path).packed)
    base = of_engine(micro_bundle, None)
    np.testing.assert_allclose(of_peft(micro_bundle, peft), ours, rtol=1e-4, atol=1e-5)
    assert np.abs(ours - base).max() > 0.1 * base.std()
    targets = [name for name, module in peft.named_modules() if hasattr(module, "lora_A")]
    assert len(targets) == len(target_sizes(micro_bundle.model_config))


def test_the_engine_computes_with_what_plain_peft_saved_what_peft_does(micro_bundle: Bundle, tmp_path: Path) -> None:
    config = LoraConfig(r=RANK, lora_alpha=int(ALPHA), target_modules=sorted(target_sizes(micro_bundle.model_config)))
    peft: Any = get_peft_model(load_model(micro_bundle, None), config)
    drawn = draw_factors(micro_bundle.model_config, 5, 0.3)
    with torch.no_grad():
        for name, pair in drawn.items():
            module: Any = peft.get_base_model().get_submodule(name)
            for factor, linear in zip(pair, (module.lora_A["default"], module.lora_B["default"]), strict=True):
                linear.weight.copy_(torch.from_numpy(factor))
    peft.save_pretrained(str(tmp_path))
    rank, alpha = read_config((tmp_path / CONFIG).read_bytes(), CONFIG)
    factors = factors_of(read_model((tmp_path / MODEL).read_bytes(), MODEL), MODEL)
    packed = pack(micro_bundle.model_config, factors, alpha / rank, rank)
    np.testing.assert_allclose(of_engine(micro_bundle, packed), of_peft(micro_bundle, peft), rtol=1e-4, atol=1e-5)
