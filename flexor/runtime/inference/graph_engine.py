"""GraphEngine: the two exported graphs of a bundle as an Engine, whatever library runs them. Imports no such library.

A format contributes how a file is opened, and how tensors come and go. An adapter is a set of inputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from flexor.pi05.images import pillow_resample
from flexor.pi05.lora import SLOTS, check_packed, check_slot, is_deep, packed_shapes, tensor_names, widen
from flexor.pi05.lora_targets import EXPERT_PAIRS, PREFIX_PAIRS
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import EngineError
from flexor.runtime.inference.graphs import ANY, Graphs, Port, Ports, expert_ports, prefix_ports

Held = TypeVar("Held")
"""A tensor of the library that runs the graphs, wherever it lies."""

Tensors = tuple[list[tuple[str, str, list[int | str]]], list[tuple[str, str, list[int | str]]]]
"""Inputs and outputs of a file: names, dtypes as numpy names them, shapes with ANY where the caller chooses."""


class Graph(Protocol[Held]):
    """One graph, loaded."""

    def run(self, given: Mapping[str, Held | NDArray[np.generic]]) -> Sequence[Held]:
        """Outputs in the order of the graph's ports, each in memory of its own.

        Args:
            given: every input by name. Arrays are C-contiguous and of the port's dtype and shape, and the caller's
                again when the call returns.

        Raises:
            EngineError: the library cannot run it.
        """
        ...


@dataclass(frozen=True, slots=True)
class GraphPrefix(Generic[Held]):
    """What the prefix graph left of this observation."""

    cache: Held
    length: Held


class GraphEngine(ABC, Generic[Held]):
    """An Engine on the graphs of a bundle. Their precision and flow steps are what they were exported with.

    Args:
        bundle: of exported graphs.
        precision: None, or that of the graphs.
        threads: CPU threads of every call.
        flow_steps: that of the graphs; where a call makes one step, any number that divides it.
        provider: where they run: cpu, or what else the format knows.

    Raises:
        EngineError: a bundle without graphs of this format, another precision or number of steps, a provider that is
            not there, a file that the library cannot load, or graphs with other tensors than the bundle says.
    """

    name: ClassVar[str]
    most_samples: ClassVar[int | None] = None  # N of one call, where the format has a limit
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
        self._stride = bundle.config.flow_steps // flow_steps
        ports = prefix_ports(bundle.config, graphs.rank), expert_ports(bundle.config, graphs.rank, graphs.one_step)
        self._inputs = [{port.name: port for port in inputs} for inputs, _ in ports]
        self._prefix, self._expert = (
            self._open(bundle.path / name, expected) for name, expected in zip(graphs.files, ports, strict=True)
        )
        self._tokens = np.zeros(bundle.model_config.max_prompt_tokens, np.int64)
        self._clamp = np.zeros((bundle.config.horizon, bundle.model_config.action_dim), np.float32)
        zeros = {name: np.zeros(shape, np.float32) for name, shape in packed_shapes(self._config, graphs.rank).items()}
        self._slots = [self._held(zeros)] * SLOTS
        self._unconditioned: dict[int, dict[str, Held]] = {}

    @abstractmethod
    def _open(self, path: Path, ports: Ports) -> Graph[Held]:
        """Load a graph, and refuse one of other tensors than `ports` tells of."""

    @abstractmethod
    def _put(self, array: NDArray[np.generic]) -> Held:
        """A copy of an array, where the graphs run."""

    @abstractmethod
    def _take(self, tensor: Held) -> NDArray[np.float32]:
        """An array of the caller's own."""

    @classmethod
    def check_machine(cls, bundle: Bundle, graphs: Graphs) -> None:
        """Refuse files that are tied to another library or machine, as graphs.built_for tells; most run anywhere.

        Raises:
            EngineError: tells what they were built for, what is here, and the command that builds them again.
        """

    @property
    def captures(self) -> int:
        """See Engine."""
        return 0

    @classmethod
    def check(cls, bundle: Bundle, precision: str | None, flow_steps: int) -> None:
        """Refuse what these graphs are not, before anything is loaded.

        Raises:
            EngineError: no graphs of this format, another precision, another number of steps, or another machine.
        """
        graphs = bundle.config.graphs
        if graphs is None or graphs.format != cls.name:
            raise EngineError(
                f"{bundle.id} has no {cls.name} graphs; make them: flexor export {bundle.path} --format {cls.name}"
            )
        if precision not in (None, graphs.precision):
            raise EngineError(
                f"{bundle.id} was exported in {graphs.precision}, not in {precision}; export it again:"
                f" flexor export --format {cls.name} --precision {precision}"
            )
        exported = bundle.config.flow_steps
        if exported % flow_steps if graphs.one_step else exported != flow_steps:
            raise EngineError(
                f"{bundle.id} was exported with {exported} flow steps, not {flow_steps}; export it again:"
                f" flexor export --format {cls.name} --flow-steps {flow_steps}"
            )
        cls.check_machine(bundle, graphs)

    def encode(self, images: NDArray[np.float32], tokens: NDArray[np.int64], slot: int = 0) -> GraphPrefix[Held]:
        """See Engine.

        Raises:
            EngineError: a slot that there is not, more tokens than the graph takes, or images of another shape.
        """
        adapter, _ = self._slot(slot)
        if len(tokens) > len(self._tokens):
            raise EngineError(f"the prompt has {len(tokens)} tokens; {self._bundle_id} takes {len(self._tokens)}")
        self._tokens[: len(tokens)] = tokens
        given = {"images": images, "tokens": self._tokens, "token_count": np.array([len(tokens)], np.int64)}
        cache, length = self._prefix.run({**self._checked(given, self._inputs[0]), **adapter})
        return GraphPrefix(cache, length)

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
            if is_deep(tensors):
                raise EngineError(
                    f"slot {slot} is as it was: the adapter changes image tower or prefix layers, and graphs take only"
                    f" projector and expert; serve what {self._bundle_id} was made from, or merge the adapter into that"
                    " and export it"
                )
            if rank > self._graphs.rank:
                raise EngineError(
                    f"slot {slot} is as it was: the adapter has rank {rank}, and the graphs of {self._bundle_id} take"
                    f" at most {self._graphs.rank}; export them again: flexor export --rank {rank}"
                )
            wide = widen(tensors, rank, self._graphs.rank)
            made = self._held(wide)
        self._slots[slot] = made  # at once: a call under way goes on with what it began with

    def denoise(
        self,
        prefix: GraphPrefix[Held],
        noise: NDArray[np.float32],
        action_prefix: NDArray[np.float32] | None,
        slot: int = 0,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See Engine.

        Raises:
            EngineError: a slot that there is not, or shapes that do not fit.
        """
        _, adapter = self._slot(slot)
        if self.most_samples is not None and len(noise) > self.most_samples:
            raise EngineError(
                f"noise has {len(noise)} samples; graphs for {self.name} take at most {self.most_samples} in one call"
            )
        clamped = 0 if action_prefix is None else len(action_prefix)
        if action_prefix is not None:
            self._clamp[:clamped] = action_prefix
        arrays = {
            "noise": noise,
            "action_prefix": self._clamp,
            "action_prefix_length": np.array([clamped], np.int64),
        }
        given: dict[str, Held | NDArray[np.generic]] = {
            **self._checked(arrays, self._inputs[1]),
            "cache": prefix.cache,
            "length": prefix.length,
            **self._condition(len(noise)),
            **adapter,
        }
        if not self._graphs.one_step:
            actions, velocities = self._expert.run(given)
            return self._take(actions), self._take(velocities)
        actions, velocities = None, list[NDArray[np.float32]]()
        for step in range(self.flow_steps):
            given["step"] = np.array([step * self._stride], np.int64)
            actions, velocity = self._expert.run(given)
            velocities.append(self._take(velocity))
            if self._stride > 1:  # the step that the graph itself makes is too short
                noise = (noise - velocities[-1] / self.flow_steps).astype(np.float32)
                noise[:, :clamped] = self._clamp[:clamped]
                actions = self._put(noise)
            given["noise"] = actions
        assert actions is not None  # there is at least one step
        return self._take(actions), np.stack(velocities)

    def _held(self, adapter: Mapping[str, NDArray[np.float32]]) -> tuple[dict[str, Held], dict[str, Held]]:
        """What each graph takes of an adapter: of all ranks alike."""
        prefix, expert = (
            {name: self._put(adapter[name]) for name in tensor_names(pairs)} for pairs in (PREFIX_PAIRS, EXPERT_PAIRS)
        )
        return prefix, expert

    def _slot(self, slot: int) -> tuple[dict[str, Held], dict[str, Held]]:
        """What the graphs take of an adapter.

        Raises:
            EngineError: there is no such slot.
        """
        try:
            check_slot(slot)
        except ValueError as error:
            raise EngineError(str(error)) from error
        return self._slots[slot]

    def _condition(self, count: int) -> dict[str, Held]:
        """No sample sees a conditioning token; made once for every number of samples."""
        if count not in self._unconditioned:
            token = np.zeros((count, 1, self._config.expert.width), np.float32)
            made = {"condition": self._put(token), "condition_mask": self._put(np.zeros(count, bool))}
            self._unconditioned[count] = made
        return self._unconditioned[count]

    def _checked(
        self, arrays: Mapping[str, NDArray[np.generic]], ports: Mapping[str, Port]
    ) -> dict[str, NDArray[np.generic]]:
        """As graphs take them. Libraries differ in what they do about wrong shapes; compiled ones read past the end."""
        for name, array in arrays.items():
            port = ports[name]
            fits = len(port.shape) == array.ndim and all(
                there == expected or (expected == ANY and there > 0)
                for there, expected in zip(array.shape, port.shape, strict=True)
            )
            if not fits or array.dtype != port.dtype:
                raise EngineError(
                    f"engine {self.name} cannot run {self._bundle_id}: {name} is {array.dtype} {list(array.shape)};"
                    f" expected {port.dtype} {list(port.shape)}"
                )
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def check_tensors(path: Path, found: Tensors, ports: Ports) -> None:
    """Refuse a file whose inputs or outputs are not those that bundle.json tells of.

    Raises:
        EngineError: names the first that differs.
    """
    for theirs, expected in zip(found, ports, strict=True):
        ours = [(port.name, port.dtype, list(port.shape)) for port in expected]
        if theirs != ours:
            odd = next((pair for pair in zip(theirs, ours, strict=False) if pair[0] != pair[1]), (theirs, ours))
            raise EngineError(f"{path} has {odd[0]}, and bundle.json asks for {odd[1]}; export the bundle again")
