"""Random bundle: any preset's sizes, or a slice of its layers, with random weights in which every part matters.

For timing, exporting and measuring memory where the real weights are not at hand. Weights are drawn and written one by
one, so that a full-size bundle takes the memory of its largest tensor.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from flexor.errors import FlexorError
from flexor.export.checkpoints.weight_stream import round_to_bf16
from flexor.pi05.config import PRESETS, Pi05Config
from flexor.pi05.init import draw_named
from flexor.pi05.model import Pi05
from flexor.pi05.normalize import NormStats
from flexor.pi05.prompt import build_word_tokenizer
from flexor.runtime.inference.action_space import FRANKA_DELTA_ACTIONS
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.bundle_config import BundleConfig
from flexor.runtime.inference.bundle_writer import write_bundle

WORDS = ("put", "the", "red", "blue", "cube", "on", "plate", "nothing")
CAMERAS = ("agentview", "robot0_eye_in_hand")
ACTION_DIM, STATE_DIM = 7, 8
CHUNK = 1 << 24  # numbers that are rounded at once

OnTensor = Callable[[int, int], None]
"""Told (tensors written, tensors in all)."""


def sliced(preset: str, layers: int | None = None, vocabulary: int | None = None, horizon: int = 10) -> Pi05Config:
    """A preset's sizes with fewer layers in each stack and fewer words; every layer as wide as in the preset.

    Args:
        layers: of the image tower, the prefix and the expert; the preset's own when None.
        vocabulary: rows of the token embedding; the preset's own when None.
        horizon: actions of a chunk.

    Raises:
        FlexorError: no such preset, or more layers or words than it has.
    """
    if preset not in PRESETS:
        raise FlexorError(f"preset {preset!r} is unknown; there are {', '.join(PRESETS)}")
    whole = PRESETS[preset]
    for name, given, most in (
        ("layers", layers, min(whole.vision.depth, whole.prefix.depth)),
        ("vocabulary", vocabulary, whole.vocab_size),
    ):
        if given is not None and not 1 <= given <= most:
            raise FlexorError(f"{name} is {given}; {preset} allows 1 to {most}")
    stacks = (
        {}
        if layers is None
        else {name: replace(getattr(whole, name), depth=layers) for name in ("vision", "prefix", "expert")}
    )
    return replace(whole, **stacks, horizon=horizon, vocab_size=vocabulary or whole.vocab_size)


def random_config(name: str, model: Pi05Config, rtc_max_delay: int = 0) -> BundleConfig:
    """What bundle.json says of random weights for two cameras and a Franka."""
    return BundleConfig(
        name=name,
        model=model,
        cameras=CAMERAS,
        state_dim=STATE_DIM,
        normalization="quantile",
        prompt_state=True,
        replan=5,
        rtc_max_delay=rtc_max_delay,
        flow_steps=10,
        hz=20.0,
        action_space=FRANKA_DELTA_ACTIONS,
        origin={"weights": "random"},
    )


def write_random_bundle(
    out: Path, model: Pi05Config, name: str, on_tensor: OnTensor = lambda done, total: None
) -> Bundle:
    """Write such a bundle, always the same for the same sizes.

    Raises:
        FlexorError: `out` exists already, or the disk is too small for it.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    size, free = 2 * model.parameter_count(), shutil.disk_usage(out.parent).free
    if size > free:
        raise FlexorError(f"{out} would take {size / 1e9:.1f} GB and {free / 1e9:.1f} GB are free")
    generator = torch.Generator().manual_seed(3)
    stats = {
        key: NormStats.measure(torch.randn(999, dim, generator=generator).numpy())
        for key, dim in (("state", STATE_DIM), ("actions", ACTION_DIM))
    }
    return write_bundle(
        out,
        config=random_config(name, model),
        weights=lambda file: _write_weights(file, model, on_tensor),
        tokenizer_json=build_word_tokenizer(WORDS, model.vocab_size).to_str(),
        norm_stats=stats,
    )


def _write_weights(path: Path, config: Pi05Config, on_tensor: OnTensor) -> None:
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Pi05(config).state_dict().items()}
    header, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + 2 * shape.numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for done, (name, shape) in enumerate(shapes.items(), 1):
            numbers = draw_named(name, shape).numpy().reshape(-1)
            for start in range(0, numbers.size, CHUNK):
                stream.write(round_to_bf16(numbers[start : start + CHUNK]).data)
            on_tensor(done, len(shapes))
