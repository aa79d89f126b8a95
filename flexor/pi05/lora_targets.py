"""What adapters may change: projections by pair, with their names and sizes. Needs no torch.

Projections that read the same input are one pair. Which of them an adapter may change depends on what carries it: all
of ALL_PAIRS where weights are merged, PAIRS where exported graphs take an adapter as inputs. The time MLP and the
adaRMS Dense are in neither, so that what flow time does can be computed beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flexor.pi05.config import GemmaConfig, Pi05Config

Pairs = Mapping[str, tuple[str, ...]]
"""By pair: the projections that it holds, in the order of their rows, as their layer or the model names them."""

_QKV = ("attention.q_proj", "attention.k_proj", "attention.v_proj")
_GATE_UP = ("mlp.gate_proj", "mlp.up_proj")

LAYER_PAIRS: Pairs = {"qkv": _QKV, "o": ("attention.o_proj",), "gate_up": _GATE_UP, "down": ("mlp.down_proj",)}
"""Of every expert layer."""

OUTER_PAIRS: Pairs = {"action_in": ("action_in_proj",), "action_out": ("action_out_proj",)}
"""Of the expert outside its layers."""

EXPERT_PAIRS = LAYER_PAIRS | OUTER_PAIRS
PREFIX_PAIRS: Pairs = {"projector": ("projector",)}
"""Between what sees and what reads: colours, light and places pass through it."""

PAIRS = PREFIX_PAIRS | EXPERT_PAIRS
"""What every engine takes."""

TOWER_PAIRS: Pairs = {
    "tower_qkv": ("q_proj", "k_proj", "v_proj"),
    "tower_o": ("o_proj",),
    "tower_fc1": ("fc1",),
    "tower_fc2": ("fc2",),
}
"""Of every layer of the image tower."""

READER_PAIRS: Pairs = {f"reader_{pair}": names for pair, names in LAYER_PAIRS.items()}
"""Of every layer that reads images and words; of the last one only keys and values are ever used."""

DEEP_PAIRS = TOWER_PAIRS | READER_PAIRS
ALL_PAIRS = DEEP_PAIRS | PAIRS

_STACKS: Mapping[str, Pairs] = {
    "vision.layers": TOWER_PAIRS,
    "prefix_layers": READER_PAIRS,
    "expert.layers": LAYER_PAIRS,
}


def target_sizes(config: Pi05Config, pairs: Pairs = PAIRS) -> dict[str, tuple[int, int]]:
    """The projections that an adapter of `pairs` may change, by their name in `Pi05`: numbers of inputs and outputs."""
    used = set(_QKV[1:])
    last = f"prefix_layers.{config.prefix.depth - 1}."
    return {
        path: size
        for path, size in all_sizes(config, pairs).items()
        if not path.startswith(last) or path.removeprefix(last) in used
    }


def all_sizes(config: Pi05Config, pairs: Pairs) -> dict[str, tuple[int, int]]:
    """As target_sizes, with what of the last prefix layer nobody uses: that has its place in packed tensors, too."""
    vision = config.vision
    inner = {f"{name}_proj": (vision.width, vision.width) for name in "qkvo"}
    inner |= {"fc1": (vision.width, vision.mlp_dim), "fc2": (vision.mlp_dim, vision.width)}
    layer_sizes = {
        "vision.layers": inner,
        "prefix_layers": _gemma_sizes(config.prefix),
        "expert.layers": _gemma_sizes(config.expert),
    }
    width = config.expert.width
    outer = {
        "projector": (vision.width, config.prefix.width),
        "action_in_proj": (config.action_dim, width),
        "action_out_proj": (width, config.action_dim),
    }
    found: dict[str, tuple[int, int]] = {}
    for pair, names in pairs.items():
        stack = stack_of(pair)
        for group in paths(config, pair, names):
            for path, name in zip(group, names, strict=True):
                found[path] = outer[path] if stack is None else layer_sizes[stack][name]
    return found


def stack_of(pair: str) -> str | None:
    """The layers that a pair is of, as `Pi05` names them; None outside of layers."""
    return next((stack for stack, pairs in _STACKS.items() if pair in pairs), None)


def paths(config: Pi05Config, pair: str, names: Sequence[str]) -> list[list[str]]:
    """Full names of a pair's projections, layer by layer; one list of them outside of layers."""
    stack = stack_of(pair)
    if stack is None:
        return [list(names)]
    depths = {
        "vision.layers": config.vision.depth,
        "prefix_layers": config.prefix.depth,
        "expert.layers": config.expert.depth,
    }
    return [[f"{stack}.{layer}.{name}" for name in names] for layer in range(depths[stack])]


def _gemma_sizes(gemma: GemmaConfig) -> dict[str, tuple[int, int]]:
    width, queries, keys = gemma.width, gemma.heads * gemma.head_dim, gemma.kv_heads * gemma.head_dim
    return {
        "attention.q_proj": (width, queries),
        "attention.k_proj": (width, keys),
        "attention.v_proj": (width, keys),
        "attention.o_proj": (queries, width),
        "mlp.gate_proj": (width, gemma.mlp_dim),
        "mlp.up_proj": (width, gemma.mlp_dim),
        "mlp.down_proj": (gemma.mlp_dim, width),
    }
