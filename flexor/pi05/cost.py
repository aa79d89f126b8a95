"""What one call costs: floating-point operations and bytes read, counted from the config. Needs no torch.

Counted is what has to be done: modulations and rotary positions are tables, and of the prefix's last layer only keys
and values are computed. Activations are left out: they are small beside the weights, and stay in caches.
"""

from __future__ import annotations

from dataclasses import dataclass

from flexor.pi05.config import GemmaConfig, Pi05Config


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one phase.

    Attributes:
        flops: multiplications and additions, two for each weight that meets a token.
        bytes: read from memory: the weights, and in the expert's steps the prefix cache.
    """

    flops: float
    bytes: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: int) -> Cost:
        return Cost(times * self.flops, times * self.bytes)

    def floor_s(self, flops_per_s: float, bytes_per_s: float) -> float:
        """No machine that computes and reads so fast can be quicker, seconds."""
        return max(self.flops / flops_per_s, self.bytes / bytes_per_s)


def vision_cost(config: Pi05Config, views: int, weight_bytes: float) -> Cost:
    """SigLIP and the projector, on `views` images."""
    vision, tokens = config.vision, config.vision.tokens
    layers = vision.depth * (4 * vision.width**2 + 2 * vision.width * vision.mlp_dim)
    weights = layers + 3 * vision.patch_size**2 * vision.width + vision.width * config.prefix.width
    scores = 4 * tokens**2 * vision.width * vision.depth
    return Cost(views * (2 * tokens * weights + scores), weights * weight_bytes)


def prefix_cost(config: Pi05Config, tokens: int, weight_bytes: float) -> Cost:
    """Gemma on all `tokens`, those of images included."""
    prefix = config.prefix
    whole = prefix.depth - 1
    weights = whole * _weights(prefix) + _keys_values(prefix)
    scores = 4 * tokens**2 * prefix.heads * prefix.head_dim * whole
    return Cost(2 * tokens * weights + scores, weights * weight_bytes)


def step_cost(config: Pi05Config, tokens: int, samples: int, weight_bytes: float, cache_bytes: float) -> Cost:
    """One flow step of the expert for `samples` chunks on a prefix of `tokens`.

    Args:
        cache_bytes: of each number of the prefix's keys and values.
    """
    expert, rows = config.expert, samples * config.horizon
    weights = expert.depth * _weights(expert) + 2 * config.action_dim * expert.width
    scores = 4 * rows * (tokens + config.horizon) * expert.heads * expert.head_dim * expert.depth
    cache = 2 * expert.depth * expert.kv_heads * expert.head_dim * tokens * cache_bytes
    return Cost(2 * rows * weights + scores, weights * weight_bytes + cache)


def call_cost(
    config: Pi05Config,
    views: int,
    prompt_tokens: int,
    steps: int,
    samples: int = 1,
    prefix_bytes: float = 2,
    expert_bytes: float = 2,
) -> dict[str, Cost]:
    """Every phase of one call: vision, prefix, expert (all steps).

    Args:
        views: cameras.
        prompt_tokens: real ones, or as many as are computed.
        steps: of the flow.
        samples: chunks on one prefix.
        prefix_bytes, expert_bytes: of a weight: 4 for fp32, 2 for bf16, 1 for 8 bits; the cache is 2 bytes a number,
            or 4 beside a float32 expert.
    """
    tokens = views * config.vision.tokens + prompt_tokens
    step = step_cost(config, tokens, samples, expert_bytes, max(2.0, expert_bytes))
    return {
        "vision": vision_cost(config, views, prefix_bytes),
        "prefix": prefix_cost(config, tokens, prefix_bytes),
        "expert": step * steps,
    }


def _weights(layer: GemmaConfig) -> int:
    """Of one layer's linear maps."""
    attention = 2 * layer.width * layer.heads * layer.head_dim
    return attention + _keys_values(layer) + 3 * layer.width * layer.mlp_dim


def _keys_values(layer: GemmaConfig) -> int:
    return 2 * layer.width * layer.kv_heads * layer.head_dim
