"""Draws training batches: a function of (seed, step), so that a resumed run sees what the undisturbed one would."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flexor.learner.augment import Photometry, doubt, paste, shift, to_model
from flexor.learner.demonstrations import Demonstrations
from flexor.learner.foresight import untouched, waypoints
from flexor.learner.prompt_table import PromptTable
from flexor.learner.settings import PretrainSettings
from flexor.pi05.normalize import Normalizer

# Streams of random numbers that never meet: for the order of an epoch, for what is drawn in a step, and for
# what else is asked for in it.
ORDER, DRAWS, OTHERS = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Others:
    """Samples of a batch with a sentence that asks for something else in their scene, K of B.

    Attributes:
        rows: int64 [K], which samples.
        tokens: int64 [K, T]; token_mask: bool [K, T].
        places: float32 [K, 3], normalised: where the gripper would close first.
    """

    rows: Tensor
    tokens: Tensor
    token_mask: Tensor
    places: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """What a step learns from, on the model's device.

    Attributes:
        images: float32 [B, V, 3, S, S] in [-1, 1].
        tokens: int64 [B, T]; token_mask: bool [B, T], False where padded.
        actions: float32 [B, H, A], normalised.
        committed: float32 [B, H, A], normalised: what the model is shown of the actions already on their way.
        places: float32 [B, 2, 3], normalised; known: bool [B, 2] (flexor.learner.foresight).
        others: None where nothing else can be asked for, and in what is only measured.
        generator: on the same device, for the times and noises of the flow loss.
    """

    images: Tensor
    tokens: Tensor
    token_mask: Tensor
    actions: Tensor
    committed: Tensor
    places: Tensor
    known: Tensor
    others: Others | None
    generator: torch.Generator


class Batches:
    """Batches of `demonstrations`.

    Args:
        prompts: over every sentence in the order of `sentence_numbers`.
        state, actions: normalisers of the training samples.
        share: (k, n): draw only the k-th of n equal parts of every training batch.
    """

    def __init__(
        self,
        demonstrations: Demonstrations,
        prompts: PromptTable,
        state: Normalizer,
        actions: Normalizer,
        settings: PretrainSettings,
        device: torch.device,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._share = share
        self._images = demonstrations.images
        self._tasks = demonstrations.tasks
        self._states = state.normalize(demonstrations.states)
        self._actions = actions.normalize(demonstrations.actions)
        self._played = actions.normalize(demonstrations.played)
        self._places, self._known = waypoints(self._states, demonstrations.actions, demonstrations.episodes)
        self._episodes = demonstrations.episodes
        self._elsewhere = demonstrations.elsewhere.tasks
        self._closing = _positions(state, demonstrations.elsewhere.places, demonstrations.states.shape[1])
        asked = demonstrations.elsewhere.has_any()[demonstrations.episodes]
        self._open = asked & untouched(demonstrations.actions, demonstrations.episodes)
        self._training, self._held_out = demonstrations.split(settings.held_out)
        self._sentences = sentence_numbers(demonstrations)
        self._prompts = prompts
        self._settings = settings
        self._device = device
        self._order: tuple[int, NDArray[np.int64]] = (-1, self._training)

    def draw(self, step: int) -> Batch:
        """The training batch of `step` (from 0): augmented frames, noised state, a sentence drawn anew."""
        settings = self._settings
        part, parts = self._share
        rng = np.random.default_rng([settings.seed, DRAWS, step, *([part] if parts > 1 else [])])
        count = settings.batch // parts
        rows = self._rows(step * settings.batch + part * count, count)
        images = shift(self._images[rows], rng, settings.shift_pixels)
        images = paste(images, rng, settings.things, settings.thing_pixels)
        light = Photometry.draw(images, rng, settings.brightness, settings.contrast, settings.colour)
        states = self._states[rows] + rng.normal(0, settings.state_noise, (len(rows), self._states.shape[1]))
        sentence = self._say(self._tasks[rows], "train", rng)
        tokens, mask = self._prompts.encode(sentence, states.astype(np.float32), rng, settings.word_dropout)
        committed = doubt(self._played[rows], rng, settings.prefix_noise, settings.prefix_flips)
        frames = to_model(images, self._device, light)
        others = self._others(rows, states.astype(np.float32), step)
        return self._batch(frames, tokens, mask, rows, committed, int(rng.integers(2**62)), others)

    def held_out(self, kind: str) -> Iterator[Batch]:
        """The same held-out samples at every call, unaugmented, with "train" or "held_out" sentences."""
        rng = np.random.default_rng([self._settings.seed, DRAWS])
        count = min(self._settings.evaluation_samples, len(self._held_out))
        chosen = np.sort(rng.choice(self._held_out, count, replace=False))
        for start in range(0, count, self._settings.batch):
            rows = chosen[start : start + self._settings.batch]
            tokens, mask = self._prompts.encode(self._say(self._tasks[rows], kind, rng), self._states[rows])
            images = to_model(np.ascontiguousarray(self._images[rows]), self._device)
            yield self._batch(images, tokens, mask, rows, self._played[rows], start)

    def _others(self, rows: NDArray[np.int64], states: NDArray[np.float32], step: int) -> Others | None:
        """One other thing, drawn anew, for samples in whose scene one can be asked for and nothing was moved."""
        chosen = np.flatnonzero(self._open[rows])
        most = math.ceil(self._settings.elsewhere_share * len(rows))
        if self._settings.elsewhere == 0 or len(chosen) == 0:
            return None
        rng = np.random.default_rng([self._settings.seed, OTHERS, step, self._share[0]])
        chosen = np.sort(rng.choice(chosen, min(most, len(chosen)), replace=False))
        episodes = self._episodes[rows[chosen]]
        count = (self._elsewhere[episodes] >= 0).sum(axis=1)
        column = rng.integers(count)
        sentence = self._say(self._elsewhere[episodes, column], "train", rng)
        tokens, mask = self._prompts.encode(sentence, states[chosen], rng, self._settings.word_dropout)
        told = (chosen, tokens, mask, self._closing[episodes, column])
        return Others(*(torch.from_numpy(array).to(self._device) for array in told))

    def _rows(self, first: int, count: int) -> NDArray[np.int64]:
        """Samples `first` to `first + count` of an endless row of shuffled epochs."""
        length = len(self._training)
        parts = []
        while count > 0:
            epoch, offset = divmod(first, length)
            if self._order[0] != epoch:
                rng = np.random.default_rng([self._settings.seed, ORDER, epoch])
                self._order = (epoch, rng.permutation(self._training))
            parts.append(self._order[1][offset : offset + count])
            first += len(parts[-1])
            count -= len(parts[-1])
        return np.concatenate(parts)

    def _say(self, tasks: NDArray[np.int64], kind: str, rng: np.random.Generator) -> NDArray[np.int64]:
        """A sentence of `kind` for each task."""
        ranges = self._sentences[kind][tasks]
        return rng.integers(ranges[:, 0], ranges[:, 1])

    def _batch(
        self,
        images: Tensor,
        tokens: NDArray[np.int64],
        mask: NDArray[np.bool_],
        rows: NDArray[np.int64],
        committed: NDArray[np.float32],
        seed: int,
        others: Others | None = None,
    ) -> Batch:
        generator = torch.Generator(self._device)
        generator.manual_seed(seed)

        def put(array: NDArray) -> Tensor:
            return torch.from_numpy(array).to(self._device)

        return Batch(
            images=images,
            tokens=put(tokens),
            token_mask=put(mask),
            actions=put(self._actions[rows]),
            committed=put(committed),
            places=put(self._places[rows]),
            known=put(self._known[rows]),
            others=others,
            generator=generator,
        )


def _positions(state: Normalizer, places: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Positions [..., 3] as a state of `width` numbers has them, normalised."""
    padded = np.zeros((*places.shape[:-1], width), np.float32)
    padded[..., : places.shape[-1]] = places
    return np.ascontiguousarray(state.normalize(padded)[..., : places.shape[-1]])


def all_sentences(demonstrations: Demonstrations) -> list[str]:
    """Every sentence: task by task, first those to train on, then the held-out ones."""
    return [text for kinds in demonstrations.sentences for text in (*kinds.train, *kinds.held_out)]


def sentence_numbers(demonstrations: Demonstrations) -> dict[str, NDArray[np.int64]]:
    """For "train" and "held_out": int64 [tasks, 2], first and one past the last number in `all_sentences`."""
    ends = np.cumsum([len(kinds.train) + len(kinds.held_out) for kinds in demonstrations.sentences])
    trained = np.array([len(kinds.train) for kinds in demonstrations.sentences])
    starts = np.concatenate([[0], ends[:-1]])
    return {
        "train": np.stack([starts, starts + trained], axis=1),
        "held_out": np.stack([starts + trained, ends], axis=1),
    }
