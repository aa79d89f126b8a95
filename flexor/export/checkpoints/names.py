"""The names of tensors: theirs -> ours, those that are dropped and why, and those that mean another model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from flexor.export.checkpoints.checkpoint_error import CheckpointError

PREFIX = "model."
"""In front of all names where a whole policy was saved, and not only its network."""

_VLM = r"paligemma_with_expert\.paligemma\."
_EXPERT = r"paligemma_with_expert\.gemma_expert\."
_VISION = _VLM + r"model\.vision_tower\.(?:vision_model\.)?"  # transformers 5.6 and later leave that level out
_PREFIX_LAYER = _VLM + r"model\.language_model\.layers\.(\d+)\."
_EXPERT_LAYER = _EXPERT + r"model\.layers\.(\d+)\."
_VISION_LAYER = _VISION + r"encoder\.layers\.(\d+)\."
_KIND = r"\.(weight|bias)"

EMBEDDING = _VLM + r"model\.language_model\.embed_tokens\.weight"
HEAD = _VLM + r"lm_head\.weight"

RENAMED: tuple[tuple[str, str], ...] = (
    (_VISION + r"embeddings\.patch_embedding" + _KIND, r"vision.patch_embedding.\1"),
    (_VISION + r"embeddings\.position_embedding\.weight", r"vision.position_embedding"),
    (_VISION_LAYER + r"layer_norm1" + _KIND, r"vision.layers.\1.attention_norm.\2"),
    (_VISION_LAYER + r"layer_norm2" + _KIND, r"vision.layers.\1.mlp_norm.\2"),
    (_VISION_LAYER + r"self_attn\.([qkv]_proj)" + _KIND, r"vision.layers.\1.\2.\3"),
    (_VISION_LAYER + r"self_attn\.out_proj" + _KIND, r"vision.layers.\1.o_proj.\2"),
    (_VISION_LAYER + r"mlp\.(fc[12])" + _KIND, r"vision.layers.\1.\2.\3"),
    (_VISION + r"post_layernorm" + _KIND, r"vision.post_norm.\1"),
    (_VLM + r"model\.multi_modal_projector\.linear" + _KIND, r"projector.\1"),
    (_PREFIX_LAYER + r"input_layernorm\.weight", r"prefix_layers.\1.attention_norm.weight"),
    (_PREFIX_LAYER + r"post_attention_layernorm\.weight", r"prefix_layers.\1.mlp_norm.weight"),
    (_PREFIX_LAYER + r"self_attn\.([qkvo]_proj)\.weight", r"prefix_layers.\1.attention.\2.weight"),
    (_PREFIX_LAYER + r"mlp\.((?:gate|up|down)_proj)\.weight", r"prefix_layers.\1.mlp.\2.weight"),
    (_VLM + r"model\.language_model\.norm\.weight", r"prefix_norm.weight"),
    (_EXPERT_LAYER + r"input_layernorm\.dense" + _KIND, r"expert.layers.\1.attention_norm.dense.\2"),
    (_EXPERT_LAYER + r"post_attention_layernorm\.dense" + _KIND, r"expert.layers.\1.mlp_norm.dense.\2"),
    (_EXPERT_LAYER + r"self_attn\.([qkvo]_proj)\.weight", r"expert.layers.\1.attention.\2.weight"),
    (_EXPERT_LAYER + r"mlp\.((?:gate|up|down)_proj)\.weight", r"expert.layers.\1.mlp.\2.weight"),
    (_EXPERT + r"model\.norm\.dense" + _KIND, r"expert.norm.dense.\1"),
    (r"(action_in_proj|action_out_proj|time_mlp_in|time_mlp_out)" + _KIND, r"\1.\2"),
)
"""Pattern of a stored name without PREFIX -> the name in a bundle."""

DROPPED: tuple[tuple[str, str], ...] = (
    (_EXPERT + r"lm_head\.weight", "the expert's word head, which nothing reads"),
    (_EXPERT + r"model\.embed_tokens\.weight", "the expert's word embedding, which nothing reads"),
    (r"(?:.+\.)?rotary_emb\.inv_freq", "rotary frequencies, which are computed"),
    (_VISION + r"embeddings\.position_ids", "position numbers, which are computed"),
    (r"(?:paligemma_with_expert\.)?discrete_action_embedding\.weight", "embedding of discrete actions: training only"),
    (r"(?:paligemma_with_expert\.)?da_head\.(?:weight|bias)", "head of discrete actions: training only"),
    (r"(?:un)?normalize_\w+\.buffer_\w+\.\w+", "statistics; those that are used go to norm_stats.json"),
)
"""Pattern of a stored name without PREFIX -> why a bundle does without it."""

REFUSED: tuple[tuple[str, str], ...] = (
    (
        r"(?:.*\.)?(?:lora_\w+|base_layer)(?:\..*)?|base_model\..*|.*\.modules_to_save\..*",
        "it holds a LoRA adapter beside or inside the weights; merge it (PEFT's merge_and_unload) and save the plain"
        " model, then import that",
    ),
    (
        r"action_time_mlp_(?:in|out)\..*|" + _EXPERT + r"model\.(?:norm|layers\.\d+\.\w+_layernorm)\.weight",
        "it is a pi0 checkpoint, whose expert is not conditioned by norms; flexor runs pi0.5: take the pi05 one",
    ),
    (
        r"state_proj\..*",
        "it feeds the state through a projection (pi0, or OpenTau's state_type 'continuous'); flexor runs pi0.5 with"
        " the state in the prompt or not at all: take such a checkpoint",
    ),
    (r"(?:action_)?modality_embedding\..*", "it adds modality embeddings, which flexor does not compute"),
    (r"(?:.*\.)?(?:weight_scale|qweight|scales|qzeros|SCB|absmax|quant_map)", "it is quantised; take the plain one"),
)
"""Pattern of a stored name without PREFIX -> what that means."""


@dataclass(frozen=True, slots=True)
class NamePlan:
    """What becomes of every tensor of a checkpoint.

    Attributes:
        kept: name in the bundle -> stored name.
        dropped: stored name -> why.
        embedding: which stored tensor the word embedding is.
    """

    kept: dict[str, str]
    dropped: dict[str, str]
    embedding: str


def plan_names(stored: Iterable[str]) -> NamePlan:
    """Give every stored tensor its place.

    Raises:
        CheckpointError: names of another kind of model, unknown names, two tensors for one place, no embedding.
    """
    names = {name.removeprefix(PREFIX): name for name in sorted(stored)}
    _refuse(names)
    kept, dropped, unknown = {}, {}, []
    embedding, head = (next((s for n, s in names.items() if re.fullmatch(p, n)), None) for p in (EMBEDDING, HEAD))
    for name, full in names.items():
        if full in (embedding, head):
            continue
        if ours := _rename(name):
            if ours in kept:
                raise CheckpointError(f"{kept[ours]} and {full} are the same tensor under two names; remove one")
            kept[ours] = full
        elif reason := next((why for pattern, why in DROPPED if re.fullmatch(pattern, name)), None):
            dropped[full] = reason
        else:
            unknown.append(full)
    if unknown:
        listed = ", ".join(unknown[:3]) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
        raise CheckpointError(
            f"{len(unknown)} tensors have no place in a pi0.5: {listed}; import a plain pi0.5 checkpoint of openpi,"
            " LeRobot or OpenTau, without what was added to it"
        )
    if embedding is None and head is None:
        raise CheckpointError(
            "the word embedding is missing, under either name (language_model.embed_tokens, paligemma.lm_head);"
            " is this a whole pi0.5 checkpoint?"
        )
    chosen = embedding or head
    assert chosen is not None
    kept["token_embedding.weight"] = chosen
    if embedding is not None and head is not None:
        dropped[head] = "the prefix's word head; the embedding is embed_tokens"
    return NamePlan(kept, dropped, chosen)


def _rename(name: str) -> str | None:
    for pattern, ours in RENAMED:
        if found := re.fullmatch(pattern, name):
            return found.expand(ours)
    return None


def _refuse(names: dict[str, str]) -> None:
    for pattern, meaning in REFUSED:
        if found := [full for name, full in names.items() if re.fullmatch(pattern, name)]:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            raise CheckpointError(f"the checkpoint holds {found[0]}{more}: {meaning}")
