"""A session of onnxruntime on one ONNX file, on the provider that was asked for and on no other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnxruntime
from onnxruntime import InferenceSession, SessionOptions  # pyright: ignore[reportAttributeAccessIssue]

from flexor.runtime.inference.engine import EngineError

PROVIDERS: Mapping[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""What a provider is called here and there."""

ON_SHAPES = frozenset(
    [
        "Shape",
        "Size",
        "Gather",
        "Unsqueeze",
        "Squeeze",
        "Concat",
        "Slice",
        "Cast",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Equal",
        "Where",
        "ConstantOfShape",
        "Range",
        "Reshape",
        "Expand",
        "Identity",
    ]
)
"""What a graph computes sizes by: onnxruntime keeps such chains on the CPU, where they cost nothing."""

_ERRORS_ONLY = 3


def open_session(path: Path, threads: int, provider: str) -> InferenceSession:
    """Load a graph.

    Args:
        path: the file; large weights lie beside it.
        threads: CPU threads of a call. They sleep between operations: spinning ones starve their neighbours.
        provider: key of PROVIDERS.

    Raises:
        EngineError: a provider that this onnxruntime or this machine does not have, or a file that it cannot load.
    """
    check_provider(provider)
    options = SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        session = InferenceSession(path, options, providers=[PROVIDERS[provider]])
    except Exception as error:  # onnxruntime's own errors have no common class of their own
        raise EngineError(
            f"onnxruntime {onnxruntime.__version__} cannot load {path}: {_first_line(error)}; use the onnxruntime of"
            " constraints.txt, or export the bundle again: flexor export"
        ) from error
    if (found := session.get_providers()[0]) != PROVIDERS[provider]:
        raise EngineError(
            f"{path.name} would run on {found}, and {provider!r} was asked for: its libraries are missing or too old"
            " here; install them, or take --provider cpu"
        )
    # An operation that the provider lacks goes to the CPU silently, and a reply would say what is not so.
    if provider != "cpu" and (left := computed_on_cpu(session)):
        raise EngineError(
            f"{path.name}: onnxruntime would compute {', '.join(left)} on the CPU, and {provider!r} was asked for; use"
            " the onnxruntime-gpu of constraints.txt, or take --provider cpu"
        )
    return session


def computed_on_cpu(session: InferenceSession) -> list[str]:
    """Kinds of operations that a session left to the CPU, but for those on shapes, which every provider leaves there.

    Args:
        session: that was opened with session.record_ep_graph_assignment_info.
    """
    parts = session.get_provider_graph_assignment_info()
    there = [node.op_type for part in parts if part.ep_name == PROVIDERS["cpu"] for node in part.get_nodes()]
    return sorted(set(there) - ON_SHAPES)


def check_provider(provider: str) -> None:
    """Refuse a provider that is not there.

    Raises:
        EngineError: an unknown name, or one that this onnxruntime was built without.
    """
    if provider not in PROVIDERS:
        raise EngineError(f"engine onnx has no provider {provider!r}; choose one of: {', '.join(PROVIDERS)}")
    available = onnxruntime.get_available_providers()
    if PROVIDERS[provider] not in available:
        raise EngineError(
            f"provider {provider!r} was asked for, and this onnxruntime {onnxruntime.__version__} has"
            f" {', '.join(available)}; pip uninstall onnxruntime, pip install 'flexor[onnx-gpu]', or take"
            " --provider cpu"
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
