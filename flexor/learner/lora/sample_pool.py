"""SamplePool: the samples of some demonstrations as the learner of an adapter asks for them, each on its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flexor.learner.augment import Photometry, doubt, paste, shift, to_model
from flexor.learner.demonstrations import Demonstrations
from flexor.learner.foresight import waypoints
from flexor.learner.lora.served_prompts import ServedPrompts
from flexor.learner.lora.settings import LoraSettings
from flexor.runtime.inference.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Seen:
    """What the prefix of one sample is made of.

    Attributes:
        images: float32 [1, V, 3, S, S] in [-1, 1].
        tokens: int64 [1, T], all real.
    """

    images: Tensor
    tokens: Tensor


class SamplePool:
    """Demonstrations in a bundle's units and words: what its Preprocessor would show its model of them.

    Args:
        demonstrations: of one folder, in the bundle's RecordingForm.
        bundle: whose tokenizer, prompt format and statistics are used.
        settings: how encodings are varied.

    Attributes:
        training, held_out: sample numbers, whole episodes apart.
        digest: names the content.

    Raises:
        DemonstrationError: a sentence that the bundle does not take, or too few episodes for one to be held out.
    """

    def __init__(self, demonstrations: Demonstrations, bundle: Bundle, settings: LoraSettings) -> None:
        state, actions = bundle.normalizers()
        self._demonstrations, self._settings = demonstrations, settings
        self._states = state.normalize(demonstrations.states)
        self._actions = actions.normalize(demonstrations.actions)
        self._played = actions.normalize(demonstrations.played)
        self._places, self._known = waypoints(self._states, demonstrations.actions, demonstrations.episodes)
        self._width = bundle.model_config.action_dim
        self._said = demonstrations.spoken
        none: list[tuple[str, ...]] = [() for _ in demonstrations.task_names]
        self._others = [kinds.train for kinds in demonstrations.sentences] or none
        self._prompts = ServedPrompts(bundle)
        for text in sorted({*self._said, *(text for texts in self._others for text in texts)}):
            self._prompts.check("a sentence that was said, or stands in sentences.json", text)
        self.training, self.held_out = demonstrations.split(settings.held_out)
        words = hashlib.sha256(repr(self._others).encode()).hexdigest()[:16]
        self.digest = f"{demonstrations.digest}-{words}"

    def key(self, row: int, encoding: int) -> str:
        """Names what `see` gives, without making it."""
        settings, demonstrations = self._settings, self._demonstrations
        told = hashlib.sha256(demonstrations.images[row].tobytes())
        told.update(self._states[row].tobytes())
        told.update(self._spoken(row).encode())
        if encoding > 0:
            varied = (settings.shift_pixels, settings.brightness, settings.contrast, settings.colour)
            varied += (settings.things, settings.thing_pixels) if settings.things else ()
            told.update(
                repr((settings.seed, demonstrations.number(row), encoding, *varied, settings.state_noise)).encode()
            )
            told.update("\n".join(self._others[demonstrations.tasks[row]]).encode())
        return told.hexdigest()

    def see(self, row: int, encoding: int) -> Seen:
        """The inputs of a sample: encoding 0 as they were recorded, any other one varied, by the seed and its number.

        Every second varied one says another sentence that its task is trained on, where there are any.
        """
        settings = self._settings
        images, states = self._demonstrations.images[row : row + 1], self._states[row : row + 1]
        sentence = self._spoken(row)
        if encoding == 0:
            frames = to_model(np.array(images), torch.device("cpu"))
        else:
            rng = np.random.default_rng([settings.seed, self._demonstrations.number(row), encoding])
            varied = shift(np.array(images), rng, settings.shift_pixels)
            varied = paste(varied, rng, settings.things, settings.thing_pixels)
            light = Photometry.draw(varied, rng, settings.brightness, settings.contrast, settings.colour)
            states = (states + rng.normal(0, settings.state_noise, states.shape)).astype(np.float32)
            frames = to_model(varied, torch.device("cpu"), light)
            others = self._others[self._demonstrations.tasks[row]]
            if others and encoding % 2 == 0:
                sentence = others[int(rng.integers(len(others)))]
        return Seen(frames, torch.from_numpy(self._prompts.tokens(sentence, states[0]))[None])

    def chunks(self, rows: NDArray[np.int64], rng: np.random.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """The actions to learn, and what is shown of those already on their way: float32 [n, H, A] each, normalised;
        and of how many of the former the loss is, int64 [n].

        A is the model's: where it has more channels than the robot, both end in zeros, and the loss counts these
        channels like any other, as openpi has it. With `rng` the latter are made as unreliable as the policy's own
        (flexor.learner.augment.doubt).
        """
        played = self._played[rows]
        if rng is not None:
            played = doubt(played, rng, self._settings.prefix_noise, self._settings.prefix_flips)
        reach = torch.from_numpy(self._demonstrations.reach[rows])
        return self._padded(self._actions[rows]), self._padded(played), reach

    def waypoints(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Where the gripper will close and let go (flexor.learner.foresight): float32 [n, 2, 3], normalised, and bool.

        Of an advised episode where it would have, by the advice, at a place that the robot came to.
        """
        return self._places[rows], self._known[rows]

    def _padded(self, chunks: NDArray[np.float32]) -> Tensor:
        wide = np.zeros((*chunks.shape[:2], self._width), np.float32)
        wide[..., : chunks.shape[2]] = chunks  # after doubt: the last channel that it knows is the gripper
        return torch.from_numpy(wide)

    def _spoken(self, row: int) -> str:
        return self._said[self._demonstrations.episodes[row]]
