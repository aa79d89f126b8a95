"""The dimensions of a Pi0.5 model, and the presets that flexor knows. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


def _require_positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{type(owner).__name__}.{name} is {value!r}; expected an integer of at least 1")


def _build(kind: type, values: Mapping[str, Any]) -> Any:
    """Construct the dataclass `kind` from a plain mapping; unknown and missing keys are errors that name them."""
    known = {field.name for field in fields(kind)}
    required = {field.name for field in fields(kind) if field.name != "rope_theta"}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"{kind.__name__} has no key {unknown[0]!r}; known keys: {', '.join(sorted(known))}")
    if missing := sorted(required - set(values)):
        raise ValueError(f"{kind.__name__} needs the key {missing[0]!r}, which is missing")
    return kind(**values)


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """SigLIP: square images of `image_size` pixels in square patches, a ViT with learned positions.

    Raises:
        ValueError: a size is not a positive integer, or patches or heads do not divide evenly.
    """

    image_size: int
    patch_size: int
    width: int
    depth: int
    mlp_dim: int
    heads: int

    def __post_init__(self) -> None:
        _require_positive(self, "image_size", "patch_size", "width", "depth", "mlp_dim", "heads")
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if self.width % self.heads:
            raise ValueError(f"vision width {self.width} is not a multiple of heads {self.heads}")

    @property
    def tokens(self) -> int:
        """Tokens of one image."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def parameters(self) -> int:
        """Numbers in the tower: patch embedding, positions, layers, last LayerNorm."""
        stem = 3 * self.patch_size**2 * self.width + self.width + self.tokens * self.width
        attention = 4 * (self.width**2 + self.width)
        mlp = 2 * self.width * self.mlp_dim + self.width + self.mlp_dim
        return stem + self.depth * (attention + mlp + 4 * self.width) + 2 * self.width


@dataclass(frozen=True, slots=True)
class GemmaConfig:
    """One Gemma stack: `heads` query heads share `kv_heads` key and value heads of `head_dim` channels.

    Raises:
        ValueError: a size is not a positive integer, heads do not divide evenly, or head_dim or width is odd.
    """

    width: int
    depth: int
    mlp_dim: int
    heads: int
    kv_heads: int
    head_dim: int

    def __post_init__(self) -> None:
        _require_positive(self, "width", "depth", "mlp_dim", "heads", "kv_heads", "head_dim")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd; rotary positions pair its two halves")
        if self.width % 2:
            raise ValueError(f"width {self.width} is odd; the time embedding pairs sines and cosines")

    @property
    def linear_parameters(self) -> int:
        """Numbers in the projections of one layer: q, k, v, o, gate, up, down."""
        attention = self.width * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return attention + 3 * self.width * self.mlp_dim


@dataclass(frozen=True, slots=True)
class Pi05Config:
    """A whole Pi0.5: what the checkpoint's shapes are made of, and nothing about a robot.

    Attributes:
        vocab_size: rows of the token embedding.
        action_dim: A, channels of an action as the model sees it.
        horizon: H, actions in a chunk.
        max_prompt_tokens: longest prompt, the beginning-of-sentence token included.
        rope_theta: base of the rotary frequencies.

    Raises:
        ValueError: prefix and expert do not share depth and attention shape, or a size is out of range.
    """

    vision: VisionConfig
    prefix: GemmaConfig
    expert: GemmaConfig
    vocab_size: int
    action_dim: int
    horizon: int
    max_prompt_tokens: int
    rope_theta: float = 10000.0

    def __post_init__(self) -> None:
        _require_positive(self, "vocab_size", "action_dim", "horizon", "max_prompt_tokens")
        if not self.rope_theta > 1.0:
            raise ValueError(f"rope_theta is {self.rope_theta!r}; expected a number above 1")
        for name in ("depth", "heads", "kv_heads", "head_dim"):
            ours, theirs = getattr(self.prefix, name), getattr(self.expert, name)
            if ours != theirs:
                raise ValueError(f"prefix.{name} {ours} differs from expert.{name} {theirs}; they share one attention")

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries, ready for JSON; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Pi05Config:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: an unknown or missing key (named), or a value out of range.
        """
        kinds = {"vision": VisionConfig, "prefix": GemmaConfig, "expert": GemmaConfig}
        parts = dict(values)
        for name in kinds.keys() & parts.keys():
            if not isinstance(parts[name], Mapping):
                raise ValueError(f"{name} is {parts[name]!r}; expected a mapping of its sizes")
            parts[name] = _build(kinds[name], parts[name])
        return _build(cls, parts)

    def parameter_count(self) -> int:
        """Every number of the model, in closed form (biases only where Pi0.5 has them)."""
        prefix, expert, depth = self.prefix, self.expert, self.prefix.depth
        projector = self.vision.width * prefix.width + prefix.width
        language = self.vocab_size * prefix.width + depth * (prefix.linear_parameters + 2 * prefix.width) + prefix.width
        modulation = (2 * depth + 1) * (3 * expert.width**2 + 3 * expert.width)
        actions = 2 * self.action_dim * expert.width + expert.width + self.action_dim
        time_mlp = 2 * (expert.width**2 + expert.width)
        stack = depth * expert.linear_parameters + modulation
        return self.vision.parameters + projector + language + stack + actions + time_mlp


PRESETS: dict[str, Pi05Config] = {
    # openpi's dimensions (PaliGemma 2B with a 300M expert); checkpoints differ in horizon only.
    "pi05": Pi05Config(
        vision=VisionConfig(image_size=224, patch_size=14, width=1152, depth=27, mlp_dim=4304, heads=16),
        prefix=GemmaConfig(width=2048, depth=18, mlp_dim=16384, heads=8, kv_heads=1, head_dim=256),
        expert=GemmaConfig(width=1024, depth=18, mlp_dim=4096, heads=8, kv_heads=1, head_dim=256),
        vocab_size=257152,
        action_dim=32,
        horizon=50,
        max_prompt_tokens=200,
    ),
    "pi05-nano": Pi05Config(
        vision=VisionConfig(image_size=96, patch_size=16, width=128, depth=2, mlp_dim=384, heads=4),
        prefix=GemmaConfig(width=160, depth=4, mlp_dim=384, heads=4, kv_heads=1, head_dim=40),
        expert=GemmaConfig(width=96, depth=4, mlp_dim=256, heads=4, kv_heads=1, head_dim=40),
        vocab_size=512,
        action_dim=7,
        horizon=10,
        max_prompt_tokens=56,
    ),
    # For tests: random weights, every code path, a few milliseconds.
    "pi05-micro": Pi05Config(
        vision=VisionConfig(image_size=32, patch_size=16, width=32, depth=2, mlp_dim=64, heads=2),
        prefix=GemmaConfig(width=48, depth=2, mlp_dim=96, heads=4, kv_heads=1, head_dim=16),
        expert=GemmaConfig(width=32, depth=2, mlp_dim=64, heads=4, kv_heads=1, head_dim=16),
        vocab_size=512,
        action_dim=7,
        horizon=10,
        max_prompt_tokens=40,
    ),
}
