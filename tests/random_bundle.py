"""A bundle of any preset's sizes with random weights in which every part matters, drawn and written one by one.

    python tests/random_bundle.py pi05 runs/pi05-random        6.7 GB, at most 4.5 GB of memory, some minutes

The numbers are those of the comparison with openpi (docs/parity.md), rounded to bfloat16.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from exported_bundles import WORDS, random_config
from pi05.parity.weights import draw

from flexor.export.checkpoints.weight_stream import round_to_bf16
from flexor.pi05.config import PRESETS, Pi05Config
from flexor.pi05.model import Pi05
from flexor.pi05.normalize import NormStats
from flexor.pi05.prompt import build_word_tokenizer
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.bundle_writer import write_bundle


def write_random(path: Path, model: Pi05Config, name: str) -> Bundle:
    """Write such a bundle for two cameras and a Franka."""
    generator = torch.Generator().manual_seed(3)
    stats = {
        key: NormStats.measure(torch.randn(999, dim, generator=generator).numpy())
        for key, dim in (("state", 8), ("actions", 7))
    }
    return write_bundle(
        path,
        config=random_config(name, model, rtc_max_delay=0),
        weights=lambda file: _write_weights(file, model),
        tokenizer_json=build_word_tokenizer(WORDS, model.vocab_size).to_str(),
        norm_stats=stats,
    )


def _write_weights(path: Path, config: Pi05Config) -> None:
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
        for name, shape in shapes.items():
            numbers = draw(name, shape).numpy().reshape(-1)
            for start in range(0, numbers.size, 1 << 24):
                stream.write(round_to_bf16(numbers[start : start + (1 << 24)]).data)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--horizon", type=int, default=10)
    given = parser.parse_args()
    torch.set_num_threads(1)
    made = write_random(given.out, replace(PRESETS[given.preset], horizon=given.horizon), f"{given.preset}-random")
    print(f"{made.id}: {made.model_config.parameter_count():,} weights in {made.path}")


if __name__ == "__main__":
    main()
