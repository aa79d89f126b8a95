"""Questions: recorded observations as the two graphs are asked them, and the answers of graphs to all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from flexor.export.onnx.quantise import Feeds
from flexor.pi05.lora import packed_shapes, random_adapter, tensor_names
from flexor.pi05.lora_targets import EXPERT_PAIRS, PREFIX_PAIRS
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.preprocessor import Preprocessor
from flexor.runtime.observation import Observation

ADAPTER_SIZE = 0.3
"""Of the random adapters that graphs are tried with: it moves the shipped policy's actions by a sixth of their
spread."""


@dataclass(frozen=True, slots=True)
class Question:
    """One observation and what goes with it: prefix inputs, and of the expert's those that are not the cache."""

    prefix: Feeds
    expert: Feeds


def make_questions(bundle: Bundle, observations: Sequence[Observation], rank: int) -> list[Question]:
    """One of each observation: noise of its number, an adapter with every second one, and no action committed.

    Args:
        bundle: the source, whose tokens are padded to its longest prompt.
        observations: of its cameras.
        rank: of the adapters.
    """
    config, preprocessor, made = bundle.model_config, Preprocessor(bundle), []
    zeros = {name: np.zeros(shape, np.float32) for name, shape in packed_shapes(config, rank).items()}
    for seed, observation in enumerate(observations):
        images, tokens = preprocessor.prepare(observation)
        padded = np.zeros(config.max_prompt_tokens, np.int64)
        padded[: len(tokens)] = tokens
        generator = np.random.default_rng(seed)
        adapter = random_adapter(config, rank, ADAPTER_SIZE, seed) if seed % 2 else zeros
        chunk = (config.horizon, config.action_dim)
        expert = {
            "noise": generator.standard_normal((1, *chunk), np.float32),
            "action_prefix": np.zeros(chunk, np.float32),
            "action_prefix_length": np.zeros(1, np.int64),
            "condition": np.zeros((1, 1, config.expert.width), np.float32),
            "condition_mask": np.zeros(1, bool),
            **{name: adapter[name] for name in tensor_names(EXPERT_PAIRS)},
        }
        prefix = {
            "images": images,
            "tokens": padded,
            "token_count": np.array([len(tokens)], np.int64),
            **{name: adapter[name] for name in tensor_names(PREFIX_PAIRS)},
        }
        made.append(Question(prefix, expert))
    return made


def ask_prefix(session: InferenceSession, questions: Sequence[Question]) -> tuple[list[Feeds], list[float]]:
    """What a prefix graph leaves for the expert, and the seconds that each took."""
    found, seconds = [], []
    for question in questions:
        began = time.perf_counter()
        cache, length = session.run(["cache", "length"], dict(question.prefix))
        seconds.append(time.perf_counter() - began)
        found.append({"cache": cache, "length": length})
    return found, seconds


def ask_expert(
    session: InferenceSession, questions: Sequence[Question], caches: Sequence[Feeds], steps: int
) -> tuple[NDArray[np.float32], list[float]]:
    """Actions [n, H, A] of an expert graph on the caches of a prefix graph, and the seconds that each took.

    Args:
        steps: calls that a chunk takes; 1 where the graph makes all flow steps.
    """
    found, seconds = [], []
    for question, cache in zip(questions, caches, strict=True):
        feeds = {**cache, **question.expert}
        began = time.perf_counter()
        for step in range(steps):
            if steps > 1:
                feeds["step"] = np.array([step], np.int64)
            feeds["noise"] = np.asarray(session.run(["actions"], feeds)[0])
        seconds.append(time.perf_counter() - began)
        found.append(feeds["noise"][0])
    return np.stack(found), seconds
