"""A bundle of weights in, a bundle of graphs out, in any format: what all of them need, and a table of them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexor.errors import FlexorError
from flexor.pi05.normalize import NormStats
from flexor.runtime.inference.bundle import NORM_STATS, TOKENIZER, Bundle
from flexor.runtime.inference.bundle_config import BundleConfig
from flexor.runtime.inference.bundle_writer import write_bundle
from flexor.runtime.inference.engine import EXTRAS
from flexor.runtime.inference.graphs import Graphs, Ports, cache_positions, expert_ports, prefix_ports
from flexor.runtime.observation import Observation

if TYPE_CHECKING:
    from torch import nn

    from flexor.pi05.model import Pi05

PLAIN = "fp32"


@dataclass(frozen=True, slots=True)
class Format:
    """How graphs of a format are made: a module with `write_graphs(job, folder) -> Made`, imported when needed, and
    the precisions that it knows."""

    module: str
    precisions: tuple[str, ...]


FORMATS: Mapping[str, Format] = {
    "onnx": Format("flexor.export.onnx.exporter", ("fp32", "fp16", "int8")),
    "tensorrt": Format("flexor.export.tensorrt.exporter", ("fp32", "fp16", "bf16", "int8", "fp8")),
    "torchscript": Format("flexor.export.torchscript.exporter", (PLAIN,)),
    "pt2": Format("flexor.export.pt2.exporter", (PLAIN,)),
}
"""By name, which is also a key of graphs.GRAPH_FILES and the name of the engine."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be exported.

    Attributes:
        format: key of FORMATS.
        precision: of those that the format knows.
        rank: of the adapters that the expert takes; smaller ones fit.
        flow_steps, prompt_tokens: fixed in the graphs; None for the bundle's own.
        one_step: a call of the expert makes one flow step, not all.
        targets: tensorrt: the GPUs to build for, e.g. sm89; empty for the usual ones.
        most_samples: tensorrt: N of one call at the most.
        timing_cache: tensorrt: file of what the full library timed in earlier builds.

    Raises:
        FlexorError: an unknown format, a precision that it does not know, or settings of another format.
    """

    format: str = "onnx"
    precision: str = PLAIN
    rank: int = 8
    flow_steps: int | None = None
    prompt_tokens: int | None = None
    one_step: bool = False
    targets: tuple[str, ...] = ()
    most_samples: int = 8
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise FlexorError(f"format is {self.format!r}; choose one of: {', '.join(FORMATS)}")
        known = FORMATS[self.format].precisions
        if self.precision not in known:
            raise FlexorError(
                f"precision is {self.precision!r}; graphs for {self.format} are made in {', '.join(known)}"
            )
        if self.format != "tensorrt" and (self.targets or self.timing_cache or self.most_samples != 8):
            raise FlexorError(f"targets, most_samples and timing_cache are for tensorrt, and format is {self.format}")
        if self.most_samples < 1:
            raise FlexorError(f"most_samples is {self.most_samples}; expected 1 or more")


@dataclass(frozen=True, slots=True)
class Job:
    """An export under way, as a format's module is told it.

    Attributes:
        source: the bundle of weights.
        config: what the new bundle.json will say, with graphs in float32.
        wish: what is to be exported.
        observations: recorded ones, if any.
        told: is told what is being done.
    """

    source: Bundle
    config: BundleConfig
    wish: Wish
    observations: Sequence[Observation]
    told: Callable[[str], None]

    @property
    def graphs(self) -> Graphs:
        """What bundle.json will say about the graphs, as long as nothing else is chosen."""
        assert self.config.graphs is not None
        return self.config.graphs

    @property
    def ports(self) -> dict[str, Ports]:
        """Inputs and outputs of "prefix" and "expert"."""
        return {
            "prefix": prefix_ports(self.config, self.graphs.rank),
            "expert": expert_ports(self.config, self.graphs.rank, self.graphs.one_step),
        }

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Role and module of flexor.export.graphs in float32: the prefix, then the expert, each made at its turn."""
        import torch

        from flexor.runtime.inference.torch_engine import load_model

        model = load_model(self.source, torch.float32)
        for role in self.ports:
            yield role, self.module(role, model)

    def module(self, role: str, model: Pi05) -> nn.Module:
        """The module of flexor.export.graphs of one role, "prefix" or "expert".

        Args:
            model: the source's, in float32, or what of it that graph needs.
        """
        from flexor.export.graphs.expert_graph import ExpertGraph
        from flexor.export.graphs.prefix_graph import PrefixGraph

        config = self.config
        if role == "prefix":
            return PrefixGraph(model, len(config.cameras), config.model.max_prompt_tokens).eval()
        return ExpertGraph(model, config.flow_steps, cache_positions(config), not self.graphs.one_step).eval()


