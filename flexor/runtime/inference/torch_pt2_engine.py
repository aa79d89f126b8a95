"""Pt2Engine: graphs that AOTInductor compiled to native code, loaded from PT2 packages without a compiler."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

import torch
from torch._C._aoti import AOTIModelPackageLoader  # pyright: ignore[reportMissingImports]

from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import EngineError
from flexor.runtime.inference.graphs import Graphs, export_command
from flexor.runtime.inference.torch_graph_engine import Call, TorchGraphEngine

FACTS = "flexor"
"""The key of a package's metadata that tells what it is."""

MOST_SAMPLES = 64
"""Samples that one call of the expert takes at most."""

X86 = "x86-64-v3"
"""Processors with AVX2 and FMA, by the name that compilers have for them: what packages are built for on x86."""


class Pt2Engine(TorchGraphEngine):
    """See GraphEngine."""

    name = "pt2"
    most_samples = MOST_SAMPLES

    @classmethod
    def check_machine(cls, bundle: Bundle, graphs: Graphs) -> None:
        """See GraphEngine: native code runs on its kind of processor and calls into its own version of libtorch."""
        if dict(graphs.built_for) != built_for():
            there, here = (
                ", ".join(f"{name} {value}" for name, value in tied.items()) or "nothing that it tells"
                for tied in (graphs.built_for, built_for())
            )
            raise EngineError(
                f"{bundle.id} was built for {there}, and this is {here}; build it again here:"
                f" {export_command(bundle.config)}"
            )

    def _load(self, path: Path) -> tuple[str, Call]:
        # torch._inductor.aoti_load_package makes the same object, after trying out the C++ compiler.
        try:
            loader = AOTIModelPackageLoader(str(path), "model", True, 1, -1)
        except RuntimeError as error:
            raise EngineError(
                f"torch {torch.__version__} cannot load {path}: {str(error).strip().splitlines()[0]}; export the"
                " bundle again: flexor export --format pt2"
            ) from error
        return loader.get_metadata().get(FACTS, ""), loader.run


def built_for() -> Mapping[str, str]:
    """What packages that are made here are tied to: this torch, and this kind of processor."""
    version = torch.__version__.partition("+")[0]  # builds of one version have the same interface
    machine, capability = platform.machine(), torch.backends.cpu.get_cpu_capability()
    x86 = machine in ("x86_64", "AMD64") and capability in ("AVX2", "AVX512")
    return {"torch": version, "cpu": X86 if x86 else f"{machine} {capability}"}
