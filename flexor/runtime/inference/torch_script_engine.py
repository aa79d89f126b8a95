"""TorchscriptEngine: traced graphs, run by the interpreter of libtorch."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from flexor.runtime.inference.engine import EngineError
from flexor.runtime.inference.torch_graph_engine import Call, TorchGraphEngine

FACTS = "flexor.json"
"""The extra file in a TorchScript file that tells what it is."""


class TorchscriptEngine(TorchGraphEngine):
    """See GraphEngine."""

    name = "torchscript"

    def _load(self, path: Path) -> tuple[str, Call]:
        extra: dict[str, str | bytes] = {FACTS: ""}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript altogether
                module = torch.jit.load(path, map_location="cpu", _extra_files=extra)
        except RuntimeError as error:
            raise EngineError(
                f"torch {torch.__version__} cannot load {path}: {str(error).strip().splitlines()[0]}; use the torch of"
                " constraints.txt, or export the bundle again: flexor export --format torchscript"
            ) from error
        facts = extra[FACTS]
        return facts if isinstance(facts, str) else facts.decode(), lambda tensors: module(*tensors)
