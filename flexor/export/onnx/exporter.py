"""A bundle of weights in, a bundle of ONNX graphs out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch
from onnx import ModelProto

from flexor.errors import FlexorError
from flexor.export.graphs.expert_graph import ExpertGraph
from flexor.export.graphs.prefix_graph import PrefixGraph
from flexor.export.onnx.choose import PLAIN, Candidate, choose_graphs
from flexor.export.onnx.graph_file import EXTERNAL_BYTES, save_graph, stamp
from flexor.export.onnx.halve import halve
from flexor.export.onnx.questions import make_questions
from flexor.export.onnx.tracing import OPSET, trace_graph
from flexor.pi05.normalize import NormStats
from flexor.runtime.inference.bundle import NORM_STATS, TOKENIZER, Bundle
from flexor.runtime.inference.bundle_config import BundleConfig
from flexor.runtime.inference.bundle_writer import write_bundle
from flexor.runtime.inference.graphs import (
    GRAPH_PRECISIONS,
    Graphs,
    Port,
    cache_positions,
    expert_ports,
    prefix_ports,
)
from flexor.runtime.inference.torch_engine import load_model
from flexor.runtime.observation import Observation

CALIBRATED_ON = 32
LEAST_HELD_OUT = 32


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export came to: the new bundle, and what was measured to choose among int8 graphs."""

    bundle: Bundle
    candidates: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be exported.

    Attributes:
        precision: of graphs.GRAPH_PRECISIONS.
        rank: of the adapters that the expert takes; smaller ones fit.
        flow_steps, prompt_tokens: fixed in the graphs; None for the bundle's own.
        one_step: a call of the expert makes one flow step, not all.
    """

    precision: str = "fp32"
    rank: int = 8
    flow_steps: int | None = None
    prompt_tokens: int | None = None
    one_step: bool = False

    def __post_init__(self) -> None:
        if self.precision not in GRAPH_PRECISIONS:
            raise FlexorError(f"precision is {self.precision!r}; ONNX graphs are made in {', '.join(GRAPH_PRECISIONS)}")


def export_onnx(
    bundle: Bundle,
    out: Path,
    wish: Wish,
    observations: Sequence[Observation] = (),
    told: Callable[[str], None] = lambda _: None,
    external_bytes: int = EXTERNAL_BYTES,
) -> Exported:
    """Write the graphs of a bundle, its tokenizer and its statistics, as a bundle of their own.

    Args:
        bundle: of weights.
        out: folder to become the new bundle.
        wish: what is to be exported.
        observations: recorded ones, for int8: some for the scales, the others to choose by.
        told: is told what is being done.
        external_bytes: weights of more lie beside their file.

    Raises:
        FlexorError: a bundle of graphs, too few observations, or a model that graphs cannot be made of.
        BundleError: `out` exists, or a setting that no bundle can have.
    """
    if bundle.config.graphs is not None:
        raise FlexorError(f"{bundle.id} holds graphs already; export the bundle of weights that it was made from")
    if wish.precision == "int8" and len(observations) < CALIBRATED_ON + LEAST_HELD_OUT:
        raise FlexorError(
            f"int8 needs at least {CALIBRATED_ON + LEAST_HELD_OUT} recorded observations, and there are"
            f" {len(observations)}; record some: flexor collect"
        )
    if out.exists():
        raise FlexorError(f"{out} already exists; choose another folder, or remove that one first")
    config = _settle(bundle, wish)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        plain = _trace(bundle, config, Path(folder), told)
        chosen, candidates = plain, []
        if wish.precision == "int8":
            questions = make_questions(replace(bundle, config=config), observations, wish.rank)
            steps = config.flow_steps if wish.one_step else 1
            chosen, candidates = choose_graphs(plain, questions, CALIBRATED_ON, steps, told)
        found = {role: PLAIN if chosen[role] == plain[role] else wish.precision for role in plain}
        if wish.precision == "fp16":
            found = dict.fromkeys(plain, "fp16")
        config = replace(config, graphs=replace(_graphs(config), **found))

        def write(target: Path) -> None:
            for (role, path), name in zip(chosen.items(), _graphs(config).files, strict=True):
                model = onnx.load(path)
                if wish.precision == "fp16":
                    halve(model)
                stamp(model, config, role, _ports(config)[role])
                save_graph(model, target / name, external_bytes)

        told("writing")
        written = write_bundle(
            out,
            config=config,
            graphs=write,
            tokenizer_json=(bundle.path / TOKENIZER).read_text(encoding="utf-8"),
            norm_stats=_statistics(bundle),
        )
    return Exported(written, candidates)


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
        graphs=Graphs("onnx", PLAIN, PLAIN, wish.rank, wish.one_step, OPSET, bundle.hash),
    )


def _trace(bundle: Bundle, config: BundleConfig, folder: Path, told: Callable[[str], None]) -> dict[str, Path]:
    """Both graphs in float32, as files of `folder`."""
    model, positions = load_model(bundle, torch.float32), cache_positions(config)
    makers = {
        "prefix": lambda: PrefixGraph(model, len(config.cameras), config.model.max_prompt_tokens),
        "expert": lambda: ExpertGraph(model, config.flow_steps, positions, not _graphs(config).one_step),
    }
    files = {}
    for role, make in makers.items():
        told(f"{role}: tracing")
        files[role] = folder / f"{role}.fp32.onnx"
        with tempfile.TemporaryDirectory(dir=folder) as draft:
            traced: ModelProto = trace_graph(make(), _ports(config)[role], Path(draft) / "draft.onnx")
        save_graph(traced, files[role])
    return files


def _ports(config: BundleConfig) -> dict[str, tuple[list[Port], list[Port]]]:
    graphs = _graphs(config)
    return {"prefix": prefix_ports(config), "expert": expert_ports(config, graphs.rank, graphs.one_step)}


def _graphs(config: BundleConfig) -> Graphs:
    assert config.graphs is not None
    return config.graphs


def _statistics(bundle: Bundle) -> dict[str, NormStats]:
    data = json.loads((bundle.path / NORM_STATS).read_bytes())
    return {key: NormStats.from_dict(value) for key, value in data.items()}
