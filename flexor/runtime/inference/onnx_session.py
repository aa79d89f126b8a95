"""A session of onnxruntime on one ONNX file, on the provider that was asked for and on no other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnxruntime
from onnxruntime import InferenceSession, SessionOptions  # pyright: ignore[reportAttributeAccessIssue]

from flexor.runtime.inference.engine import EngineError

PROVIDERS: Mapping[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""What a provider is called here and there."""

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
    # Without this an operation that the provider lacks goes to the CPU, and a reply would say what is not so.
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "0" if provider == "cpu" else "1")
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
    return session


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
