"""The engine thread: takes envelopes from the mailbox, runs the policy, hands outcomes back. It knows no socket."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.inference.engine import EngineError
from flexor.runtime.inference.preprocessor import BadObservation
from flexor.runtime.observation import ActionChunk, Observation
from flexor.runtime.serving.mailbox import Envelope, Mailbox

IDLE_WAIT_S = 1.0
SLACK_AFTER_S = 0.002  # time to send the reply and for the next request to come, before the interpreter is busy again
logger = logging.getLogger(__name__)


class ServedPolicy(Protocol):
    """What a server needs of a policy; inference.policy.Policy is one. Only the engine thread calls it."""

    def describe(self) -> dict[str, Any]:
        """Plain values for hello. Called once, before the thread starts."""
        ...

    def warm_up(self) -> None:
        """Make the first request as quick as the others."""
        ...

    def infer(
        self, observation: Observation, noise_seed: int, action_prefix: NDArray[np.float32] | None = None
    ) -> ActionChunk:
        """Answer one observation; BadObservation when the fault is the asker's."""
        ...

    def surprise(self, noise_seed: int) -> dict[str, float]:
        """Score the last chunk by sampling it again."""
        ...


@dataclass(frozen=True, slots=True)
class Ready:
    """The policy is warm."""


@dataclass(frozen=True, slots=True)
class Computed:
    """A chunk for `envelope`; timing_ms: wait (in the mailbox) and policy (the whole call)."""

    envelope: Envelope
    chunk: ActionChunk
    timing_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Refused:
    """`envelope` gets an error; code: bad_observation, engine or internal."""

    envelope: Envelope
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Scored:
    """Slack scores of the chunk that `envelope` asked for."""

    envelope: Envelope
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Unscored:
    """The slack scores of a chunk could not be computed; its reply had gone out before."""

    envelope: Envelope
    message: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The thread is over; error is what ended it before it was asked to."""

    error: BaseException | None


Outcome = Ready | Computed | Refused | Scored | Unscored | Ended


class EngineThread(threading.Thread):
    """Owns the policy from start() until it ends, which it does when the mailbox is closed."""

    def __init__(
        self, policy: ServedPolicy, mailbox: Mailbox, slack_entropy: bool, post: Callable[[Outcome], None]
    ) -> None:
        """`post` is called in this thread with what happened, in order."""
        super().__init__(name="flexor-engine", daemon=True)
        self._policy = policy
        self._mailbox = mailbox
        self._slack_entropy = slack_entropy
        self._post = post

    def run(self) -> None:
        """Warm up, then serve until the mailbox is closed."""
        error: BaseException | None = None
        try:
            self._policy.warm_up()
            self._post(Ready())
            unscored: tuple[Envelope, int] | None = None
            while not self._mailbox.closed:
                envelope = self._mailbox.take(IDLE_WAIT_S if unscored is None else SLACK_AFTER_S)
                if envelope is not None:
                    unscored = self._serve(envelope)
                elif unscored is not None:
                    self._post(self._score(*unscored))
                    unscored = None
        except BaseException as failure:  # told to whoever waits for the server, which raises it
            error = failure
        self._post(Ended(error))

    def _serve(self, envelope: Envelope) -> tuple[Envelope, int] | None:
        """Answer, and return the envelope and seed of a chunk that is to be scored when there is slack."""
        request = envelope.request
        seed = secrets.randbits(63) if request.noise_seed is None else request.noise_seed
        try:
            outcome = self._answer(envelope, seed)
        except BaseException as error:  # the thread ends by it, but the request under way is still owed a reply
            self._post(Refused(envelope, "internal", f"the engine ended: {type(error).__name__}: {error}"))
            raise
        self._post(outcome)
        return (envelope, seed) if isinstance(outcome, Computed) and self._slack_entropy else None

    def _answer(self, envelope: Envelope, seed: int) -> Computed | Refused:
        request = envelope.request
        began = time.monotonic()
        try:
            chunk = self._policy.infer(request.observation, seed, request.action_prefix)
            if not np.isfinite(chunk.actions).all():
                raise EngineError("the policy gave actions that are not finite; its weights or precision are at fault")
        except BadObservation as error:
            return Refused(envelope, "bad_observation", str(error))
        except EngineError as error:
            logger.error("step %d of session %s: %s", request.step, request.session, error)
            return Refused(envelope, "engine", str(error))
        except Exception as error:
            logger.exception("step %d of session %s failed in the policy", request.step, request.session)
            return Refused(envelope, "internal", f"{type(error).__name__}: {error}; see the server's log")
        ended = time.monotonic()
        timing_ms = {"wait": 1000.0 * (began - envelope.arrived_s), "policy": 1000.0 * (ended - began)}
        return Computed(envelope, chunk, timing_ms)

    def _score(self, envelope: Envelope, seed: int) -> Scored | Unscored:
        try:
            return Scored(envelope, self._policy.surprise(seed))
        except Exception as error:
            logger.exception(
                "step %d of session %s could not be scored", envelope.request.step, envelope.request.session
            )
            return Unscored(envelope, f"{type(error).__name__}: {error}")
