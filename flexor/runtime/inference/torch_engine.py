"""TorchEngine: PyTorch, eager on a CPU, by CUDA graphs on the first GPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve busy neighbours; read once, by torch

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from flexor.pi05.fp8 import calibrate
from flexor.pi05.lora import SLOTS, is_deep
from flexor.pi05.merged_weights import Packed, own_weights
from flexor.pi05.model import Pi05
from flexor.pi05.precision import dtype_of
from flexor.pi05.prefix import Prefix
from flexor.pi05.program import Program
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.bundle_config import BundleError
from flexor.runtime.inference.engine import EngineError
from flexor.runtime.inference.entropy import SAMPLES
from flexor.runtime.inference.fp8_scales import ScalesError, read_scales
from flexor.runtime.inference.precisions import full_name, parts
from flexor.runtime.inference.torch_graph import CudaRecorder, GraphProgram
from flexor.runtime.inference.torch_limits import check_deep_slot, check_limits, torch_device
from flexor.runtime.inference.torch_resample import torch_resample

PLAIN: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""Precisions of the model itself, for the few that a program cannot compute."""


class TorchEngine:
    """An Engine on PyTorch. Weights are cast to the precision when loaded, whatever they are stored in.

    Args:
        bundle: what to run.
        precision: of both programs ("bf16"), or of prefix and expert ("int8+bf16"). What
            `flexor.pi05.precision` names stays in float32.
        threads: CPU threads of every call, also when another engine of this process uses another number.
        flow_steps: Euler steps of denoise.

    Raises:
        EngineError: an unknown precision.
        ScalesError: fp8, and the bundle has no scales of its activations.
        BundleError: weights that are not this model's, or not finite.
    """

    name = "torch"
    resample = staticmethod(torch_resample)
    check = staticmethod(check_limits)

    def __init__(self, bundle: Bundle, precision: str, threads: int, flow_steps: int) -> None:
        prefix, expert = parts(precision)
        self._config, self._prefix = bundle.model_config, prefix
        self.precision = full_name(precision)
        self.threads = threads
        self.flow_steps = flow_steps
        self._device = torch_device()
        self.provider = str(self._device)
        self._use_threads()
        self._recorder: CudaRecorder | None = None
        if bundle.model_config.prefix.kv_heads == 1:  # what a Program can compute
            model, self.slots = load_model(bundle, None), SLOTS
            own = own_weights(model)  # adapters are merged into what is stored; a GPU needs no second copy of it
            self._program = Program(model.to(self._device), flow_steps, prefix, expert, own, release=True)
            if "fp8" in (prefix, expert):
                self._calibrate(bundle)
            self._runner = self._record(self._program, len(bundle.config.cameras), {prefix, expert})
        elif self.precision in PLAIN:
            self._program = _PlainProgram(load_model(bundle, PLAIN[precision]).to(self._device), flow_steps)
            self._runner, self.slots = self._program, 1
        else:
            raise EngineError(
                f"engine torch computes models of several key heads in one of {', '.join(PLAIN)}, not in {precision!r}"
            )

    @property
    def captures(self) -> int:
        """See Engine."""
        return 0 if self._recorder is None else self._recorder.captures

    def encode(self, images: NDArray[np.float32], tokens: NDArray[np.int64], slot: int = 0) -> Any:
        """See Engine."""
        self._use_threads()
        return self._runner.encode(self._put(images), self._put(tokens), slot)

    def denoise(
        self, prefix: Any, noise: NDArray[np.float32], action_prefix: NDArray[np.float32] | None, slot: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See Engine."""
        self._use_threads()
        clamp = None if action_prefix is None else self._put(action_prefix)
        actions, velocities = self._runner.denoise(prefix, self._put(noise), clamp, slot)
        return actions.cpu().numpy(), velocities.cpu().numpy()

    def load_slot(self, slot: int, tensors: Mapping[str, NDArray[np.float32]] | None) -> None:
        """See Engine."""
        self._use_threads()
        if tensors is not None and is_deep(tensors):
            check_deep_slot(self._config, self._prefix)
        try:
            self._runner.load_slot(slot, tensors)
        except ValueError as error:
            raise EngineError(f"slot {slot} is as it was: {error}") from error

    def _record(self, program: Program, views: int, precisions: set[str]) -> Program | GraphProgram:
        """What runs the program: CUDA graphs where there is a GPU and its products can be recorded."""
        if self._device.type == "cpu" or "bnb8" in precisions:
            return program
        self._recorder = CudaRecorder(self._device)
        return GraphProgram(program, views, (1, SAMPLES), self._recorder)

    def _calibrate(self, bundle: Bundle) -> None:
        try:
            calibrate(self._program, read_scales(bundle))
        except KeyError as error:
            raise ScalesError(
                f"the scales of {bundle.id} lack the product {error}: they are of another release; find them again:"
                f" flexor verify {bundle.path} --precision fp8 --calibrate --episodes DIR"
            ) from error

    def _put(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self._device)

    def _use_threads(self) -> None:
        # The count belongs to the process and to the calling thread, not to the engine: it is set again when it moved.
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)


class _PlainProgram:
    """The model itself behind the calls of a Program: any precision, any number of key heads."""

    def __init__(self, model: Pi05, steps: int) -> None:
        self._model, self._steps = model, steps

    @torch.inference_mode()
    def encode(self, images: Tensor, tokens: Tensor, slot: int = 0) -> Prefix:
        self._check(slot)
        return self._model.encode(images[None], tokens[None])

    @torch.inference_mode()
    def denoise(
        self, prefix: Prefix, noise: Tensor, action_prefix: Tensor | None = None, slot: int = 0
    ) -> tuple[Tensor, Tensor]:
        self._check(slot)
        return self._model.denoise(prefix, noise, self._steps, action_prefix)

    @staticmethod
    def _check(slot: int) -> None:
        if slot:
            raise ValueError(f"slot is {slot}; a model of several key heads has slot 0 alone")

    def load_slot(self, slot: int, packed: Packed | None) -> None:
        raise ValueError("models of several key heads carry no adapter; serve a model of one key head")


def load_model(bundle: Bundle, dtype: torch.dtype | None) -> Pi05:
    """The plain model of a bundle on the CPU, without gradients.

    Args:
        dtype: that it computes in; None leaves parameters as they are stored, but for those that always are float32
            (flexor.pi05.precision).

    Raises:
        BundleError: weights that are not this model's, or not finite.
    """
    path = bundle.weights_path
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise BundleError(f"{path} is not a safetensors file: {error}; write the bundle again") from error
    with torch.device("meta"):
        model = Pi05(bundle.model_config)
    expected = model.state_dict()
    for name, tensor in expected.items():
        if name not in stored:
            raise BundleError(f"{path} lacks the tensor {name}; the weights are of another model than bundle.json says")
        if stored[name].shape != tensor.shape or not stored[name].is_floating_point():
            raise BundleError(
                f"{path}: {name} is {stored[name].dtype} {list(stored[name].shape)}; expected floating point"
                f" {list(tensor.shape)}"
            )
        if not stored[name].isfinite().all():
            raise BundleError(f"{path}: {name} holds numbers that are not finite; restore the bundle")
    if unknown := sorted(set(stored) - set(expected)):
        raise BundleError(f"{path} holds unknown tensors {unknown[:3]}; the weights are of another model")
    cast = {name: tensor.to(dtype_of(name, dtype or tensor.dtype)) for name, tensor in stored.items()}
    model.load_state_dict(cast, assign=True)
    return model.eval().requires_grad_(False)
