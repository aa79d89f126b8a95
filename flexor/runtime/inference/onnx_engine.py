"""OnnxEngine: exported graphs in onnxruntime. Imports no torch.

An adapter is a set of inputs. onnxruntime has adapters of its own, and ignores them where inputs are bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession, IOBinding, OrtValue

from flexor.pi05.images import pillow_resample
from flexor.pi05.lora import SLOTS, check_packed, check_slot, packed_shapes, widen
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import EngineError
from flexor.runtime.inference.graphs import ANY, Port, expert_ports, prefix_ports
from flexor.runtime.inference.onnx_session import open_session


@dataclass(frozen=True, slots=True)
class OnnxPrefix:
    """What the prefix graph left: tensors of onnxruntime, of this observation alone."""

    cache: OrtValue
    length: OrtValue


class OnnxEngine:
    """An Engine on the graphs of a bundle. Their precision and flow steps are what they were exported with.

    Args:
        bundle: of exported graphs.
        precision: None, or that of the graphs.
        threads: CPU threads of every call.
        flow_steps: that of the graphs.
        provider: where they run: cpu or cuda.

    Raises:
        EngineError: a bundle without graphs of this format, another precision or number of steps, a provider that is
            not there, a file that onnxruntime cannot load, or graphs with other inputs than the bundle says.
    """

    name = "onnx"
    resample = staticmethod(pillow_resample)

    def __init__(
        self, bundle: Bundle, precision: str | None, threads: int, flow_steps: int, provider: str = "cpu"
    ) -> None:
        self.check(bundle, precision, flow_steps)
        graphs = bundle.config.graphs
        assert graphs is not None
        self.precision, self.provider = graphs.precision, provider
        self.flow_steps, self.threads, self.slots = flow_steps, threads, SLOTS
        self._config, self._graphs, self._bundle_id = bundle.model_config, graphs, bundle.id
        prefix, expert = (open_session(bundle.path / name, threads, provider) for name in graphs.files)
        _check_ports(bundle, graphs.files[0], prefix, prefix_ports(bundle.config))
        _check_ports(bundle, graphs.files[1], expert, expert_ports(bundle.config, graphs.rank, graphs.one_step))
        self._prefix, self._encoding = prefix, prefix.io_binding()
        self._expert, self._denoising = expert, expert.io_binding()
        self._tokens = np.zeros(bundle.model_config.max_prompt_tokens, np.int64)
        self._clamp = np.zeros((bundle.config.horizon, bundle.model_config.action_dim), np.float32)
        zeros = {name: np.zeros(shape, np.float32) for name, shape in packed_shapes(self._config, graphs.rank).items()}
        base = {name: self._put(tensor) for name, tensor in zeros.items()}
        self._slots = [base] * SLOTS
        self._unconditioned: dict[int, dict[str, OrtValue]] = {}

    @property
    def captures(self) -> int:
        """See Engine."""
        return 0

    @staticmethod
    def check(bundle: Bundle, precision: str | None, flow_steps: int) -> None:
        """Refuse what these graphs are not, before anything is loaded.

        Raises:
            EngineError: no graphs of this format, another precision, or another number of steps.
        """
        graphs = bundle.config.graphs
        if graphs is None or graphs.format != OnnxEngine.name:
            raise EngineError(f"{bundle.id} has no ONNX graphs; make them: flexor export {bundle.path} --format onnx")
        if precision not in (None, graphs.precision):
            raise EngineError(
                f"{bundle.id} was exported in {graphs.precision}, not in {precision}; export it again:"
                f" flexor export --format onnx --precision {precision}"
            )
        if flow_steps != bundle.config.flow_steps:
            raise EngineError(
                f"{bundle.id} was exported with {bundle.config.flow_steps} flow steps, not {flow_steps}; export it"
                f" again: flexor export --format onnx --flow-steps {flow_steps}"
            )

    def encode(self, images: NDArray[np.float32], tokens: NDArray[np.int64]) -> OnnxPrefix:
        """See Engine.

        Raises:
            EngineError: more tokens than the graph takes, or images of another shape.
        """
        if len(tokens) > len(self._tokens):
            raise EngineError(f"the prompt has {len(tokens)} tokens; {self._bundle_id} takes {len(self._tokens)}")
        self._tokens[: len(tokens)] = tokens
        given = {"images": images, "tokens": self._tokens, "token_count": np.array([len(tokens)], np.int64)}
        cache, length = self._run(self._prefix, self._encoding, given, ("cache", "length"))
        return OnnxPrefix(cache, length)

    def load_slot(self, slot: int, tensors: Mapping[str, NDArray[np.float32]] | None) -> None:
        """See Engine; an adapter of a smaller rank than the graphs take is filled up with zeros.

        Raises:
            EngineError: a slot that cannot be written, or an adapter that is not for these graphs.
        """
        try:
            check_slot(slot, first=1)
            rank = 0 if tensors is None else check_packed(self._config, tensors)
        except ValueError as error:
            raise EngineError(f"slot {slot} is as it was: {error}") from error
        made = self._slots[0]
        if tensors is not None:
            if rank > self._graphs.rank:
                raise EngineError(
                    f"slot {slot} is as it was: the adapter has rank {rank}, and the graphs of {self._bundle_id} take"
                    f" at most {self._graphs.rank}; export them again: flexor export --rank {rank}"
                )
            wide = widen(tensors, rank, self._graphs.rank)
            made = {name: self._put(tensor) for name, tensor in wide.items()}
        self._slots[slot] = made  # at once: a call under way goes on with what it began with

    def denoise(
        self,
        prefix: OnnxPrefix,
        noise: NDArray[np.float32],
        action_prefix: NDArray[np.float32] | None,
        slot: int = 0,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See Engine.

        Raises:
            EngineError: a slot that there is not, or shapes that do not fit.
        """
        try:
            check_slot(slot)
        except ValueError as error:
            raise EngineError(str(error)) from error
        clamped = 0 if action_prefix is None else len(action_prefix)
        if action_prefix is not None:
            self._clamp[:clamped] = action_prefix
        given = {
            "cache": prefix.cache,
            "length": prefix.length,
            "noise": noise,
            "action_prefix": self._clamp,
            "action_prefix_length": np.array([clamped], np.int64),
            **self._condition(len(noise)),
            **self._slots[slot],
        }
        if not self._graphs.one_step:
            actions, velocities = self._run(self._expert, self._denoising, given, ("actions", "velocities"))
            return actions.numpy(), velocities.numpy()
        steps = []
        for step in range(self.flow_steps):
            given["step"] = np.array([step], np.int64)
            given["noise"], velocity = self._run(self._expert, self._denoising, given, ("actions", "velocities"))
            steps.append(velocity.numpy())
        return given["noise"].numpy(), np.stack(steps)

    def _condition(self, count: int) -> dict[str, OrtValue]:
        """No sample sees a conditioning token; made once for every number of samples."""
        if count not in self._unconditioned:
            token = np.zeros((count, 1, self._config.expert.width), np.float32)
            made = {"condition": self._put(token), "condition_mask": self._put(np.zeros(count, bool))}
            self._unconditioned[count] = made
        return self._unconditioned[count]

    def _put(self, array: NDArray[np.generic]) -> OrtValue:
        # A copy: on a CPU an OrtValue would lie in the array's own memory.
        return OrtValue.ortvalue_from_numpy(array.copy(), self.provider, 0)

    def _run(
        self,
        session: InferenceSession,
        binding: IOBinding,
        given: Mapping[str, OrtValue | NDArray[np.generic]],
        wanted: Sequence[str],
    ) -> list[OrtValue]:
        """One call; outputs lie in memory of their own."""
        arrays = {name: np.ascontiguousarray(value) for name, value in given.items() if not isinstance(value, OrtValue)}
        for name, value in given.items():
            if isinstance(value, OrtValue):
                binding.bind_ortvalue_input(name, value)
            else:
                binding.bind_cpu_input(name, arrays[name])  # bound by address: `arrays` keeps them until the end
        for name in wanted:
            binding.bind_output(name, self.provider)
        try:
            session.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime's own errors have no common class of their own
            raise EngineError(f"engine onnx cannot run {self._bundle_id}: {str(error).splitlines()[0]}") from error
        return binding.get_outputs()


def _check_ports(
    bundle: Bundle, name: str, session: InferenceSession, ports: tuple[Sequence[Port], Sequence[Port]]
) -> None:
    """Refuse a file whose tensors are not those that bundle.json tells of."""
    types = {"float32": "tensor(float)", "int64": "tensor(int64)", "bool": "tensor(bool)"}
    for found, expected in ((session.get_inputs(), ports[0]), (session.get_outputs(), ports[1])):
        theirs = [(node.name, node.type, [ANY if isinstance(n, str) else n for n in node.shape]) for node in found]
        ours = [(port.name, types[port.dtype], list(port.shape)) for port in expected]
        if theirs != ours:
            odd = next((pair for pair in zip(theirs, ours, strict=False) if pair[0] != pair[1]), (theirs, ours))
            raise EngineError(
                f"{bundle.path / name} has {odd[0]}, and bundle.json asks for {odd[1]}; export the bundle again"
            )
