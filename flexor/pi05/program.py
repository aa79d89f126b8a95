"""Both programs of a model, prepared for one observation at a time, each in a precision of its own.

In float32 the same numbers as `Pi05.encode` and `Pi05.denoise` to rounding, in a fraction of the operations; the eager
model stays the definition. Weights are taken over where their dtype is right and copied where not: the model is needed
no more, and must not be changed any more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flexor.pi05.blocked import gated
from flexor.pi05.expert_program import ExpertProgram, turn, turns
from flexor.pi05.expert_weights import ExpertWeights
from flexor.pi05.fp8 import take_scales
from flexor.pi05.gemma import EPSILON, GemmaLayer, RmsNorm
from flexor.pi05.lora import check_slot, is_deep
from flexor.pi05.merged_weights import MergedWeights, Packed, own_weights
from flexor.pi05.model import Pi05, check_denoise
from flexor.pi05.prefix_weights import PrefixWeights, ReaderProducts, layer_weights, make_projector
from flexor.pi05.products import DTYPES, PRECISIONS
from flexor.pi05.vision_program import VisionProgram


@dataclass(frozen=True, slots=True)
class ProgramPrefix:
    """The cache of one observation: float32, per layer [N, head_dim]. Keys are in the programs' own channel order.

    `rope` complex64 [H, head_dim / 2] holds the positions that follow: those of the actions.
    """

    keys: list[Tensor]
    values: list[Tensor]
    rope: Tensor


class _Norm:
    """RMSNorm in float32, whatever comes in."""

    def __init__(self, norm: RmsNorm) -> None:
        self._weight = 1.0 + norm.weight.detach().float()

    def __call__(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], self._weight, EPSILON).to(x.dtype)


class _ReaderLayer:
    """One Gemma layer: its norms, and how its products are put together."""

    def __init__(self, layer: GemmaLayer) -> None:
        self.heads, self.head_dim = layer.attention.heads, layer.attention.head_dim
        self.attention_norm, self.mlp_norm = _Norm(layer.attention_norm), _Norm(layer.mlp_norm)

    def __call__(
        self, products: ReaderProducts, x: Tensor, rope: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        mixed = products.qkv(self.attention_norm(x))
        rotated, values = mixed.split(((self.heads + 1) * self.head_dim, self.head_dim), dim=-1)
        rotated = turn(rotated.unflatten(-1, (-1, self.head_dim)).float(), rope[:, None])
        keys = rotated[:, self.heads].contiguous()
        rows = rotated[:, : self.heads].reshape(-1, self.head_dim).to(x.dtype)
        scores = (rows @ keys.to(x.dtype).t()).float()
        if bias is not None:
            scores += bias
        seen = (scores.softmax(dim=-1).to(x.dtype) @ values).view(x.shape[0], -1)
        x = products.o.added(seen, x)
        hidden = gated(products.gate, products.up, self.mlp_norm(x))
        return products.down.added(hidden, x), keys, values.float()


class Program:
    """A model ready to answer one observation after another.

    Args:
        model: on the device where it runs, one key head; parameters of any floating dtype.
        steps: Euler steps of `denoise`, at least 1.
        prefix, expert: precisions of the two programs' products, of `flexor.pi05.products.PRECISIONS`.
        own: weights that adapters are merged into, from `own_weights`, on any device; the model's own when None.
        release: the model gives the weights of its image tower and prefix up as they are taken over, so that they are
            in memory once; it is of no use afterwards.

    Raises:
        ValueError: another number of key heads, no steps, or an unknown precision.
    """

    @torch.inference_mode()
    def __init__(
        self,
        model: Pi05,
        steps: int,
        prefix: str = "fp32",
        expert: str = "fp32",
        own: Mapping[str, Tensor] | None = None,
        release: bool = False,
    ) -> None:
        if steps < 1:
            raise ValueError(f"flow steps are {steps}; expected at least 1")
        if model.config.prefix.kv_heads != 1:
            raise ValueError(f"kv_heads is {model.config.prefix.kv_heads}; a program needs 1, use the model itself")
        if unknown := {prefix, expert} - set(PRECISIONS):
            raise ValueError(f"precision is {unknown.pop()!r}; expected one of {', '.join(PRECISIONS)}")
        self.config, stream = model.config, DTYPES[prefix]
        self._prefix_precision = prefix
        self._vision = VisionProgram(model, prefix)
        *read, last = model.prefix_layers
        self._layers = [_ReaderLayer(layer) for layer in read]  # type: ignore[arg-type]
        self._last_norm = _Norm(last.attention_norm)  # type: ignore[arg-type]
        self._embedding = model.token_embedding.weight.detach().to(stream)
        self._embedding_scale = math.sqrt(self.config.prefix.width)
        self.expert = ExpertProgram(model, steps, expert)
        self._own = own_weights(model) if own is None else own
        # e4m3 products are known by this place
        self.prefix = PrefixWeights(model.config, layer_weights(model, release), prefix)
        self._prefixes: dict[int, PrefixWeights] = {}
        if release:  # what is never multiplied with, too
            model.prefix_layers, model.vision.layers = nn.ModuleList(), nn.ModuleList()
        self._rope = torch.empty(0)
        self.turns(1)

    @torch.inference_mode()
    def encode(self, images: Tensor, tokens: Tensor, slot: int = 0) -> ProgramPrefix:
        """Run the prefix program on images float32 [V, 3, S, S] in [-1, 1] and tokens int64 [T].

        Raises:
            ValueError: a shape that does not fit the config, or no such slot.
        """
        check_slot(slot)
        config = self.config
        size = config.vision.image_size
        if images.ndim != 4 or images.shape[1:] != (3, size, size) or tokens.ndim != 1:
            raise ValueError(
                f"images {list(images.shape)} and tokens {list(tokens.shape)}; expected [cameras, 3, {size}, {size}] "
                "and [T]"
            )
        keys, values = self.read(images, tokens, self.prefix_weights(slot))
        count = keys[0].shape[0]
        return ProgramPrefix(keys, values, rope=self.turns(count + config.horizon)[count : count + config.horizon])

    def read(
        self, images: Tensor, tokens: Tensor, weights: PrefixWeights, bias: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values of every layer, as ProgramPrefix has them, of shapes that are known to fit.

        Args:
            weights: of a slot.
            bias: float32 [N], added to the scores of each of the N prefix tokens; None for 0.
        """
        seen = self._vision(images, weights).flatten(0, 1)
        x = torch.cat((seen, F.embedding(tokens, self._embedding) * self._embedding_scale))
        rope, keys, values = self.turns(len(x))[: len(x)], [], []
        for layer, products in zip(self._layers, weights.layers, strict=True):
            x, key, value = layer(products, x, rope, bias)
            keys.append(key)
            values.append(value)
        key, value = weights.keys_values(self._last_norm(x)).float().split(self.config.prefix.head_dim, dim=-1)
        return [*keys, turn(key, rope)], [*values, value]

    @torch.inference_mode()
    def denoise(
        self, prefix: ProgramPrefix, noise: Tensor, action_prefix: Tensor | None = None, slot: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Sample N chunks from noise float32 [N, H, A] with the weights of slot 0..SLOTS - 1, on a prefix of its own.

        See `Pi05.denoise` for the clamped prefix and the errors.
        """
        check_denoise(self.config, noise, self.expert.steps, action_prefix)
        check_slot(slot)
        return self.expert.denoise(prefix.keys, prefix.values, prefix.rope, noise, action_prefix, slot)

    @torch.inference_mode()
    def load_slot(self, slot: int, packed: Packed | None) -> None:
        """Merge an adapter into a slot of 1..SLOTS - 1; None gives it the model's own weights back.

        From any thread: what is computed meanwhile goes on with the old weights to its end.

        Raises:
            ValueError: no such slot, or an adapter that is refused; the slot is then as it was.
        """
        check_slot(slot, first=1)
        prefix, weights = (self.prefix, None) if packed is None else self.merge(packed)
        self._prefixes[slot] = prefix
        self.expert.put(slot, weights)

    def merge(self, packed: Packed) -> tuple[PrefixWeights, ExpertWeights]:
        """Weights of both programs of this model with an adapter; what it does not change is shared, all else new.

        Raises:
            ValueError: an adapter of another model, or numbers that are not finite.
        """
        merged = MergedWeights(self.config, self._own, packed, self._embedding.device)
        base, precision = self.prefix, self._prefix_precision
        if is_deep(packed):
            prefix = PrefixWeights(self.config, merged, precision)
            take_scales(prefix, base)
        else:
            prefix = base.with_projector(make_projector(merged, precision))
            take_scales(prefix.projector, base.projector)
        return prefix, self.expert.merge(merged)

    def prefix_weights(self, slot: int) -> PrefixWeights:
        """What slot 0..SLOTS - 1 sees and reads with now."""
        return self._prefixes.get(slot, self.prefix)

    def turns(self, count: int) -> Tensor:
        """Rotary positions 0, 1, ..., at least `count` of them: complex64 [..., head_dim / 2]."""
        if len(self._rope) < count:
            config = self.config
            usual = 2 * config.vision.tokens + config.max_prompt_tokens + config.horizon
            positions = torch.arange(max(count, usual), device=self._embedding.device)
            self._rope = turns(positions, config.prefix.head_dim, config.rope_theta)
        return self._rope
