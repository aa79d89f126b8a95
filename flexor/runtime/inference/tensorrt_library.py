"""TensorrtLibrary: the TensorRT that is installed, TensorRT-RTX or the full one, and what it says while it works.

Both have the same Python API. TensorRT-RTX (`tensorrt_rtx`) builds for GPUs that are not there, and compiles kernels
where the engine runs; the full one (`tensorrt`) builds on and for the GPU that is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from flexor.runtime.inference.engine import EngineError

RTX, FULL = "tensorrt_rtx", "tensorrt"
PACKAGES = {RTX: "tensorrt-rtx", FULL: "tensorrt"}
"""By the name of the module: the package on PyPI. The full one brings its libraries from the vendor's own index."""


@dataclass(frozen=True, slots=True)
class TensorrtLibrary:
    """One of the two modules.

    Attributes:
        name: RTX or FULL.
        module: the module itself, which no type checker can look into.
    """

    name: str
    module: Any

    @classmethod
    def load(cls, name: str) -> TensorrtLibrary:
        """Import one of the two.

        Raises:
            EngineError: it is not installed, or what it needs is not.
        """
        if name not in PACKAGES:
            raise EngineError(f"TensorRT library {name!r} is unknown; expected one of {', '.join(PACKAGES)}")
        try:
            return cls(name, import_module(name))
        except ImportError as error:
            raise EngineError(f"{name} cannot be imported ({error}); pip install {PACKAGES[name]}") from error

    @property
    def version(self) -> str:
        """As engines are tied to it."""
        return str(self.module.__version__)

    @property
    def targets(self) -> tuple[str, ...]:
        """GPUs that it builds for without seeing one: sm86 for compute capability 8.6, ..."""
        if self.name != RTX:
            return ()
        return tuple(name.lower() for name in self.module.ComputeCapability.__members__ if name.startswith("SM"))

    def messages(self) -> Any:
        """A logger for the library, which must outlive everything that is made with it.

        Returns:
            Of `errors: list[str]`, what the library said of severity error or worse, oldest first.
        """
        severity = self.module.ILogger.Severity

        class Messages(self.module.ILogger):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.errors: list[str] = []

            def log(self, level: Any, text: str) -> None:
                if level in (severity.ERROR, severity.INTERNAL_ERROR):
                    self.errors.append(text.strip())

        return Messages()


def last_error(messages: Any) -> str:
    """What the library said last, in one line."""
    return " ".join(messages.errors[-1].split()) if messages.errors else "it gave no reason"
