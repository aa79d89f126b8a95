"""What the graphs that TensorRT is given compute: asked in onnxruntime, beside the same graphs in float32.

An engine runs on a GPU alone. The ONNX graph that it was built from runs anywhere, and its rounding is nearly all of
the engine's: what is wrong there will be wrong on the GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnxruntime import (
    GraphOptimizationLevel,  # pyright: ignore[reportAttributeAccessIssue]
    InferenceSession,
    SessionOptions,  # pyright: ignore[reportAttributeAccessIssue]
)

from flexor.export.onnx.questions import Question, ask_expert, ask_prefix
from flexor.export.parity import Parity, compare_actions


def prove(plain: Mapping[str, Path], given: Mapping[str, Path], questions: Sequence[Question], steps: int) -> Parity:
    """Compare actions of two pairs of graphs on the same questions.

    Args:
        plain: float32 files of "prefix" and "expert".
        given: those that TensorRT is given.
        questions: neither pair has seen them.
        steps: calls of the expert that a chunk takes.
    """
    actions = []
    for files in (plain, given):
        prefix, expert = (open_as_written(files[role]) for role in ("prefix", "expert"))
        caches = ask_prefix(prefix, questions)[0]
        actions.append(ask_expert(expert, questions, caches, steps)[0])
    return compare_actions(np.stack(actions, axis=1).astype(np.float64))


def open_as_written(path: Path) -> InferenceSession:
    """A session that computes what a graph says: optimising would move what rounds, and cannot move e4m3.

    Graphs of bfloat16 are widened into a file beside theirs.
    """
    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    model = onnx.load(path, load_external_data=False)
    if any(tensor.data_type == TensorProto.BFLOAT16 for tensor in model.graph.initializer):
        model = onnx.load(path)
        widen_bfloat16(model)
        path = path.with_name(f"{path.stem}.wide.onnx")
        onnx.save_model(model, path, save_as_external_data=True, location=f"{path.name}.data")
    return InferenceSession(path, options, providers=["CPUExecutionProvider"])


def widen_bfloat16(model: ModelProto) -> None:
    """Let products of bfloat16 be computed in float32, in place: onnxruntime's CPU has none, and rounds as well as any.

    Factors, and what the product gives, are rounded to bfloat16 as before.
    """
    narrow = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.BFLOAT16}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "Cast":
            if any(entry.name == "to" and entry.i == TensorProto.BFLOAT16 for entry in node.attribute):
                narrow.add(node.output[0])
            nodes.append(node)
            continue
        places = [place for place, name in enumerate(node.input) if name in narrow]
        for place in places:
            name = node.input[place]
            node.input[place] = f"{node.name}/{place}/wide"
            nodes.append(helper.make_node("Cast", [name], [node.input[place]], to=TensorProto.FLOAT))
        nodes.append(node)
        if places:
            name, node.output[0] = node.output[0], f"{node.output[0]}/wide"
            narrow.add(name)
            nodes.append(helper.make_node("Cast", [node.output[0]], [name], to=TensorProto.BFLOAT16))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]  # of types that are no more
