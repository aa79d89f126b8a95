"""Engine: runs the two programs of one bundle. numpy in, numpy out; it knows nothing of prompts, units or wires."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.gates import check_gate


class EngineError(FlexorError):
    """An engine that does not exist, cannot run this bundle, or gave numbers that are not finite."""


class Engine(Protocol):
    """One bundle, ready to run. One thread uses it at a time.

    Attributes:
        name: key of ENGINES.
        provider: the device it really runs on: cpu, cuda:0, ...
        precision: fp32, bf16, int8+bf16 (prefix and expert), ...
        flow_steps: Euler steps T of denoise.
        threads: CPU threads it uses.
        slots: sets of weights it holds: slot 0 is the bundle's own for ever, each other one carries an adapter;
            1 where it carries none.
        captures: CUDA graphs recorded so far; 0 where nothing is recorded.
    """

    name: str
    provider: str
    precision: str
    flow_steps: int
    threads: int
    slots: int

    @property
    def captures(self) -> int: ...

    def resample(self, image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        """The quickest flexor.pi05.images.Resample that the engine's library has."""
        ...

    def encode(self, images: NDArray[np.float32], tokens: NDArray[np.int64], slot: int = 0) -> Any:
        """Read images [V, 3, S, S] in [-1, 1] and tokens [T] once; the prefix is for denoise alone.

        slot, 0 or more and below slots, says with which weights: an adapter may change the projector, too.
        """

    def denoise(
        self, prefix: Any, noise: NDArray[np.float32], action_prefix: NDArray[np.float32] | None, slot: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Turn noise [N, H, A] into normalised actions [N, H, A] and velocities [T, N, H, A], all the caller's own.

        action_prefix [d, A], normalised, clamps the first d actions of every sample (training-time RTC). slot is
        the one that the prefix was encoded with.
        """
        ...

    def load_slot(self, slot: int, tensors: Mapping[str, NDArray[np.float32]] | None) -> None:
        """Put an adapter into slot 1 or a later one, or with None the bundle's own weights back.

        Any thread may call it, beside one that computes: a call takes all its weights from before or all from after.
        Loading takes as long as it takes; the first call with the slot at most 1 ms more.

        Args:
            tensors: float32, packed as `flexor.pi05.lora` has it, of any rank.

        Raises:
            EngineError: no such slot, or tensors that are no adapter of this bundle; the slot is then as it was.
        """
        ...


# Engine by name: the module that needs the heavy library, and the class in it.
ENGINES: Mapping[str, tuple[str, str]] = {
    "torch": ("flexor.runtime.inference.torch_engine", "TorchEngine"),
    "onnx": ("flexor.runtime.inference.onnx_engine", "OnnxEngine"),
    "tensorrt": ("flexor.runtime.inference.tensorrt_engine", "TensorrtEngine"),
    "torchscript": ("flexor.runtime.inference.torch_script_engine", "TorchscriptEngine"),
    "pt2": ("flexor.runtime.inference.torch_pt2_engine", "Pt2Engine"),
}

EXTRAS: Mapping[str, str] = {"torchscript": "torch", "pt2": "torch"}
"""What to install for an engine or a format, where the extra has another name."""


def open_engine(
    bundle: Bundle,
    engine: str | None = None,
    precision: str | None = None,
    threads: int = 1,
    flow_steps: int | None = None,
    force: bool = False,
    provider: str | None = None,
) -> Engine:
    """Load a bundle into an engine; its library is imported only now.

    Args:
        bundle: what to run.
        engine: key of ENGINES; None for the one that the bundle's graphs are for, torch for weights.
        precision: what the engine computes in; the bundle's own when None.
        threads: CPU threads, 1 or more.
        flow_steps: Euler steps; the bundle's own when None.
        force: also in a precision that failed its gate, that this machine only emulates, or into too little memory.
        provider: where graphs run, e.g. cuda; None for the CPU. Weights run on a GPU where there is one.

    Raises:
        EngineError: no such engine or library, or one that cannot run this bundle so.
        NotEnoughMemory: it does not fit; told before anything is loaded.
        ScalesError: fp8, and the bundle has no scales of its activations.
        BundleError: weights that are not those of the bundle's model.
        GateError: the precision failed its gate.
    """
    graphs = bundle.config.graphs
    engine = engine or (graphs.format if graphs else "torch")
    if engine not in ENGINES:
        raise EngineError(f"engine {engine!r} does not exist; choose one of: {', '.join(ENGINES)}")
    if threads < 1:
        raise EngineError(f"threads is {threads}; expected 1 or more")
    steps = bundle.config.flow_steps if flow_steps is None else flow_steps
    if steps < 1:
        raise EngineError(f"flow_steps is {steps}; expected 1 or more")
    if engine == "torch" and graphs is not None:
        raise EngineError(
            f"{bundle.id} holds graphs for the engine {graphs.format} and no weights; take --engine {graphs.format}, or"
            " the bundle that it was exported from"
        )
    if engine == "torch" and provider is not None:
        raise EngineError(f"engine torch takes no provider ({provider!r}): it runs on the first GPU, if there is one")
    precision = precision or bundle.precision
    module, name = ENGINES[engine]
    try:
        kind = getattr(import_module(module), name)
        if not force:
            kind.check(bundle, precision, steps)
        opened: Engine = kind(bundle, precision, threads, steps, **({"provider": provider} if provider else {}))
    except ModuleNotFoundError as error:
        raise EngineError(
            f"engine {engine!r} needs {error.name}, which is not installed; pip install"
            f" 'flexor[{EXTRAS.get(engine, engine)}]'"
        ) from error
    if not force:
        check_gate(bundle, opened.precision)  # by the name that the engine gives it
    return opened
