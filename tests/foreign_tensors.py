"""Tensors and tokenizers of others at a small size: their names, as files, in shards; and the names at full size."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, processors

from flexor.pi05.config import GemmaConfig, Pi05Config, VisionConfig

VOCAB = 420
SMALL = Pi05Config(
    vision=VisionConfig(image_size=28, patch_size=14, width=32, depth=2, mlp_dim=48, heads=16),
    prefix=GemmaConfig(width=48, depth=2, mlp_dim=64, heads=4, kv_heads=1, head_dim=16),
    expert=GemmaConfig(width=32, depth=2, mlp_dim=40, heads=4, kv_heads=1, head_dim=16),
    vocab_size=VOCAB,
    action_dim=32,
    horizon=10,
    max_prompt_tokens=200,
)
"""Every size differs from the others where the architecture lets it, so that a swapped tensor cannot fit."""

VLM = "paligemma_with_expert.paligemma."
EXPERT = "paligemma_with_expert.gemma_expert."


def names(config: Pi05Config, vision_level: str = "vision_model.") -> dict[str, str]:
    """Stored name -> name in a bundle, of every tensor that a network needs but the word embedding."""
    tower = f"{VLM}model.vision_tower.{vision_level}"
    found = {
        f"{tower}embeddings.position_embedding.weight": "vision.position_embedding",
        f"{VLM}model.language_model.norm.weight": "prefix_norm.weight",
    }
    for kind in ("weight", "bias"):
        found |= {
            f"{tower}embeddings.patch_embedding.{kind}": f"vision.patch_embedding.{kind}",
            f"{tower}post_layernorm.{kind}": f"vision.post_norm.{kind}",
            f"{VLM}model.multi_modal_projector.linear.{kind}": f"projector.{kind}",
            f"{EXPERT}model.norm.dense.{kind}": f"expert.norm.dense.{kind}",
            **{f"{n}.{kind}": f"{n}.{kind}" for n in ("action_in_proj", "action_out_proj", "time_mlp_in")},
            f"time_mlp_out.{kind}": f"time_mlp_out.{kind}",
        }
        for i in range(config.vision.depth):
            theirs, ours = f"{tower}encoder.layers.{i}", f"vision.layers.{i}"
            found |= {f"{theirs}.self_attn.{c}_proj.{kind}": f"{ours}.{c}_proj.{kind}" for c in "qkv"}
            found |= {
                f"{theirs}.layer_norm1.{kind}": f"{ours}.attention_norm.{kind}",
                f"{theirs}.layer_norm2.{kind}": f"{ours}.mlp_norm.{kind}",
                f"{theirs}.self_attn.out_proj.{kind}": f"{ours}.o_proj.{kind}",
                f"{theirs}.mlp.fc1.{kind}": f"{ours}.fc1.{kind}",
                f"{theirs}.mlp.fc2.{kind}": f"{ours}.fc2.{kind}",
            }
        for i in range(config.expert.depth):
            theirs, ours = f"{EXPERT}model.layers.{i}", f"expert.layers.{i}"
            found |= {
                f"{theirs}.input_layernorm.dense.{kind}": f"{ours}.attention_norm.dense.{kind}",
                f"{theirs}.post_attention_layernorm.dense.{kind}": f"{ours}.mlp_norm.dense.{kind}",
            }
    for stack, mine in (
        (f"{VLM}model.language_model.layers", "prefix_layers"),
        (f"{EXPERT}model.layers", "expert.layers"),
    ):
        for i in range(config.prefix.depth):
            theirs, ours = f"{stack}.{i}", f"{mine}.{i}"
            found |= {f"{theirs}.self_attn.{c}_proj.weight": f"{ours}.attention.{c}_proj.weight" for c in "qkvo"}
            found |= {f"{theirs}.mlp.{c}_proj.weight": f"{ours}.mlp.{c}_proj.weight" for c in ("gate", "up", "down")}
            if mine == "prefix_layers":
                found[f"{theirs}.input_layernorm.weight"] = f"{ours}.attention_norm.weight"
                found[f"{theirs}.post_attention_layernorm.weight"] = f"{ours}.mlp_norm.weight"
    return found


def random_weights(config: Pi05Config = SMALL) -> dict[str, np.ndarray]:
    """Random float32 weights by their names in a bundle, always the same ones."""
    from flexor.pi05.init import randomise
    from flexor.pi05.model import Pi05

    model = Pi05(config)
    randomise(model, 11)
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def stored(
    weights: Mapping[str, np.ndarray],
    config: Pi05Config = SMALL,
    prefix: str = "",
    embedding: tuple[str, ...] = ("lm_head",),
    vision_level: str = "vision_model.",
    expert_head: bool = True,
) -> dict[str, np.ndarray]:
    """The weights under their stored names and in their stored forms."""
    size = config.vision.patch_size
    found = {theirs: weights[ours] for theirs, ours in names(config, vision_level).items()}
    stem = next(name for name in found if name.endswith("patch_embedding.weight"))
    found[stem] = found[stem].reshape(-1, 3, size, size)
    for name in embedding:
        place = {"lm_head": "lm_head.weight", "embed_tokens": "model.language_model.embed_tokens.weight"}[name]
        found[VLM + place] = weights["token_embedding.weight"]
    if expert_head:
        found[f"{EXPERT}lm_head.weight"] = np.ones((config.vocab_size, config.expert.width), np.float32)
    return {prefix + name: tensor for name, tensor in found.items()}


def save(path: Path, tensors: Mapping[str, np.ndarray], dtype: str = "F32") -> None:
    """A safetensors file; BF16 keeps the upper halves of the numbers."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blobs, offset = [], 0
    for name, tensor in sorted(tensors.items()):
        wide = np.ascontiguousarray(tensor, np.float32)
        blob = wide.tobytes() if dtype == "F32" else (wide.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        span = [offset, offset + len(blob)]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": span}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def save_hollow(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A float32 safetensors file of that size on paper: its header is written, its numbers are a hole."""
    header, offset = {}, 0
    for name, shape in sorted(shapes.items()):
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + offset)


def save_shards(folder: Path, tensors: Mapping[str, np.ndarray], count: int = 3) -> None:
    """The same tensors in several files with an index."""
    places = {}
    for number in range(count):
        file = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
        part = {name: tensors[name] for name in sorted(tensors)[number::count]}
        save(folder / file, part)
        places |= dict.fromkeys(part, file)
    size = sum(tensor.nbytes for tensor in tensors.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": places})


def write_json(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what a JSON file holds."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def tokenizer_json(vocab_size: int = VOCAB, image_token: bool = False) -> str:
    """A tokenizer of Gemma's build: pad, eos, bos, unk, then bytes, then characters and what fills the rest."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["\u2581", *(chr(code) for code in range(33, 127)), "\u2581p", "i", "ck"]
    pieces = list(dict.fromkeys(pieces))[:vocab_size]
    pieces += [f"<unused{number}>" for number in range(vocab_size - len(pieces))]
    ids = {piece: index for index, piece in enumerate(pieces)}
    made = tokenizers.Tokenizer(models.BPE(ids, [("\u2581", "p"), ("c", "k")], unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "\u2581")  # type: ignore[assignment]
    made.decoder = decoders.ByteFallback()  # type: ignore[assignment]
    specials = [AddedToken(text, normalized=False, special=True) for text in pieces[:4]]
    made.add_special_tokens(specials)
    if image_token:
        made.add_special_tokens([AddedToken("<image>", normalized=False, special=True)])
    made.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="<bos> $A", special_tokens=[("<bos>", 2)]
    )
    return made.to_str()
