"""Pi0.5 as two programs: `encode` reads images and prompt once, `velocity` and `denoise` read its cache.

Black et al., "pi0.5: a Vision-Language-Action Model with Open-World Generalization", arXiv 2504.16054; the arithmetic
follows openpi. Flow time runs from 1 (noise) to 0 (actions).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flexor.pi05.attention import mask_bias, rotary
from flexor.pi05.config import Pi05Config
from flexor.pi05.expert import Expert, embed_time, flow_times
from flexor.pi05.gemma import GemmaLayer, RmsNorm
from flexor.pi05.precision import steady
from flexor.pi05.prefix import Prefix
from flexor.pi05.siglip import Siglip


class Pi05(nn.Module):
    """The architecture of a config; parameters are not drawn here (see `init.initialise`, `init.randomise`).

    Attributes:
        recompute: what the prefix layers keep for a gradient is computed again when it is needed (Chen et al., arXiv
            1604.06174): less memory, one more forward pass.
    """

    def __init__(self, config: Pi05Config) -> None:
        super().__init__()
        self.config, self.recompute = config, False
        self.vision = Siglip(config.vision)
        self.projector = nn.Linear(config.vision.width, config.prefix.width)
        self.token_embedding = nn.Embedding(config.vocab_size, config.prefix.width)
        self.prefix_layers = nn.ModuleList(GemmaLayer(config.prefix) for _ in range(config.prefix.depth))
        # Checkpoints carry it and the parameter count includes it; nothing reads the prefix after its last layer's
        # keys and values, so no computation uses it.
        self.prefix_norm = RmsNorm(config.prefix.width)
        self.expert = Expert(config.expert)
        self.action_in_proj = nn.Linear(config.action_dim, config.expert.width)
        self.action_out_proj = nn.Linear(config.expert.width, config.action_dim)
        self.time_mlp_in = nn.Linear(config.expert.width, config.expert.width)
        self.time_mlp_out = nn.Linear(config.expert.width, config.expert.width)

    def encode(
        self, images: Tensor, tokens: Tensor, image_mask: Tensor | None = None, token_mask: Tensor | None = None
    ) -> Prefix:
        """Run the prefix program.

        Cameras and token columns that no sample uses are dropped, which changes nothing (positions count real tokens
        only); those that some samples use are masked.

        Args:
            images: float32 [B, V, 3, S, S] in [-1, 1].
            tokens: int64 [B, T]; T may be shorter than the longest prompt.
            image_mask: bool [B, V], False for a camera that is not there; None when all are.
            token_mask: bool [B, T], False for padding; None when no token is.

        Raises:
            ValueError: a shape that does not fit the config.
        """
        self._check_inputs(images, tokens)
        if image_mask is not None and not (used := image_mask.any(dim=0)).all():
            images, image_mask = images[:, used], image_mask[:, used]
        return self.read(self.look(images), tokens, image_mask, token_mask)

    def look(self, images: Tensor) -> Tensor:
        """Run the image tower alone, on what `encode` takes: [B, V, P, width of the tower]."""
        pixels = images.flatten(0, 1).to(self.vision.patch_embedding.weight.dtype)
        return self.vision(pixels).unflatten(0, images.shape[:2])

    def read(
        self, seen: Tensor, tokens: Tensor, image_mask: Tensor | None = None, token_mask: Tensor | None = None
    ) -> Prefix:
        """The rest of `encode`: projector and prefix layers on what `look` gave, and what `encode` takes beside it."""
        if token_mask is not None and not (used := token_mask.any(dim=0)).all():
            tokens, token_mask = tokens[:, used], token_mask[:, used]
        mask = self._token_mask(seen, tokens, image_mask, token_mask)
        x = self._embed(seen, tokens)
        if mask is None:
            positions = torch.arange(x.shape[1], device=x.device).expand(x.shape[0], -1)
            offset = positions[:, -1] + 1
        else:
            positions = mask.cumsum(dim=1) - 1
            offset = positions[:, -1] + 1
        rope = rotary(positions, self.config.prefix.head_dim, self.config.rope_theta)
        bias, keys, values = mask_bias(mask), [], []
        for layer in self.prefix_layers[:-1]:
            if self.recompute and torch.is_grad_enabled():
                x, key, value = checkpoint(layer, x, rope, bias, use_reentrant=False)  # type: ignore[misc]
            else:
                x, key, value = layer(x, rope, bias)
            keys.append(key)
            values.append(value)
        # Only keys and values of the last layer are ever read.
        key, value = self.prefix_layers[-1].keys_values(x, rope)  # type: ignore[operator]
        return Prefix(keys=(*keys, key), values=(*values, value), mask=mask, offset=offset)

    def modulations(self, times: Tensor) -> Tensor:
        """What flow times do to the expert: float32 [n] -> [2 * depth + 1, n, 3, width] (scale, shift, gate).

        It depends on nothing else, so a sampler computes it once for its steps and the 0 of clamped actions.
        """
        embedded = embed_time(times, self.config.expert.width).to(self.time_mlp_in.weight.dtype)
        condition = F.silu(self.time_mlp_out(F.silu(self.time_mlp_in(embedded))))
        return self.expert.modulations(condition)

    def velocity(self, prefix: Prefix, x: Tensor, time: Tensor) -> Tensor:
        """The flow's velocity (noise minus actions), float32 [B, K, H, A].

        Args:
            prefix: of B samples; K draws share each.
            x: noised actions, float32 [B, K, H, A].
            time: flow time of every action token, float32 [B, K, H].

        Raises:
            ValueError: shapes that do not belong together.
        """
        if x.ndim != 4 or x.shape[0] != prefix.batch or x.shape[3] != self.config.action_dim:
            expected = f"[{prefix.batch}, K, H, {self.config.action_dim}]"
            raise ValueError(f"x has shape {list(x.shape)}; expected {expected} for this prefix and config")
        if time.shape != x.shape[:3]:
            raise ValueError(f"time has shape {list(time.shape)}; expected {list(x.shape[:3])}, one a token")
        # Few times are distinct (one a draw, and 0 for clamped actions): the Dense layers run on those only.
        distinct, rows = torch.unique(time, return_inverse=True)
        flat = self.modulations(distinct).index_select(1, rows.flatten())
        return self.velocity_from(prefix, x, flat.unflatten(1, rows.shape))

    def velocity_from(self, prefix: Prefix, x: Tensor, modulation: Tensor) -> Tensor:
        """`velocity` with modulations at hand, [2 * depth + 1, ..., 3, width] where ... broadcasts to [B, K, H]."""
        steps = torch.arange(x.shape[2], device=x.device)
        positions = (prefix.offset[:, None] + steps)[:, None]
        rope = rotary(positions, self.config.expert.head_dim, self.config.rope_theta)
        embedded = self.action_in_proj(x.to(self.action_in_proj.weight.dtype))
        hidden = self.expert(embedded, rope, modulation, prefix, mask_bias(prefix.mask))
        return self.action_out_proj(hidden.to(self.action_out_proj.weight.dtype)).float()

    @torch.no_grad()
    def denoise(
        self, prefix: Prefix, noise: Tensor, steps: int, action_prefix: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sample N chunks on one prefix by `steps` Euler steps from t = 1 to 0.

        With `action_prefix` (training-time RTC, arXiv 2512.05964) the first d actions are held at it before and after
        every step and their tokens carry flow time 0; only models trained with that delay understand it.

        Args:
            prefix: of one sample.
            noise: float32 [N, H, A].
            steps: number of Euler steps, at least 1.
            action_prefix: float32 [d, A] in the model's range with d < H, or None.

        Returns:
            actions float32 [N, H, A] and the velocity of every step, float32 [steps, N, H, A].

        Raises:
            ValueError: a prefix of several samples, no steps, or shapes that do not belong together.
        """
        if prefix.batch != 1:
            raise ValueError(f"denoise needs a prefix of one sample, this one holds {prefix.batch}")
        clamped = check_denoise(self.config, noise, steps, action_prefix)
        table = self.modulations(flow_times(steps).to(noise.device))
        held = torch.arange(noise.shape[1], device=noise.device) < clamped
        x, velocities = noise.clone(), []
        for step in range(steps):
            if action_prefix is not None:
                x[:, :clamped] = action_prefix
            rows = torch.where(held, steps, step) if clamped else torch.tensor([step], device=noise.device)
            velocity = self.velocity_from(prefix, x[None], table[:, rows])[0]
            velocities.append(velocity)
            x = x - velocity / steps
        if action_prefix is not None:
            x[:, :clamped] = action_prefix
        return x, torch.stack(velocities)

    def _embed(self, seen: Tensor, tokens: Tensor) -> Tensor:
        """Image tokens, then text tokens times sqrt(width): [B, N, width]."""
        words = steady(self.token_embedding(tokens)) * math.sqrt(self.config.prefix.width)
        projected = self.projector(seen.to(self.projector.weight.dtype)).flatten(1, 2)
        return torch.cat((projected.to(words.dtype), words), dim=1)

    def _token_mask(
        self, seen: Tensor, tokens: Tensor, image_mask: Tensor | None, token_mask: Tensor | None
    ) -> Tensor | None:
        """bool [B, N] over image and text tokens, None when nothing is masked."""
        if (image_mask is None or image_mask.all()) and (token_mask is None or token_mask.all()):
            return None
        if image_mask is None:
            image_mask = torch.ones(seen.shape[:2], dtype=torch.bool, device=seen.device)
        if token_mask is None:
            token_mask = torch.ones(tokens.shape, dtype=torch.bool, device=tokens.device)
        return torch.cat((image_mask.repeat_interleave(self.config.vision.tokens, dim=1), token_mask), dim=1)

    def _check_inputs(self, images: Tensor, tokens: Tensor) -> None:
        size = self.config.vision.image_size
        if images.ndim != 5 or images.shape[2:] != (3, size, size):
            raise ValueError(f"images have shape {list(images.shape)}; expected [B, cameras, 3, {size}, {size}]")
        if tokens.ndim != 2 or tokens.shape[0] != images.shape[0]:
            raise ValueError(f"tokens have shape {list(tokens.shape)}; expected [{images.shape[0]}, T], as the images")


def check_denoise(config: Pi05Config, noise: Tensor, steps: int, action_prefix: Tensor | None) -> int:
    """Validate what `denoise` is given and return the number of clamped actions.

    Raises:
        ValueError: no steps, or shapes that do not belong together.
    """
    if steps < 1:
        raise ValueError(f"flow steps are {steps}; expected at least 1")
    horizon, channels = config.horizon, config.action_dim
    if noise.ndim != 3 or noise.shape[1:] != (horizon, channels):
        raise ValueError(f"noise has shape {list(noise.shape)}; expected [N, {horizon}, {channels}]")
    if action_prefix is None:
        return 0
    if action_prefix.ndim != 2 or action_prefix.shape[1] != noise.shape[2] or len(action_prefix) >= noise.shape[1]:
        raise ValueError(
            f"action_prefix has shape {list(action_prefix.shape)}; expected [d, {noise.shape[2]}] with d below "
            f"{noise.shape[1]}"
        )
    return len(action_prefix)
