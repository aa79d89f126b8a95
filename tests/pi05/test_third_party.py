"""SigLIP and Gemma against transformers' own modules, with the same random weights, in float32."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import GemmaConfig, GemmaModel, SiglipVisionConfig, SiglipVisionModel

from flexor.pi05.attention import mask_bias, rotary
from flexor.pi05.model import Pi05

Draw = Callable[[Pi05, int, int, int], tuple[Tensor, Tensor]]


@pytest.fixture
def siglip(micro: Pi05) -> SiglipVisionModel:
    ours, size = micro.config.vision, micro.config.vision.patch_size
    config = SiglipVisionConfig(
        hidden_size=ours.width,
        intermediate_size=ours.mlp_dim,
        num_hidden_layers=ours.depth,
        num_attention_heads=ours.heads,
        image_size=ours.image_size,
        patch_size=size,
        hidden_act="gelu_pytorch_tanh",
        layer_norm_eps=1e-6,
        vision_use_head=False,
    )
    config._attn_implementation = "eager"
    weights = {
        "embeddings.patch_embedding.weight": micro.vision.patch_embedding.weight.view(-1, 3, size, size),
        "embeddings.patch_embedding.bias": micro.vision.patch_embedding.bias,
        "embeddings.position_embedding.weight": micro.vision.position_embedding,
    }
    renames = {
        "attention_norm": "layer_norm1",
        "mlp_norm": "layer_norm2",
        "o_proj": "self_attn.out_proj",
        "fc1": "mlp.fc1",
        "fc2": "mlp.fc2",
        **{name: f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj")},
    }
    for index, layer in enumerate(micro.vision.layers):
        for name, value in layer.named_parameters():
            module, leaf = name.split(".")
            weights[f"encoder.layers.{index}.{renames[module]}.{leaf}"] = value
    for name, value in micro.vision.post_norm.named_parameters():
        weights[f"post_layernorm.{name}"] = value
    model = SiglipVisionModel(config)
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


@pytest.fixture
def gemma(micro: Pi05) -> GemmaModel:
    ours = micro.config.prefix
    config = GemmaConfig(
        vocab_size=micro.config.vocab_size,
        hidden_size=ours.width,
        intermediate_size=ours.mlp_dim,
        num_hidden_layers=ours.depth,
        num_attention_heads=ours.heads,
        num_key_value_heads=ours.kv_heads,
        head_dim=ours.head_dim,
    )
    config._attn_implementation = "eager"
    weights = {"embed_tokens.weight": micro.token_embedding.weight, "norm.weight": micro.prefix_norm.weight}
    renames = {
        "attention": "self_attn",
        "attention_norm": "input_layernorm",
        "mlp_norm": "post_attention_layernorm",
        "mlp": "mlp",
    }
    for index, layer in enumerate(micro.prefix_layers):
        for name, value in layer.named_parameters():
            module, rest = name.split(".", 1)
            weights[f"layers.{index}.{renames[module]}.{rest}"] = value
    model = GemmaModel(config)
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


def test_each_siglip_layer_equals_transformers(micro: Pi05, siglip: SiglipVisionModel) -> None:
    x = torch.randn(3, micro.config.vision.tokens, micro.config.vision.width)
    for ours, theirs in zip(micro.vision.layers, siglip.encoder.layers, strict=True):
        expected = theirs(x, attention_mask=None)
        assert (ours(x) - expected).abs().max() <= 1e-5
        assert (expected - x).abs().max() > 0.1


def test_the_siglip_tower_equals_transformers(micro: Pi05, siglip: SiglipVisionModel, inputs: Draw) -> None:
    images = inputs(micro, 3, 1, 1)[0][:, 0]
    expected = siglip(images).last_hidden_state
    assert (micro.vision(images) - expected).abs().max() <= 1e-5


def test_each_gemma_layer_equals_transformers_with_a_mask(micro: Pi05, gemma: GemmaModel) -> None:
    config = micro.config.prefix
    x = torch.randn(2, 9, config.width)
    mask = torch.arange(9) < torch.tensor([9, 6])[:, None]
    positions = mask.cumsum(1) - 1
    additive = torch.where(mask, 0.0, torch.finfo(torch.float32).min)[:, None, None].expand(-1, -1, 9, -1)
    embeddings = gemma.rotary_emb(x, position_ids=positions)
    rope = rotary(positions, config.head_dim, micro.config.rope_theta)
    for ours, theirs in zip(micro.prefix_layers, gemma.layers, strict=True):
        expected = theirs(x, attention_mask=additive, position_ids=positions, position_embeddings=embeddings)
        assert (ours(x, rope, mask_bias(mask))[0] - expected).abs().max() <= 1e-5


def test_the_gemma_stack_with_its_last_norm_equals_transformers(micro: Pi05, gemma: GemmaModel) -> None:
    config = micro.config.prefix
    x = torch.randn(2, 12, config.width)
    additive = torch.zeros(2, 1, 12, 12)
    expected = gemma(inputs_embeds=x, attention_mask=additive).last_hidden_state
    rope = rotary(torch.arange(12).expand(2, -1), config.head_dim, micro.config.rope_theta)
    for layer in micro.prefix_layers:
        x = layer(x, rope, None)[0]
    assert (micro.prefix_norm(x) - expected).abs().max() <= 1e-5


def test_the_prefix_cache_equals_the_cache_of_transformers(
    micro: Pi05, siglip: SiglipVisionModel, gemma: GemmaModel, inputs: Draw
) -> None:
    images, tokens = inputs(micro, 2, 2, 7)
    seen = siglip(images.flatten(0, 1)).last_hidden_state @ micro.projector.weight.T + micro.projector.bias
    x = torch.cat((seen.unflatten(0, (2, 2)).flatten(1, 2), gemma.embed_tokens(tokens)), dim=1)
    count = x.shape[1]
    cache = gemma(inputs_embeds=x, attention_mask=torch.zeros(2, 1, count, count), use_cache=True).past_key_values
    prefix = micro.encode(images, tokens)
    for index, (keys, values) in enumerate(zip(prefix.keys, prefix.values, strict=True)):
        assert (keys - cache.layers[index].keys).abs().max() <= 1e-5
        assert (values - cache.layers[index].values).abs().max() <= 1e-5
    assert prefix.offset.tolist() == [count, count]
