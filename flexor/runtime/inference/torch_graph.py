"""GraphProgram: a Program whose calls are CUDA graphs: copy in, replay, copy out.

Thousands of kernels take longer to launch one by one than to run. Everything is recorded once, on the first call; after
that nothing is allocated, launched or waited for but the copies. Adapters are copied into storage that the graphs read,
so that a swap records nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from flexor.pi05.expert_weights import ExpertWeights, assign_weights
from flexor.pi05.lora import SLOTS, check_slot
from flexor.pi05.merged_weights import Packed
from flexor.pi05.model import check_denoise
from flexor.pi05.prefix_weights import PrefixWeights
from flexor.pi05.products import DTYPES
from flexor.pi05.program import Program
from flexor.pi05.static_denoiser import StaticDenoiser
from flexor.pi05.static_encoder import StaticEncoder

LENGTHS = (32, 64, 128)
"""Prompts are read with as many tokens as the first of these that holds them, or as the longest prompt has."""

UNKNOWN = -1
"""No slot."""

Replay = Callable[[], None]
Record = Callable[[Callable[[], None]], Replay]
"""Takes work on fixed buffers and gives what does it again."""


class CudaRecorder:
    """A Record that captures CUDA graphs, which share their memory: one of them runs at a time.

    Attributes:
        captures: graphs so far.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._pool, self.captures = device, torch.cuda.graph_pool_handle(), 0

    def __call__(self, work: Callable[[], None]) -> Replay:
        """Run the work, so that libraries find their workspaces and kernels, then capture it."""
        beside = torch.cuda.Stream(self._device)
        beside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(beside):
            for _ in range(2):
                work()
        torch.cuda.current_stream(self._device).wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        # Other threads may stage an adapter or train meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            work()
        self.captures += 1
        return graph.replay


@dataclass(frozen=True, slots=True)
class GraphPrefix:
    """The cache of one observation: keys and values [layers, capacity, head_dim], of which `count` int64 [] are."""

    keys: Tensor
    values: Tensor
    count: Tensor


class GraphProgram:
    """The calls of a Program, from one thread; an adapter may be loaded from any.

    Args:
        program: prepared, and calibrated where its products want it.
        views: cameras.
        samples: numbers of chunks that a graph samples; others are made up of these.
        record: how work is recorded.
        compiled: see StaticDenoiser.
    """

    def __init__(
        self, program: Program, views: int, samples: Sequence[int], record: Record, compiled: bool = False
    ) -> None:
        self._program, self._record = program, record
        self._encoder = StaticEncoder(program, views, DTYPES[program.expert.precision])
        self._denoisers = {count: StaticDenoiser(program, self._encoder, count, compiled) for count in sorted(samples)}
        longest = program.config.max_prompt_tokens
        self._lengths = (*(length for length in LENGTHS if length < longest), longest)
        own = program.prefix_weights(0).projector, program.expert.weights(0)
        self._slots = (own, *(copy.deepcopy(own) for _ in range(1, SLOTS)))
        self._staged: dict[int, tuple[PrefixWeights, ExpertWeights]] = {}
        self._deep: dict[int, PrefixWeights] = {}  # of slots whose adapter changes more of it than the projector
        self._projecting = 0  # the slot whose projector the encoder has
        self._encodes: dict[int, Replay] = {}
        self._denoises: dict[tuple[int, int], Replay] = {}
        self._there: GraphPrefix | None = None
        self._beside = torch.cuda.Stream(self._encoder.keys.device) if self._encoder.keys.is_cuda else None

    @torch.inference_mode()
    def encode(self, images: Tensor, tokens: Tensor, slot: int = 0) -> GraphPrefix:
        """See `Program.encode`; the prefix outlives later calls."""
        check_slot(slot)
        self._record_all()
        self._publish(slot)
        encoder = self._encoder
        encoder.put(images, tokens)
        if slot in self._deep:
            encoder.keep(*self._program.read(encoder.images, encoder.tokens[: len(tokens)], self._deep[slot]))
        else:
            if self._projecting != slot:
                assign_weights(encoder.weights.projector, self._slots[slot][0])
                self._projecting = slot
            self._encodes[next(length for length in self._lengths if length >= len(tokens))]()
        self._there = GraphPrefix(encoder.keys.clone(), encoder.values.clone(), encoder.count.clone())
        return self._there

    @torch.inference_mode()
    def denoise(
        self, prefix: GraphPrefix, noise: Tensor, action_prefix: Tensor | None = None, slot: int = 0
    ) -> tuple[Tensor, Tensor]:
        """See `Program.denoise`; the results are the caller's own."""
        check_denoise(self._program.config, noise, self._program.expert.steps, action_prefix)
        check_slot(slot)
        self._record_all()
        self._publish(slot)
        if prefix is not self._there:
            for buffer, kept in zip(
                (self._encoder.keys, self._encoder.values, self._encoder.count),
                (prefix.keys, prefix.values, prefix.count),
                strict=True,
            ):
                buffer.copy_(kept)
            self._there = prefix
        found = [self._sample(part, action_prefix, slot) for part in noise.split(max(self._denoisers))]
        return torch.cat([actions for actions, _ in found]), torch.cat([velocities for _, velocities in found], dim=1)

    @torch.inference_mode()
    def load_slot(self, slot: int, packed: Packed | None) -> None:
        """See `Program.load_slot`: merged here and now, copied to where the graphs read it by the next call.

        Nobody records a graph for an adapter: with one that changes image tower or prefix layers, what sees and reads
        is launched kernel by kernel.
        """
        check_slot(slot, first=1)
        own = self._program.prefix_weights(0), self._slots[0][1]
        with nullcontext() if self._beside is None else torch.cuda.stream(self._beside):
            staged = own if packed is None else self._program.merge(packed)
        if self._beside is not None:
            self._beside.synchronize()
        self._staged[slot] = staged

    def _sample(self, noise: Tensor, action_prefix: Tensor | None, slot: int) -> tuple[Tensor, Tensor]:
        """N chunks by a graph of as many or more; what it samples beside them is thrown away."""
        count = len(noise)
        size = next(size for size in self._denoisers if size >= count)
        denoiser = self._denoisers[size]
        denoiser.put(torch.cat((noise, noise.new_zeros(size - count, *noise.shape[1:]))), action_prefix)
        self._denoises[size, slot]()
        return denoiser.actions[:count].clone(), denoiser.velocities[:, :count].clone()

    def _publish(self, slot: int) -> None:
        staged = self._staged.pop(slot, None)
        if staged is not None:
            prefix, expert = staged
            assign_weights(self._slots[slot], (prefix.projector, expert))
            if self._projecting == slot:
                self._projecting = UNKNOWN
            self._deep.pop(slot, None)
            if prefix.tower is not self._program.prefix_weights(0).tower:
                self._deep[slot] = prefix

    def _record_all(self) -> None:
        """Record every graph there will be: on the first call, since only then all scales are known."""
        if self._encodes:
            return
        for size, denoiser in self._denoisers.items():
            for slot, (_, weights) in enumerate(self._slots):
                self._denoises[size, slot] = self._record(partial(denoiser.run, weights))
        for length in self._lengths:
            self._encodes[length] = self._record(partial(self._encoder.run, length))
