"""From the shapes of a checkpoint's tensors to the sizes of its model, and back to every shape that it must have."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from flexor.export.checkpoints.checkpoint_error import CheckpointError
from flexor.pi05.config import GemmaConfig, Pi05Config, VisionConfig

VISION_HEADS = 16
"""Of SigLIP So400m/14, as all origins build it; no shape tells it."""

KV_HEADS = 1
"""Of every Gemma that Pi0.5 was built on; with it the key projection's rows tell the head's size."""

Shape = tuple[int, ...]


def measure_sizes(shapes: Mapping[str, Shape], horizon: int, max_prompt_tokens: int) -> Pi05Config:
    """Sizes of the model whose tensors have these shapes, by their names in a bundle.

    Raises:
        CheckpointError: a tensor is missing or of another form, or the sizes contradict each other.
    """
    patches = _shape(shapes, "vision.patch_embedding.weight", 4)
    positions = _shape(shapes, "vision.position_embedding", 2)[0]
    side = math.isqrt(positions)
    if side * side != positions or patches[1] != 3 or patches[2] != patches[3]:
        raise CheckpointError(
            f"the image stem is {list(patches)} with {positions} positions; expected [width, 3, p, p] and a square"
        )
    try:
        return Pi05Config(
            vision=VisionConfig(
                image_size=side * patches[2],
                patch_size=patches[2],
                width=patches[0],
                depth=_depth(shapes, "vision.layers"),
                mlp_dim=_shape(shapes, "vision.layers.0.fc1.weight", 2)[0],
                heads=VISION_HEADS,
            ),
            prefix=_gemma(shapes, "prefix_layers"),
            expert=_gemma(shapes, "expert.layers"),
            vocab_size=_shape(shapes, "token_embedding.weight", 2)[0],
            action_dim=_shape(shapes, "action_out_proj.weight", 2)[0],
            horizon=horizon,
            max_prompt_tokens=max_prompt_tokens,
        )
    except ValueError as error:
        raise CheckpointError(f"the tensors' shapes are no pi0.5's: {error}") from error


def expected_shapes(config: Pi05Config) -> dict[str, Shape]:
    """Every tensor of a bundle's weights with its shape."""
    vision, prefix, expert = config.vision, config.prefix, config.expert
    shapes: dict[str, Shape] = {
        "vision.patch_embedding.weight": (vision.width, 3 * vision.patch_size**2),
        "vision.patch_embedding.bias": (vision.width,),
        "vision.position_embedding": (vision.tokens, vision.width),
        "token_embedding.weight": (config.vocab_size, prefix.width),
        "prefix_norm.weight": (prefix.width,),
        **_norm("vision.post_norm", vision.width),
        **_linear("projector", vision.width, prefix.width),
        **_linear("action_in_proj", config.action_dim, expert.width),
        **_linear("action_out_proj", expert.width, config.action_dim),
        **_linear("time_mlp_in", expert.width, expert.width),
        **_linear("time_mlp_out", expert.width, expert.width),
        **_linear("expert.norm.dense", expert.width, 3 * expert.width),
    }
    for layer in (f"vision.layers.{index}" for index in range(vision.depth)):
        for name in ("attention_norm", "mlp_norm"):
            shapes |= _norm(f"{layer}.{name}", vision.width)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes |= _linear(f"{layer}.{name}", vision.width, vision.width)
        shapes |= _linear(f"{layer}.fc1", vision.width, vision.mlp_dim)
        shapes |= _linear(f"{layer}.fc2", vision.mlp_dim, vision.width)
    for stack, gemma in (("prefix_layers", prefix), ("expert.layers", expert)):
        for layer in (f"{stack}.{index}" for index in range(gemma.depth)):
            inner, keys = gemma.heads * gemma.head_dim, gemma.kv_heads * gemma.head_dim
            sides = {"q": (inner, gemma.width), "k": (keys, gemma.width), "v": (keys, gemma.width)}
            for name, shape in {**sides, "o": (gemma.width, inner)}.items():
                shapes[f"{layer}.attention.{name}_proj.weight"] = shape
            for name in ("gate", "up"):
                shapes[f"{layer}.mlp.{name}_proj.weight"] = (gemma.mlp_dim, gemma.width)
            shapes[f"{layer}.mlp.down_proj.weight"] = (gemma.width, gemma.mlp_dim)
            for name in ("attention_norm", "mlp_norm"):
                if stack == "expert.layers":
                    shapes |= _linear(f"{layer}.{name}.dense", gemma.width, 3 * gemma.width)
                else:
                    shapes[f"{layer}.{name}.weight"] = (gemma.width,)
    return shapes


def check_shapes(found: Mapping[str, Shape], config: Pi05Config, stored_names: Mapping[str, str]) -> None:
    """Compare shapes by bundle name with what the sizes demand.

    Raises:
        CheckpointError: a tensor is missing, too many or of another shape; named as it is stored.
    """
    expected = expected_shapes(config)
    if missing := [name for name in expected if name not in found]:
        raise CheckpointError(
            f"the checkpoint lacks {len(missing)} of {len(expected)} tensors, first {missing[0]} (its name in a"
            " bundle); is it whole, and pi0.5's?"
        )
    for name, shape in found.items():
        if name not in expected:
            raise CheckpointError(f"{stored_names[name]} belongs to a layer that the model does not have")
        wanted = (shape[0], 3, config.vision.patch_size, config.vision.patch_size)
        if shape != expected[name] and not (name == "vision.patch_embedding.weight" and shape == wanted):
            raise CheckpointError(
                f"{stored_names[name]} is {list(shape)}; expected {list(expected[name])} beside the other tensors:"
                " is the checkpoint mixed from several?"
            )


def _gemma(shapes: Mapping[str, Shape], stack: str) -> GemmaConfig:
    rows, width = _shape(shapes, f"{stack}.0.attention.q_proj.weight", 2)
    head_dim = _shape(shapes, f"{stack}.0.attention.k_proj.weight", 2)[0] // KV_HEADS
    return GemmaConfig(
        width=width,
        depth=_depth(shapes, stack),
        mlp_dim=_shape(shapes, f"{stack}.0.mlp.gate_proj.weight", 2)[0],
        heads=rows // head_dim,
        kv_heads=KV_HEADS,
        head_dim=head_dim,
    )


def _depth(shapes: Mapping[str, Shape], stack: str) -> int:
    found = [int(match[1]) for name in shapes if (match := re.match(re.escape(stack) + r"\.(\d+)\.", name))]
    return max(found, default=-1) + 1


def _shape(shapes: Mapping[str, Shape], name: str, sides: int) -> Shape:
    if name not in shapes:
        raise CheckpointError(f"the checkpoint has no {name} (its name in a bundle); is it whole, and pi0.5's?")
    if len(shapes[name]) != sides or 0 in shapes[name]:
        raise CheckpointError(f"{name} (its name in a bundle) is {list(shapes[name])}; expected {sides} sides")
    return shapes[name]


def _linear(name: str, inputs: int, outputs: int) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