@dataclass(frozen=True, slots=True)
class Made:
    """What a format's module made: the last word about the graphs, and rows of what was measured to choose them."""

    graphs: Graphs
    measured: Sequence[Mapping[str, Any]] = field(default=())


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export came to: the new bundle, and what was measured to choose its graphs."""

    bundle: Bundle
    measured: Sequence[Mapping[str, Any]]


def export_graphs(
    bundle: Bundle,
    out: Path,
    wish: Wish,
    observations: Sequence[Observation] = (),
    told: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Write the graphs of a bundle, its tokenizer and its statistics, as a bundle of their own.

    Args:
        bundle: of weights.
        out: folder to become the new bundle.
        wish: what is to be exported.
        observations: recorded ones, for precisions that are calibrated or chosen by what was measured.
        told: is told what is being done.

    Raises:
        FlexorError: a bundle of graphs, a format whose library is not installed, too few observations, or a model that
            graphs cannot be made of.
        BundleError: `out` exists, or a setting that no bundle can have.
    """
    if bundle.config.graphs is not None:
        raise FlexorError(f"{bundle.id} holds graphs already; export the bundle of weights that it was made from")
    if out.exists():
        raise FlexorError(f"{out} already exists; choose another folder, or remove that one first")
    job = Job(bundle, _settle(bundle, wish), wish, observations, told)
    try:
        write_graphs = import_module(FORMATS[wish.format].module).write_graphs
    except ModuleNotFoundError as error:
        extras = ",".join(dict.fromkeys(("torch", EXTRAS.get(wish.format, wish.format))))
        raise FlexorError(
            f"format {wish.format!r} needs {error.name}, which is not installed; pip install 'flexor[{extras}]'"
        ) from error
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        made: Made = write_graphs(job, Path(folder))

        def move(target: Path) -> None:
            for file in Path(folder).iterdir():
                file.rename(target / file.name)

        told("writing")
        written = write_bundle(
            out,
            config=replace(job.config, graphs=made.graphs),
            graphs=move,
            tokenizer_json=(bundle.path / TOKENIZER).read_text(encoding="utf-8"),
            norm_stats=_statistics(bundle),
        )
    return Exported(written, made.measured)


def _settle(bundle: Bundle, wish: Wish) -> BundleConfig:
    """What the new bundle.json says, of graphs in float32."""
    config = bundle.config
    tokens = config.model.max_prompt_tokens if wish.prompt_tokens is None else wish.prompt_tokens
    if not 1 <= tokens <= config.model.max_prompt_tokens:
        raise FlexorError(
            f"prompt_tokens is {tokens}; expected 1 to {config.model.max_prompt_tokens}, the longest prompt of"
            f" {bundle.id}"
        )
    if config.model.prefix.kv_heads != 1:
        raise FlexorError(f"{bundle.id} has {config.model.prefix.kv_heads} key heads; graphs are made of models with 1")
    return replace(
        config,
        model=replace(config.model, max_prompt_tokens=tokens),
        flow_steps=config.flow_steps if wish.flow_steps is None else wish.flow_steps,
        graphs=Graphs(wish.format, PLAIN, PLAIN, wish.rank, wish.one_step, 0, bundle.hash),
    )


def _statistics(bundle: Bundle) -> dict[str, NormStats]:
    data = json.loads((bundle.path / NORM_STATS).read_bytes())
    return {key: NormStats.from_dict(value) for key, value in data.items()}
