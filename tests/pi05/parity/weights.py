"""Weights drawn by `flexor.pi05.init.draw_named`, so that openpi and flexor hold the same ones in two processes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from flexor.pi05.config import Pi05Config
from flexor.pi05.init import draw_named
from flexor.pi05.model import Pi05

_RENAMES = (
    (r"^vision\.patch_embedding\.", "{vision}.embeddings.patch_embedding."),
    (r"^vision\.position_embedding$", "{vision}.embeddings.position_embedding.weight"),
    (r"^vision\.post_norm\.", "{vision}.post_layernorm."),
    (r"^vision\.layers\.(\d+)\.attention_norm\.", r"{vision}.encoder.layers.\1.layer_norm1."),
    (r"^vision\.layers\.(\d+)\.mlp_norm\.", r"{vision}.encoder.layers.\1.layer_norm2."),
    (r"^vision\.layers\.(\d+)\.o_proj\.", r"{vision}.encoder.layers.\1.self_attn.out_proj."),
    (r"^vision\.layers\.(\d+)\.([qkv]_proj)\.", r"{vision}.encoder.layers.\1.self_attn.\2."),
    (r"^vision\.layers\.(\d+)\.(fc[12])\.", r"{vision}.encoder.layers.\1.mlp.\2."),
    (r"^projector\.", "{model}.multi_modal_projector.linear."),
    (r"^token_embedding\.", "{model}.language_model.embed_tokens."),
    (r"^prefix_norm\.", "{model}.language_model.norm."),
    (r"^prefix_layers\.", "{model}.language_model.layers."),
    (r"^expert\.", "{gemma}.gemma_expert.model."),
    (r"\.attention_norm\.", ".input_layernorm."),
    (r"\.mlp_norm\.", ".post_attention_layernorm."),
    (r"\.attention\.", ".self_attn."),
)


@torch.no_grad()
def fill(model: Pi05) -> None:
    """Give a model its weights, in the dtype that each parameter has."""
    for name, parameter in model.named_parameters():
        parameter.copy_(draw_named(name, parameter.shape))


def draw_for_openpi(config: Pi05Config) -> Iterator[tuple[str, Tensor]]:
    """The same weights under openpi's names and in its shapes, one after another, float32."""
    with torch.device("meta"):
        shapes = {name: parameter.shape for name, parameter in Pi05(config).named_parameters()}
    size = config.vision.patch_size
    for name, shape in shapes.items():
        tensor = draw_named(name, shape)
        yield rename(name), tensor.view(-1, 3, size, size) if name == "vision.patch_embedding.weight" else tensor


def rename(name: str) -> str:
    """A flexor parameter's name in openpi's PyTorch model."""
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    paligemma = "paligemma_with_expert.paligemma.model"
    places = {"vision": f"{paligemma}.vision_tower.vision_model", "model": paligemma, "gemma": "paligemma_with_expert"}
    return name.format(**places)
