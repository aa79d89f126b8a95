"""LocalPolicy: a bundle in the caller's own process, asked for chunks or for one action at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import open_engine
from flexor.runtime.inference.policy import Policy
from flexor.runtime.inference.preprocessor import BadObservation
from flexor.runtime.observation import ActionChunk, Observation

KEYS = ("images", "state", "prompt")


class LocalPolicy:
    """What `flexor.load` gives. One thread uses it.

    Observations are flexor.runtime.observation.Observation, or mappings of the same three: images (uint8 [h, w, 3] by
    camera name), state (float32 [S]), prompt (str).
    """

    def __init__(self, policy: Policy, seed: int = 0) -> None:
        self._policy, self._seed = policy, seed
        self._asked = 0
        self._left: list[NDArray[np.float32]] = []

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        engine: str | None,
        precision: str | None,
        threads: int,
        flow_steps: int | None,
        seed: int,
        force: bool,
    ) -> LocalPolicy:
        """Load and warm up; arguments and errors as of `flexor.load`."""
        opened = Bundle.open(bundle)
        policy = Policy(opened, open_engine(opened, engine, precision, threads, flow_steps, force))
        policy.warm_up()
        return cls(policy, seed)

    def describe(self) -> dict[str, Any]:
        """What is loaded: bundle, hash, cameras, state_dim, action_dim, horizon, replan, hz, engine, precision, ..."""
        return self._policy.describe()

    def infer(
        self, observation: Observation | Mapping[str, Any], action_prefix: NDArray[np.float32] | None = None
    ) -> ActionChunk:
        """A whole chunk, float32 [H, A] in robot units, with its provenance, timing and score.

        Args:
            action_prefix: float32 [d, A]: actions already committed, which the chunk begins with; d at most the
                bundle's rtc_max_delay.

        Raises:
            BadObservation: what was asked does not fit the bundle.
            EngineError: the engine gave numbers that are not finite.
        """
        chunk = self._policy.infer(_observation(observation), self._noise_seed(), action_prefix)
        self._asked += 1
        return chunk

    def select_action(self, observation: Observation | Mapping[str, Any]) -> NDArray[np.float32]:
        """The next action, float32 [A] in robot units, for one control step.

        A new chunk is asked for when the first `replan` actions of the last one are used up; in between the
        observation is not looked at. Call `reset` when an episode begins.

        Raises:
            BadObservation, EngineError: as `infer`.
        """
        if not self._left:
            self._left = list(self.infer(observation).actions[: self._policy.bundle.config.replan])
        return self._left.pop(0)

    def reset(self) -> None:
        """Forget the actions that are left of the last chunk, and begin the noise anew: another episode begins."""
        self._left, self._asked = [], 0

    def _noise_seed(self) -> int:
        return int(np.random.SeedSequence([self._seed, self._asked]).generate_state(1)[0])


def _observation(given: Observation | Mapping[str, Any]) -> Observation:
    if isinstance(given, Observation):
        return given
    if set(given) != set(KEYS):
        raise BadObservation(f"an observation has {', '.join(KEYS)}; this one has {', '.join(map(str, given))}")
    return Observation(**given)
