"""The engine thread: takes envelopes from the mailbox, runs the policy, hands outcomes back. It knows no socket."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.adapters.adapter_slots import AdapterSlots, Carried
from flexor.runtime.inference.engine import EngineError
from flexor.runtime.inference.preprocessor import BadObservation
from flexor.runtime.observation import ActionChunk, Observation
from flexor.runtime.serving.mailbox import Envelope, Mailbox
from flexor.runtime.serving.messages import InferRequest

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


class AdaptedPolicy(ServedPolicy, Protocol):
    """What it needs besides to serve adapters."""

    slots: int

    def load_slot(self, slot: int, tensors: Mapping[str, NDArray[np.float32]] | None) -> None:
        """See Engine; the adapter thread calls it."""
        ...

    def infer(
        self,
        observation: Observation,
        noise_seed: int,
        action_prefix: NDArray[np.float32] | None = None,
        slot: int = 0,
    ) -> ActionChunk:
        """Answer one observation with the weights of a slot."""
        ...

    def shadow(self, noise_seed: int, slot: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The last answer, and what another slot would have answered: normalised [H, A]."""
        ...


class AdapterReports(Protocol):
    """Who hears how adapters do; AdapterThread is one. Each call returns at once."""

    def shadowed(self, carried: Carried, played: NDArray[np.float32], shadow: NDArray[np.float32]) -> None:
        """A request was computed with a candidate, too."""
        ...

    def failed(self, carried: Carried, told: str) -> None:
        """The engine failed with an adapter, or gave what is not finite; nothing computes with it any more."""
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


@dataclass(frozen=True, slots=True)
class Rested:
    """Nothing is computed and nothing is due, and somebody wanted to know (Mailbox.idle)."""


Outcome = Ready | Computed | Refused | Scored | Unscored | Rested | Ended


class EngineThread(threading.Thread):
    """Owns the policy from start() until it ends, which it does when the mailbox is closed."""

    def __init__(
        self,
        policy: ServedPolicy,
        mailbox: Mailbox,
        slack_entropy: bool,
        post: Callable[[Outcome], None],
        slots: AdapterSlots,
        reports: AdapterReports | None = None,
    ) -> None:
        """
        Args:
            post: called in this thread with what happened, in order.
            slots: which weights each session computes with; with reports, the policy is an AdaptedPolicy.
        """
        super().__init__(name="flexor-engine", daemon=True)
        self._policy = policy
        self._mailbox = mailbox
        self._slack_entropy = slack_entropy
        self._post = post
        self._slots = slots
        self._reports = reports
        self._later: deque[Callable[[], None]] = deque()  # what is done in the slack after a reply

    def run(self) -> None:
        """Warm up, then serve until the mailbox is closed."""
        error: BaseException | None = None
        try:
            self._policy.warm_up()
            self._post(Ready())
            self._rest()
            while not self._mailbox.closed:
                envelope = self._mailbox.take(SLACK_AFTER_S if self._later else IDLE_WAIT_S)
                if envelope is not None:
                    self._later.clear()
                    self._serve(envelope)
                elif self._later:
                    self._later.popleft()()
                if not self._later:
                    self._rest()
        except BaseException as failure:  # told to whoever waits for the server, which raises it
            error = failure
        self._post(Ended(error))

    def _rest(self) -> None:
        self._slots.leave()
        if self._mailbox.rest():
            self._post(Rested())

    def _serve(self, envelope: Envelope) -> None:
        """Answer, and keep for the slack what is to be done with the chunk then."""
        request = envelope.request
        seed = secrets.randbits(63) if request.noise_seed is None else request.noise_seed
        carried = self._slots.take(request.session)
        try:
            outcome = self._answer(envelope, seed, carried)
            if isinstance(outcome, Refused) and outcome.code == "engine" and carried.slot:
                # The robot is owed a chunk: what was there before the adapter gives it.
                instead = self._take_back(carried, outcome.message)
                carried, outcome = instead, self._answer(envelope, seed, instead)
        except BaseException as error:  # the thread ends by it, but the request under way is still owed a reply
            self._post(Refused(envelope, "internal", f"the engine ended: {type(error).__name__}: {error}"))
            raise
        self._post(outcome)
        if isinstance(outcome, Computed):
            self._slots.seen[carried.slot].policy_ms.append(outcome.timing_ms["policy"])
            candidate = self._slots.to_shadow()
            if candidate is not None and candidate.slot != carried.slot:
                self._later.append(lambda: self._shadow(seed, candidate))  # first: it is quick, and soon over
            if self._slack_entropy:
                self._later.append(lambda: self._post(self._score(envelope, seed, carried)))

    def _answer(self, envelope: Envelope, seed: int, carried: Carried) -> Computed | Refused:
        request = envelope.request
        began = time.monotonic()
        try:
            chunk = self._infer(request, seed, carried)
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

    def _infer(self, request: InferRequest, seed: int, carried: Carried) -> ActionChunk:
        if not carried.slot:
            return self._policy.infer(request.observation, seed, request.action_prefix)
        policy = cast(AdaptedPolicy, self._policy)
        chunk = policy.infer(request.observation, seed, request.action_prefix, carried.slot)
        return replace(chunk, provenance=replace(chunk.provenance, adapter=carried.adapter))

    def _take_back(self, carried: Carried, told: str) -> Carried:
        """Let nothing compute with an adapter any more; what to compute with instead."""
        instead = self._slots.quarantine(carried)
        if self._reports is not None:
            self._reports.failed(carried, told)
        return instead

    def _shadow(self, seed: int, candidate: Carried) -> None:
        """Compute the last request with the candidate, too."""
        try:
            played, shadow = cast(AdaptedPolicy, self._policy).shadow(seed, candidate.slot)
        except EngineError as error:
            self._take_back(candidate, str(error))
        except Exception as error:
            logger.exception("adapter %s failed in its shadow", candidate.adapter)
            self._take_back(candidate, f"{type(error).__name__}: {error}")
        else:
            if self._reports is not None:
                self._reports.shadowed(candidate, played, shadow)

    def _score(self, envelope: Envelope, seed: int, carried: Carried) -> Scored | Unscored:
        try:
            scores = self._policy.surprise(seed)
            if "ace_bits" in scores:
                self._slots.seen[carried.slot].bits.append(scores["ace_bits"])
            return Scored(envelope, scores)
        except Exception as error:
            logger.exception(
                "step %d of session %s could not be scored", envelope.request.step, envelope.request.session
            )
            return Unscored(envelope, f"{type(error).__name__}: {error}")
