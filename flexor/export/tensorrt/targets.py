"""Which GPUs engines are built for, and which of the two TensorRT libraries can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flexor.errors import FlexorError
from flexor.runtime.inference.cuda_device import CudaError, capability, count_devices
from flexor.runtime.inference.engine import EngineError
from flexor.runtime.inference.tensorrt_library import FULL, RTX, TensorrtLibrary

DEFAULT = ("sm86", "sm89", "sm120")
"""The desktop generations that TensorRT-RTX is for: GeForce 30, 40 and 50, and their professional kin."""

CURRENT = "current"
"""The GPU that is there, whichever."""

LEAST: Mapping[str, int] = {"bf16": 80, "fp8": 89}
"""By precision: the first GPUs that multiply in it, 10 times their compute capability."""


def choose_targets(asked: Sequence[str], precision: str) -> tuple[TensorrtLibrary, tuple[str, ...]]:
    """The library that builds, and for which GPUs.

    The full TensorRT builds for the GPU that is there alone; TensorRT-RTX needs none.

    Args:
        asked: "sm89" and the like, or CURRENT alone; empty for DEFAULT.
        precision: of the products.

    Raises:
        FlexorError: a GPU that no library here builds for, or that does not multiply in this precision.
        EngineError: no library.
        CudaError: CURRENT, and there is no GPU.
    """
    wanted = tuple(dict.fromkeys(asked or DEFAULT))
    if CURRENT in wanted:
        if len(wanted) > 1:
            raise FlexorError(f"targets are {', '.join(wanted)}; expected {CURRENT} alone, or names of GPUs")
        library, targets = _current()
    else:
        library, targets = TensorrtLibrary.load(RTX), wanted
    if unknown := [target for target in targets if library.name == RTX and target not in library.targets]:
        raise FlexorError(
            f"{library.name} {library.version} does not build for {', '.join(unknown)}; it builds for"
            f" {', '.join(library.targets)}. For another GPU run this on it: pip install tensorrt, --targets {CURRENT}"
        )
    least = LEAST.get(precision, 0)
    if weak := [target for target in targets if int(target[2:]) < least]:
        raise FlexorError(
            f"{', '.join(weak)} does not multiply in {precision}: that needs sm{least} or newer; choose other --targets"
            " or another --precision"
        )
    return library, targets


def _current() -> tuple[TensorrtLibrary, tuple[str, ...]]:
    try:
        count_devices()
    except CudaError as error:
        raise CudaError(
            f"--targets {CURRENT}: {error}; name the GPUs that will run the engines, e.g. --targets {','.join(DEFAULT)}"
        ) from error
    try:
        library = TensorrtLibrary.load(FULL)
    except EngineError:  # then the other one, which tells what is missing if it is missing, too
        library = TensorrtLibrary.load(RTX)
    return library, (capability(0),)
