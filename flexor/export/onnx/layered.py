"""Graphs of a model that does not fit into memory in float32: traced without numbers, which follow layer by layer.

A part of the model gives a graph in which only what follows from this part has numbers. They are written and freed
before the next part is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn

from flexor.export.exporter import Job
from flexor.export.graphs.partial_model import check_names, load_part, parameter_groups
from flexor.export.onnx.halve import HALVES, halve_products, to_half
from flexor.export.onnx.tracing import trace_graph
from flexor.export.onnx.weight_file import WeightFile


class LayeredGraphs:
    """Both graphs of an export.

    Args:
        job: in fp32, or one of HALVES.

    Raises:
        BundleError: weights of another model than bundle.json says.
    """

    def __init__(self, job: Job) -> None:
        check_names(job.source)
        self._job, self._groups = job, parameter_groups(job.source.model_config)

    def trace(self, role: str, folder: Path) -> ModelProto:
        """The graph of a role with empty initialisers.

        Args:
            folder: for drafts, which will go.
        """
        # What flow time does is computed from the whole expert; the prefix needs no number at all.
        names = self._groups[role].get("expert", ())
        module = self._job.module(role, load_part(self._job.source, names))
        _stand_in(module)
        return trace_graph(module, self._job.ports[role], folder / f"{role}.onnx", weights=False)

    def write(self, role: str, model: ModelProto, path: Path) -> None:
        """Write a traced graph as a file, and its weights beside it.

        Args:
            model: of `trace`; changed.

        Raises:
            BundleError: numbers that are not finite.
            FlexorError: a weight that 16 bits cannot hold.
        """
        precision = self._job.wish.precision
        narrow = halve_products(model, precision) if precision in HALVES else set[str]()
        empty = {tensor.name: tensor for tensor in model.graph.initializer if not tensor.raw_data}
        with WeightFile(path) as file:
            for name, values in self._numbers(role, empty):
                array = values.numpy()
                file.put(empty.pop(name), to_half(name, array, precision) if name in narrow else array)
        assert not empty, f"no part of the model gave {', '.join(empty)}"
        onnx.save(model, path)
        onnx.checker.check_model(str(path))

    def _numbers(self, role: str, wanted: Mapping[str, object]) -> Iterator[tuple[str, Tensor]]:
        """Every tensor of the graph of a role that is still wanted, as soon as a part of the model gives it."""
        groups = self._groups[role]
        for place, (group, names) in enumerate(groups.items(), 1):
            self._job.told(f"{role}: {group}, {place} of {len(groups)}")
            yield from self._given(role, names, wanted)

    def _given(self, role: str, names: Sequence[str], wanted: Mapping[str, object]) -> Iterator[tuple[str, Tensor]]:
        module = self._job.module(role, load_part(self._job.source, names))
        for name, tensor in module.state_dict().items():
            if name in wanted and not tensor.is_meta:
                yield name, tensor


def _stand_in(module: nn.Module) -> None:
    """One number instead of each parameter, in its shape and without its memory: tracing computes with it.

    No two are the same, since the exporter makes one of those that are.
    """
    for place, (name, parameter) in enumerate(list(module.named_parameters()), 2):
        owner, _, own = name.rpartition(".")
        number = torch.tensor(1.0 / place).expand(parameter.shape)
        setattr(module.get_submodule(owner), own, nn.Parameter(number, requires_grad=False))
