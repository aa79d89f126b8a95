"""How near exported graphs are to the weights that they were made from: chunks of every adapter, on recorded ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.export.parity import Parity, compare_actions
from flexor.pi05.lora import random_adapter
from flexor.pi05.program import Program
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import Engine
from flexor.runtime.inference.gates import LEAST_MEAN, LEAST_WORST
from flexor.runtime.inference.preprocessor import Preprocessor
from flexor.runtime.inference.torch_engine import load_model
from flexor.runtime.observation import Observation

ADAPTERS = 2
LEAST_MOVED = 0.1
"""By how much of their spread an adapter has to move the actions: one that does nothing proves nothing."""

LEAST: Mapping[str, tuple[float, float]] = {
    "fp32": (0.99999, 0.999),
    "fp16": (0.9999, LEAST_WORST),
    "bf16": (LEAST_MEAN, LEAST_WORST),
    "int8": (LEAST_MEAN, LEAST_WORST),
    "fp8": (LEAST_MEAN, LEAST_WORST),
}
"""Cosines to the source, on average and at worst, that graphs of a precision must have."""

_TRIED_ON = 8  # observations, to find adapters that matter
_SIZES = (0.3, 0.6, 1.2, 2.4)


Question = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]
"""Images, tokens and noise."""


@dataclass(frozen=True, slots=True)
class GraphParity:
    """What was compared.

    Attributes:
        whole: all chunks together; what is judged.
        base: those without an adapter.
        adapters: those of each adapter.
        moved: by how much of their spread each adapter moves the source's actions.
        committed: chunks without an adapter that continue the first actions of the source's own, where the policy was
            trained for it.
    """

    whole: Parity
    base: Parity
    adapters: tuple[Parity, ...]
    moved: tuple[float, ...]
    committed: Parity | None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        adapters = [
            {**parity.to_dict(), "moved": moved} for parity, moved in zip(self.adapters, self.moved, strict=True)
        ]
        committed = None if self.committed is None else self.committed.to_dict()
        return {**self.whole.to_dict(), "base": self.base.to_dict(), "adapters": adapters, "committed": committed}


def least_cosines(prefix: str, expert: str) -> tuple[float, float]:
    """The lesser demands of two precisions, on average and at worst."""
    mean, worst = zip(LEAST[prefix], LEAST[expert], strict=True)
    return min(mean), min(worst)


def compare_with_source(
    engine: Engine,
    exported: Bundle,
    source: Bundle,
    observations: Sequence[Observation],
    told: Callable[[int], None],
) -> GraphParity:
    """Ask an engine on graphs, and the weights in float32, the same: noise, adapters, committed actions.

    Args:
        engine: has `exported` loaded; its slots 1 and above are written.
        exported: the bundle of graphs.
        source: the bundle of weights that they were made from.
        observations: recorded ones.
        told: is told how many were compared.

    Raises:
        FlexorError: another source, no observations, or no adapter that matters.
    """
    graphs, config = exported.config.graphs, exported.model_config
    if graphs is None or graphs.source != source.hash:
        raise FlexorError(f"{exported.id} was not exported from {source.id}; name the bundle of weights with --source")
    if not observations:
        raise FlexorError("parity needs at least one observation; record some: flexor collect")
    program = Program(load_model(source, None), exported.config.flow_steps)
    preprocessor, chunk = Preprocessor(exported), (config.horizon, config.action_dim)
    asked: list[Question] = []
    for seed, observation in enumerate(observations):
        noise = np.random.default_rng(seed).standard_normal((1, *chunk), np.float32)
        asked.append((*preprocessor.prepare(observation), noise))
    _load_adapters(program, engine, exported, graphs.rank, asked[:_TRIED_ON])
    pairs: list[list[NDArray[np.float32]]] = [[] for _ in range(ADAPTERS + 1)]
    continued: list[NDArray[np.float32]] = []
    for place, (images, tokens, noise) in enumerate(asked):
        question = images, tokens, noise
        for slot, found in enumerate(pairs):
            found.append(np.stack((_expected(program, question, slot), _answered(engine, question, slot))))
        if exported.config.rtc_max_delay:
            clamp = np.ascontiguousarray(pairs[0][-1][0, : exported.config.rtc_max_delay])
            expected = _expected(program, question, 0, clamp)
            continued.append(np.stack((expected, _answered(engine, question, 0, clamp))))
        told(place + 1)
    stacked = [np.stack(found).astype(np.float64) for found in pairs]
    base, *adapters = (compare_actions(found) for found in stacked)
    spread = stacked[0][:, 0].std()
    moved = tuple(float(np.abs(found[:, 0] - stacked[0][:, 0]).mean() / spread) for found in stacked[1:])
    held = [np.stack(continued).astype(np.float64)] if continued else []
    committed = compare_actions(held[0]) if held else None
    return GraphParity(compare_actions(np.concatenate((*stacked, *held))), base, tuple(adapters), moved, committed)


def _expected(
    program: Program, question: Question, slot: int, clamp: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    images, tokens, noise = (torch.from_numpy(array) for array in question)
    held = None if clamp is None else torch.from_numpy(clamp)
    return program.denoise(program.encode(images, tokens, slot), noise, held, slot)[0][0].numpy()


def _answered(
    engine: Engine, question: Question, slot: int, clamp: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    images, tokens, noise = question
    return engine.denoise(engine.encode(images, tokens, slot), noise, clamp, slot)[0][0]


def _load_adapters(program: Program, engine: Engine, exported: Bundle, rank: int, asked: Sequence[Question]) -> None:
    """Into slots 1 and above of both: random adapters, the smallest of _SIZES that matter."""

    def answers(slot: int) -> NDArray[np.float32]:
        return np.stack([_expected(program, question, slot) for question in asked])

    plain = answers(0)
    for slot in range(1, ADAPTERS + 1):
        for size in _SIZES:
            adapter = random_adapter(exported.model_config, rank, size, seed=slot)
            program.load_slot(slot, adapter)
            if (
                np.abs(answers(slot) - plain).mean() >= 1.2 * LEAST_MOVED * plain.std()
            ):  # of all, too, not of these only
                break
        else:
            raise FlexorError(
                f"no random adapter moves the actions of {exported.id}; are its weights those of a policy?"
            )
        engine.load_slot(slot, adapter)
