"""Footprint: the memory that a prepared model takes, in bytes, counted from the config. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from flexor.pi05.config import GemmaConfig, Pi05Config

WEIGHT_BYTES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "int8w": 1.0, "fp8": 1.0, "bnb8": 1.0}
"""Of a weight, by the precision of its product; the scales of 8-bit products are a thousandth of it."""

WIDE = 4.0  # bytes of what is float32 throughout
SAMPLES = 8  # chunks on one prefix, as the entropy draws them
BESIDE = 128 << 20  # bytes that PyTorch and oneDNN take for themselves at their first products; 60 to 80 MiB measured


@dataclass(frozen=True, slots=True)
class Footprint:
    """Of one bundle on one device.

    Attributes:
        loading: at the most while the stored weights are read and checked.
        building: at the most while products are made of them, those that are made already included.
        running: at the most in a call.
    """

    loading: float
    building: float
    running: float

    @property
    def peak(self) -> float:
        """The most of all."""
        return max(self.loading, self.building, self.running)


def measure_footprint(
    config: Pi05Config, prefix: str, expert: str, views: int, steps: int, stored: float, mapped: bool, sets: int = 1
) -> Footprint:
    """What `flexor.pi05.program.Program` takes when the libraries are loaded.

    Args:
        prefix, expert: precisions of the two programs, of WEIGHT_BYTES.
        views: cameras.
        steps: of the flow.
        stored: bytes of the stored weights.
        mapped: they are looked at in their file and need no memory of their own; a GPU holds all of them meanwhile.
        sets: of the expert's weights, one for each slot that has its own.
    """
    narrow = min(WEIGHT_BYTES[prefix], WEIGHT_BYTES[expert])
    stream = WIDE if prefix == "fp32" else 2.0
    embedding = config.vocab_size * config.prefix.width
    weights = prefix_bytes(config, prefix) + sets * _expert_weights(config) * WEIGHT_BYTES[expert]
    kept = BESIDE + weights + embedding * stream + _tables(config, steps)
    whole = 0.0 if mapped else stored
    # Whether all are finite is asked tensor by tensor, on a copy of absolute values and three of truth values.
    loading = BESIDE + whole + embedding * (stored / config.parameter_count() + 3.0)
    # A product of 8 bits is rounded from a float32 copy, with two more on the way.
    largest = max(config.prefix.width * config.prefix.mlp_dim, config.expert.width * config.expert.mlp_dim)
    building = whole + kept + largest * WIDE * (3.0 if narrow < 2.0 else 1.0)
    return Footprint(loading, building, kept + _work(config, views))


def prefix_bytes(config: Pi05Config, precision: str) -> float:
    """What an adapter that changes image tower and prefix layers has of its own, besides the expert's weights."""
    return _prefix_weights(config) * WEIGHT_BYTES[precision]


def _prefix_weights(config: Pi05Config) -> int:
    """In products: SigLIP, the projector, Gemma; of its last layer only keys and values."""
    vision, prefix = config.vision, config.prefix
    layers = vision.depth * (4 * vision.width**2 + 2 * vision.width * vision.mlp_dim)
    last = 2 * prefix.width * prefix.kv_heads * prefix.head_dim
    return layers + vision.width * prefix.width + (prefix.depth - 1) * prefix.linear_parameters + last


def _expert_weights(config: Pi05Config) -> int:
    return config.expert.depth * config.expert.linear_parameters


def _tables(config: Pi05Config, steps: int) -> float:
    """Modulations of every step, as they are and doubled; the image stem; projections of actions."""
    vision, expert = config.vision, config.expert
    modulations = 3 * (steps + 1) * (2 * expert.depth + 1) * 3 * expert.width
    stem = (3 * vision.patch_size**2 + vision.tokens) * vision.width
    return WIDE * (modulations + stem + 2 * config.action_dim * expert.width)


def _work(config: Pi05Config, views: int) -> float:
    """The cache, twice (the expert's own keys stand beside it), and what one layer has in hand, in float32."""
    tokens = views * config.vision.tokens + config.max_prompt_tokens
    rows = SAMPLES * config.horizon
    cache = 2 * config.prefix.depth * config.prefix.kv_heads * config.prefix.head_dim * (2 * tokens + rows)
    vision = views * config.vision.tokens * (3 * config.vision.mlp_dim + 3 * config.vision.heads * config.vision.tokens)
    return WIDE * (
        cache + max(vision, _layer(config.prefix, tokens, tokens), _layer(config.expert, rows, tokens + rows))
    )


def _layer(layer: GemmaConfig, rows: int, seen: int) -> int:
    return rows * (4 * layer.mlp_dim + 4 * layer.width + 3 * layer.heads * seen)
