"""What `infer` asks and what `chunk` answers, as dataclasses with their way onto the wire and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.observation import ActionChunk, Observation, Provenance
from flexor.runtime.serving.schema import IMAGE_PREFIX
from flexor.runtime.serving.wire import Message, WireError, short

PROVENANCE = {entry.name: int if entry.name in ("flow_steps", "noise_seed") else str for entry in fields(Provenance)}


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One question to the policy.

    Attributes:
        session: whose observation this is; a newer one of the same session supersedes it.
        step: control step of the observation, repeated by the scores of its chunk.
        budget_ms: how long after its arrival at the server the request is still worth starting.
        delay_steps: control steps that the asker expects to play before the reply is there.
        noise_seed: None lets the server choose.
        observation: what the policy looks at; arrays are read-only views on the server.
        action_prefix: float32 [delay_steps, A] in robot units, the actions that will be played until then; or None.
    """

    session: str
    step: int
    budget_ms: float
    delay_steps: int
    noise_seed: int | None
    observation: Observation
    action_prefix: NDArray[np.float32] | None

    def fields(self) -> dict[str, Any]:
        """The header keys of this request."""
        return {
            "session": self.session,
            "prompt": self.observation.prompt,
            "step": self.step,
            "budget_ms": float(self.budget_ms),
            "delay_steps": self.delay_steps,
            "noise_seed": self.noise_seed,
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of this request by their name on the wire."""
        # Small ones first: a small frame behind a large one is a write of its own.
        return {**self.small_arrays(), **self.images()}

    def small_arrays(self) -> dict[str, NDArray[Any]]:
        """All but the images."""
        if self.action_prefix is None:
            return {"state": self.observation.state}
        return {"state": self.observation.state, "action_prefix": self.action_prefix}

    def images(self) -> dict[str, NDArray[np.uint8]]:
        """The images by their name on the wire."""
        return {IMAGE_PREFIX + name: image for name, image in self.observation.images.items()}

    @classmethod
    def from_message(cls, message: Message) -> InferRequest:
        """The request in a message that passed the schema.

        Raises:
            WireError: an action prefix whose length is not delay_steps.
        """
        keys, arrays = message.fields, message.arrays
        images = {n.removeprefix(IMAGE_PREFIX): a for n, a in arrays.items() if n.startswith(IMAGE_PREFIX)}
        prefix = arrays.get("action_prefix")
        if prefix is not None and len(prefix) != keys["delay_steps"]:
            raise WireError(
                "bad_value",
                f"action_prefix has {len(prefix)} actions but delay_steps is {keys['delay_steps']}; they must agree",
                message.id,
            )
        observation = Observation(images, arrays["state"], keys["prompt"])
        return cls(
            keys["session"],
            keys["step"],
            float(keys["budget_ms"]),
            keys["delay_steps"],
            keys.get("noise_seed"),
            observation,
            prefix,
        )


def chunk_message(
    request_id: int | None,
    chunk: ActionChunk,
    timing_ms: Mapping[str, float],
    scored: tuple[int, Mapping[str, float]] | None,
) -> Message:
    """The reply that carries `chunk`.

    Args:
        timing_ms: the server's own stages, added to the chunk's.
        scored: step and slack scores of an earlier chunk of the same session, when they have been computed since.
    """
    scores = {**chunk.scores, **(scored[1] if scored else {})}
    header = {
        "provenance": {name: getattr(chunk.provenance, name) for name in PROVENANCE},
        "timing_ms": {stage: float(ms) for stage, ms in {**chunk.timing_ms, **timing_ms}.items()},
        "scores": {name: float(score) for name, score in scores.items()},
        "scored_step": scored[0] if scored else None,
    }
    return Message("chunk", request_id, header, {"actions": chunk.actions})


def chunk_from(message: Message) -> tuple[ActionChunk, int | None]:
    """The chunk in a message that passed the schema, and the step that its slack scores belong to.

    Raises:
        WireError: provenance without one of its entries, with an unknown one, or with one of another type.
    """
    given = message.fields["provenance"]
    if {name: type(value) for name, value in given.items()} != PROVENANCE:
        raise WireError("bad_value", f"provenance is {short(given)}; expected {list(PROVENANCE)}", message.id)
    chunk = ActionChunk(
        message.arrays["actions"], Provenance(**given), message.fields["timing_ms"], message.fields["scores"]
    )
    return chunk, message.fields.get("scored_step")
