"""EpisodeDesk: where episodes begin and end: what each computes with, and who hears of it. The I/O thread's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flexor.runtime.adapters.adapter_slots import AdapterSlots, Carried
from flexor.runtime.adapters.canary import Verdict
from flexor.runtime.serving.sessions import Sessions
from flexor.runtime.serving.wire import Message

Ended = Callable[[Carried, bool | None, Verdict | None], None]


class EpisodeDesk:
    """The episodes of all sessions.

    Args:
        sessions: that they belong to.
        slots: what they compute with.
        ended: hears what an episode computed with, whether it succeeded (None: nobody knows), and the verdict of a
            trial that is over with it.
        announce: publishes an event.
        trial_velocity: part of the robot's velocity limit that episodes of a trial keep to.
    """

    def __init__(
        self,
        sessions: Sessions,
        slots: AdapterSlots,
        ended: Ended,
        announce: Callable[[str, dict[str, Any]], None],
        trial_velocity: float,
    ) -> None:
        self._sessions, self._slots, self._ended, self._announce = sessions, slots, ended, announce
        self._trial_velocity = trial_velocity
        sessions.forgotten = self._forget

    def begin(self, message: Message) -> Message:
        """Answer episode.begin."""
        session, task, seed = message.fields["session"], message.fields["task"], message.fields.get("seed")
        self._sessions.begin_episode(session, task)
        binding = self._slots.bind(session, (task, seed))
        adapter = binding.carried.adapter
        self._announce("episode.begin", {"session": session, "task": task, "seed": seed, "adapter": adapter})
        scale = {} if binding.place is None else {"velocity_scale": self._trial_velocity}
        return Message("ok", message.id, {"adapter": adapter, **scale})

    def end(self, message: Message) -> Message:
        """Answer episode.end."""
        session, outcome = message.fields["session"], message.fields["outcome"]
        task = self._sessions.end_episode(session, outcome)
        if task is None:
            text = f"no episode is open in session {session!r}; begin one (a restarted server forgets open ones)"
            return Message("error", message.id, {"code": "no_episode", "message": text})
        adapter = self._release(session, {"success": True, "failure": False}.get(outcome))
        told = {key: message.fields.get(key) for key in ("outcome", "label", "source")}
        self._announce("episode.end", {"session": session, "task": task, "adapter": adapter, **told})
        return Message("ok", message.id)

    def look(self) -> None:
        """Let sessions go that nobody uses any more; an episode that one left open is over."""
        for session, task in self._sessions.forget_idle():
            told = {"outcome": "unknown", "label": None, "source": "server"}
            self._announce("episode.end", {"session": session, "task": task, **told})

    def _forget(self, session: str) -> None:
        self._release(session, None)

    def _release(self, session: str, success: bool | None) -> str | None:
        released = self._slots.release(session, success)
        if released is None:
            return None
        self._ended(released[0], success, released[1])
        return released[0].adapter
