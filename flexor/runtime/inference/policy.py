"""Policy: an observation in, an action chunk in robot units out. Knows units and prompts, not wires or sessions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import Engine, EngineError
from flexor.runtime.inference.entropy import CELL, ESTIMATOR, SAMPLES, accel, ace_bits, gauss_nats
from flexor.runtime.inference.preprocessor import BadObservation, Preprocessor
from flexor.runtime.observation import ActionChunk, Observation, Provenance

WARM_UP_CALLS = 3
_SURPRISE_STREAM = 1  # second word of the seed, so that the samples never repeat the chunk's own noise


@dataclass(slots=True)
class _Asked:
    """The last question, kept so that `surprise` and `shadow` can sample it again."""

    prefix: Any
    action_prefix: NDArray[np.float32] | None  # [d, A of the model], normalised
    slot: int
    images: NDArray[np.float32]
    tokens: NDArray[np.int64]
    answer: NDArray[np.float32] | None = None  # [1, H, A of the model], normalised


class Policy:
    """One bundle in one engine. One thread uses it.

    Args:
        bundle: what is served: cameras, prompt, normalisation, horizon.
        engine: the same bundle, loaded by `open_engine`.
        noise_scale: another than the bundle's.

    Attributes:
        executed: of a chunk's actions, how many are played before the next begins, and scored; the bundle's replan
            until whoever plays them sets another.

    Raises:
        BundleError: the bundle's tokenizer or statistics cannot be used.
    """

    def __init__(self, bundle: Bundle, engine: Engine, noise_scale: float | None = None) -> None:
        self.bundle = bundle
        self.engine = engine
        self._config = bundle.config
        self._noise_scale = np.float32(bundle.config.noise_scale if noise_scale is None else noise_scale)
        self._preprocessor = Preprocessor(bundle, engine.resample)
        self._action_normalizer = bundle.normalizers()[1]
        self._workspace = np.asarray(self._config.action_space.workspace, np.float64)
        self.executed = bundle.config.replan
        self._asked: _Asked | None = None

    def describe(self) -> dict[str, Any]:
        """What a client must know before it asks; plain values, ready for the wire."""
        config = self._config
        return {
            "bundle": self.bundle.name,
            "hash": self.bundle.hash,
            "cameras": list(config.cameras),
            "state_dim": config.state_dim,
            "action_dim": config.action_dim,
            "horizon": config.horizon,
            "replan": config.replan,
            "rtc_max_delay": config.rtc_max_delay,
            "hz": config.hz,
            "render": config.origin.get("render"),
            "flow_steps": self.engine.flow_steps,
            "noise_scale": float(self._noise_scale),
            "engine": self.engine.name,
            "provider": self.engine.provider,
            "precision": self.engine.precision,
            "entropy": {"samples": SAMPLES, "cell": CELL, "version": ESTIMATOR},
        }

    @property
    def slots(self) -> int:
        """See Engine."""
        return self.engine.slots

    def load_slot(self, slot: int, tensors: Mapping[str, NDArray[np.float32]] | None) -> None:
        """See Engine; any thread may call it."""
        self.engine.load_slot(slot, tensors)

    def infer(
        self,
        observation: Observation,
        noise_seed: int,
        action_prefix: NDArray[np.float32] | None = None,
        slot: int = 0,
    ) -> ActionChunk:
        """Answer one observation.

        Args:
            observation: images of the bundle's cameras in any size, state, prompt.
            noise_seed: 0 or more; the same seed gives the same actions bit for bit.
            action_prefix: float32 [d, A] in robot units: actions already committed, which the chunk begins with
                unchanged; d in 1..rtc_max_delay.
            slot: of the weights, 0 or more and below slots; the chunk's provenance says `base` all the same.

        Returns:
            Actions [H, A] with timing_ms prepare, encode, denoise, finish, total, and the score accel (where the flow
            has 2 steps or more).

        Raises:
            BadObservation: what was asked does not fit the bundle.
            EngineError: the engine gave numbers that are not finite.
        """
        began = time.perf_counter()
        images, tokens = self._preprocessor.prepare(observation)
        clamp = self._preprocessor.clamp(action_prefix)
        noise = self._start(noise_seed)
        prepared = time.perf_counter()
        self._asked = _Asked(self.engine.encode(images, tokens, slot), clamp, slot, images, tokens)
        encoded = time.perf_counter()
        sampled, velocities = self.engine.denoise(self._asked.prefix, noise, clamp, slot)
        self._asked.answer = sampled
        denoised = time.perf_counter()
        actions = self._robot_units(sampled)[0]
        if action_prefix is not None:
            actions[: len(action_prefix)] = action_prefix  # exactly: no rounding by the way there and back
        scores: dict[str, float] = {}
        if len(velocities) >= 2:
            scores["accel"] = self._accel(velocities[:, 0])
        finished = time.perf_counter()
        stages = {
            "prepare": prepared - began,
            "encode": encoded - prepared,
            "denoise": denoised - encoded,
            "finish": finished - denoised,
            "total": finished - began,
        }
        timing_ms = {stage: 1000.0 * seconds for stage, seconds in stages.items()}
        return ActionChunk(actions, self._provenance(noise_seed), timing_ms, scores)

    def surprise(self, noise_seed: int) -> dict[str, float]:
        """Sample the last question N = 8 times on its prefix and score how much the samples differ.

        Counted are the steps meant to be executed that no action prefix clamped: `replan` steps after it.

        Args:
            noise_seed: 0 or more.

        Returns:
            ace_bits and gauss_nats, both raw.

        Raises:
            EngineError: nothing was asked yet, or the engine gave numbers that are not finite.
        """
        if self._asked is None:
            raise EngineError("surprise() scores the last chunk, and there is none yet; call infer() first")
        shape = (SAMPLES, self._config.horizon, self._config.model.action_dim)
        noise = _generator(noise_seed, _SURPRISE_STREAM).standard_normal(shape, np.float32)
        sampled, _ = self.engine.denoise(self._asked.prefix, noise, self._asked.action_prefix, self._asked.slot)
        steps = self._executed()
        translations = self._robot_units(sampled)[:, steps, :3]
        scale = self._config.action_space.metres_per_unit
        return {
            "ace_bits": ace_bits(translations, scale, self._workspace),
            "gauss_nats": gauss_nats(sampled[:, steps, : self._config.action_dim]),
        }

    def shadow(self, noise_seed: int, slot: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Answer the last question again with the weights of another slot, on the same noise.

        Args:
            noise_seed: that the question was asked with.

        Returns:
            What was answered and what the other slot would have, normalised [H, A]; the latter may not be finite.

        Raises:
            EngineError: nothing was asked yet.
        """
        asked = self._asked
        if asked is None or asked.answer is None:
            raise EngineError("shadow() repeats the last chunk, and there is none yet; call infer() first")
        prefix = self.engine.encode(asked.images, asked.tokens, slot)
        sampled, _ = self.engine.denoise(prefix, self._start(noise_seed), asked.action_prefix, slot)
        return asked.answer[0, :, : self._config.action_dim], sampled[0, :, : self._config.action_dim]

    def _start(self, noise_seed: int) -> NDArray[np.float32]:
        """What a chunk's flow begins with, [1, H, A of the model]."""
        shape = (1, self._config.horizon, self._config.model.action_dim)
        return self._noise_scale * _generator(noise_seed).standard_normal(shape, np.float32)

    def warm_up(self) -> None:
        """Run every path on a blank observation, so that the first request is as quick as the others."""
        blank = self._preprocessor.blank()
        committed = None
        for call in range(WARM_UP_CALLS):
            chunk = self.infer(blank, call, committed)
            committed = chunk.actions[:1] if self._config.rtc_max_delay else None
            self.surprise(call)
        self._asked = None

    def _robot_units(self, sampled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalised [N, H, A of the model] to robot units [N, H, A]."""
        if not np.isfinite(sampled).all():
            raise EngineError(
                f"engine {self.engine.name} ({self.engine.precision}) gave actions that are not finite; the weights of"
                f" {self.bundle.id} are damaged, or this precision does not suit them"
            )
        return self._action_normalizer.unnormalize(sampled[..., : self._config.action_dim])

    def _accel(self, velocities: NDArray[np.float32]) -> float:
        try:
            return accel(velocities[:, self._executed(), : self._config.action_dim])
        except ValueError as error:
            raise EngineError(f"the chunk of {self.bundle.id} cannot be scored: {error}") from error

    def _executed(self) -> slice:
        """Rows of the last chunk that are meant to be executed and were not clamped.

        A chunk that continues d actions is asked for d steps early, and so is the one after it: it plays up to
        `executed`.
        """
        clamp = self._asked.action_prefix if self._asked else None
        first = 0 if clamp is None else len(clamp)
        return slice(first, max(self.executed, first + 1))

    def _provenance(self, noise_seed: int) -> Provenance:
        engine = self.engine
        return Provenance(
            bundle=self.bundle.id,
            adapter="base",
            engine=engine.name,
            provider=engine.provider,
            precision=engine.precision,
            flow_steps=engine.flow_steps,
            noise_seed=noise_seed,
        )


def _generator(noise_seed: int, *stream: int) -> np.random.Generator:
    if isinstance(noise_seed, bool) or not isinstance(noise_seed, int | np.integer) or not 0 <= noise_seed < 2**63:
        raise BadObservation(f"noise_seed is {noise_seed!r}; expected a whole number, 0 or more and below 2^63")
    return np.random.default_rng([int(noise_seed), *stream])
