"""Graphs: what a bundle says about exported graphs in the place of weights, and the tensors that go in and out of them.

Needs neither torch nor the library that runs the graphs: exporters write by these tables, engines check by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from flexor.pi05.config import Pi05Config
from flexor.pi05.lora import packed_shapes
from flexor.pi05.lora_targets import EXPERT_PAIRS, PREFIX_PAIRS

if TYPE_CHECKING:
    from flexor.runtime.inference.bundle_config import BundleConfig

GRAPH_FILES: Mapping[str, tuple[str, str]] = {
    "onnx": ("prefix.onnx", "expert.onnx"),
    "tensorrt": ("prefix.engine", "expert.engine"),
    "torchscript": ("prefix.ts", "expert.ts"),
    "pt2": ("prefix.pt2", "expert.pt2"),
}
"""By format, which is also the name of the engine: the files of prefix and expert."""

GRAPH_PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
ANY = "N"
"""In a shape: the number of samples, chosen by the caller of every call."""


@dataclass(frozen=True, slots=True)
class Graphs:
    """Exported graphs of a bundle. Flow steps, cameras and the length of prompts are the bundle's own.

    Attributes:
        format: key of GRAPH_FILES.
        prefix, expert: precisions of the two graphs, of GRAPH_PRECISIONS.
        rank: of the adapters that they take.
        one_step: whether a call of the expert makes one flow step, not all.
        opset: version of the operators, where the format has one.
        source: hash of the bundle that the graphs were made from.
        built_for: what the files are tied to, by name, e.g. a library and its version; empty where they run anywhere.

    Raises:
        ValueError: an unknown format or precision, a rank below 1, or a value of another type.
    """

    format: str
    prefix: str
    expert: str
    rank: int
    one_step: bool
    opset: int
    source: str
    built_for: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.format not in GRAPH_FILES:
            raise ValueError(f"graphs.format is {self.format!r}; expected one of {', '.join(GRAPH_FILES)}")
        for name in ("prefix", "expert"):
            if (value := getattr(self, name)) not in GRAPH_PRECISIONS:
                raise ValueError(f"graphs.{name} is {value!r}; expected one of {', '.join(GRAPH_PRECISIONS)}")
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise ValueError(f"graphs.rank is {self.rank!r}; expected a whole number, 1 or more")
        for name, kind, expected in (("one_step", bool, "true or false"), ("opset", int, "a whole number")):
            if type(value := getattr(self, name)) is not kind:
                raise ValueError(f"graphs.{name} is {value!r}; expected {expected}")
        if not isinstance(self.source, str):
            raise ValueError(f"graphs.source is {self.source!r}; expected the hash of a bundle")
        tied = self.built_for
        if not isinstance(tied, Mapping) or not all(isinstance(text, str) for entry in tied.items() for text in entry):
            raise ValueError(f"graphs.built_for is {tied!r}; expected an object of strings")

    @property
    def precision(self) -> str:
        """One word where both graphs have it, else two, prefix first."""
        return self.prefix if self.prefix == self.expert else f"{self.prefix}+{self.expert}"

    @property
    def files(self) -> tuple[str, str]:
        """Names of the files of prefix and expert."""
        return GRAPH_FILES[self.format]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Graphs:
        """Read the JSON form.

        Raises:
            ValueError: keys that are missing or unknown, or an impossible value.
        """
        names = [entry.name for entry in fields(cls)]
        if not isinstance(data, Mapping) or sorted({"built_for", *data}) != sorted(names):  # older bundles have none
            found = ", ".join(sorted(data)) if isinstance(data, Mapping) else repr(data)
            raise ValueError(f"graphs has {found}; expected exactly {', '.join(names)}")
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a graph: `dtype` as numpy names it, ANY in `shape` for the number of samples."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    meaning: str


Ports = tuple[Sequence[Port], Sequence[Port]]
"""Inputs and outputs of a graph, in their order."""


def export_command(config: BundleConfig) -> str:
    """What to type to make the graphs of a bundle again."""
    graphs = config.graphs
    assert graphs is not None
    precision = next((found for found in (graphs.prefix, graphs.expert) if found != "fp32"), "fp32")
    return (
        f"flexor export {config.name} --format {graphs.format} --precision {precision} --rank {graphs.rank}"
        f" --flow-steps {config.flow_steps} --prompt-tokens {config.model.max_prompt_tokens}"
        f"{' --one-step' if graphs.one_step else ''} --out DIR"
    )


def cache_positions(config: BundleConfig) -> int:
    """P, prefix positions of a bundle's graphs: of all cameras, and of the longest prompt."""
    return len(config.cameras) * config.model.vision.tokens + config.model.max_prompt_tokens


def prefix_ports(config: BundleConfig, rank: int) -> Ports:
    """Inputs and outputs of the prefix graph, adapters last."""
    model, size = config.model, config.model.vision.image_size
    inputs = [
        Port(
            "images", "float32", (len(config.cameras), 3, size, size), "RGB in [-1, 1], cameras in the bundle's order"
        ),
        Port("tokens", "int64", (model.max_prompt_tokens,), "prompt, then anything"),
        Port("token_count", "int64", (1,), "tokens that are the prompt"),
        *_adapter_ports(model, rank, PREFIX_PAIRS),
    ]
    return inputs, list(_cache_ports(model, cache_positions(config)))


def expert_ports(config: BundleConfig, rank: int, one_step: bool) -> Ports:
    """Inputs and outputs of the expert graph, adapters last."""
    model, steps = config.model, config.flow_steps
    chunk, width = (model.horizon, model.action_dim), model.expert.width
    scaled = "" if config.noise_scale == 1.0 else f"{config.noise_scale:g} times "
    inputs = [
        *_cache_ports(model, cache_positions(config)),
        Port("noise", "float32", (ANY, *chunk), f"{scaled}standard normal, or actions under way; normalised"),
        *([Port("step", "int64", (1,), f"which of {steps} flow steps, from 0")] if one_step else []),
        Port("action_prefix", "float32", chunk, "committed actions, normalised, then anything"),
        Port("action_prefix_length", "int64", (1,), "actions that are committed"),
        Port("condition", "float32", (ANY, 1, width), "a token that actions see beside the prefix"),
        Port("condition_mask", "bool", (ANY,), "samples that see theirs"),
        *_adapter_ports(model, rank, EXPERT_PAIRS),
    ]
    velocities = (ANY, *chunk) if one_step else (steps, ANY, *chunk)
    outputs = [
        Port("actions", "float32", (ANY, *chunk), "normalised"),
        Port("velocities", "float32", velocities, "of every flow step: noise less actions"),
    ]
    return inputs, outputs


def _adapter_ports(model: Pi05Config, rank: int, pairs: Mapping[str, tuple[str, ...]]) -> list[Port]:
    shapes = packed_shapes(model, rank, pairs)
    return [
        Port(name, "float32", shape, "LoRA, packed, alpha / r in B; zeros change nothing")
        for name, shape in shapes.items()
    ]


def _cache_ports(model: Pi05Config, positions: int) -> tuple[Port, Port]:
    shape = (model.prefix.depth, 2, positions, model.prefix.head_dim)
    return (
        Port("cache", "float32", shape, "rotated keys, and values, of every layer"),
        Port("length", "int64", (1,), "positions of the cache that are real"),
    )
