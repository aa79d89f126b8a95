"""EngineReport: what an engine is made of: layers, precision and memory, as far as can be told without a GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flexor.export.tensorrt.network import TensorrtNetwork


@dataclass(frozen=True, slots=True)
class EngineReport:
    """One engine.

    Attributes:
        graph: "prefix" or "expert".
        layers: of the parsed network, by kind and the type that it gives: "SOFTMAX float". What the library fuses is
            decided where the engine runs.
        products: matrix products by the type of their factors.
        weight_bytes: constants by type.
        input_bytes, output_bytes: of one call with one sample.
        engine_bytes: size of the file.
        seconds: that the build took.
    """

    graph: str
    layers: Mapping[str, int]
    products: Mapping[str, int]
    weight_bytes: Mapping[str, int]
    input_bytes: int
    output_bytes: int
    engine_bytes: int
    seconds: float

    @classmethod
    def of(cls, graph: str, network: TensorrtNetwork, engine_bytes: int, seconds: float) -> EngineReport:
        """Look at a network that was built."""
        kinds = network.library.module.LayerType
        layers: Counter[str] = Counter()
        products: Counter[str] = Counter()
        weights: Counter[str] = Counter()
        makers: dict[str, Any] = {}
        for layer in network.layers():
            gives = layer.get_output(0)
            layers[f"{layer.type.name} {_type(gives)}"] += 1
            makers.update((layer.get_output(place).name, layer) for place in range(layer.num_outputs))
            if layer.type == kinds.CONSTANT:
                weights[_type(gives)] += _bytes(gives)
            elif layer.type == kinds.MATRIX_MULTIPLY:
                narrow = {_factor(layer.get_input(place), makers, kinds) for place in (0, 1)}
                products[narrow.pop() if len(narrow) == 1 else _type(gives)] += 1
        inner = network.network
        outputs = [inner.get_output(place) for place in range(inner.num_outputs)]
        return cls(
            graph,
            dict(sorted(layers.items())),
            dict(products),
            dict(weights),
            sum(map(_bytes, network.inputs())),
            sum(map(_bytes, outputs)),
            engine_bytes,
            seconds,
        )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def to_row(self) -> dict[str, object]:
        """For a table of engines."""
        return {
            "graph": self.graph,
            "layers": sum(self.layers.values()),
            "products": ", ".join(f"{count} {kind}" for kind, count in sorted(self.products.items())),
            "weights MB": sum(self.weight_bytes.values()) / 1e6,
            "engine MB": self.engine_bytes / 1e6,
            "seconds": self.seconds,
        }


def as_text(title: str, reports: Sequence[EngineReport]) -> str:
    """A report to be read: a table of the engines, and one of the layers of each."""
    lines = [f"# {title}", "", "Built and parsed; what it takes to run is known on a GPU alone.", ""]
    rows = [report.to_row() for report in reports]
    lines += [_line(rows[0]), _line(["---"] * len(rows[0]))]
    lines += [_line(f"{cell:.3g}" if isinstance(cell, float) else cell for cell in row.values()) for row in rows]
    for report in reports:
        lines += ["", f"## {report.graph}", "", _line(("layer", "gives", "count")), _line(["---"] * 3)]
        lines += [_line((*name.split(), count)) for name, count in report.layers.items()]
    return "\n".join(lines) + "\n"


def _line(cells: Any) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _type(tensor: Any) -> str:
    return str(tensor.dtype.name).lower()


def _bytes(tensor: Any) -> int:
    """Of a tensor with one sample."""
    count = 1
    for size in tensor.shape:
        count *= max(1, abs(size))
    return int(count * tensor.dtype.itemsize)


def _factor(tensor: Any, makers: Mapping[str, Any], kinds: Any) -> str:
    """The type that a factor of a product is stored in: that before it was dequantised, if it was."""
    layer = makers.get(tensor.name)
    while layer is not None and layer.type in (kinds.SHUFFLE, kinds.UNSQUEEZE):
        layer = makers.get(layer.get_input(0).name)
    return _type(layer.get_input(0)) if layer is not None and layer.type == kinds.DEQUANTIZE else _type(tensor)
