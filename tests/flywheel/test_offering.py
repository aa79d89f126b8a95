"""Offering an adapter: how the robot's episodes and the server's trial come together."""

from __future__ import annotations

from typing import Any

import pytest

from flexor.errors import FlexorError
from flexor.flywheel.online import offering
from flexor.flywheel.online.offering import Offering
from flexor.flywheel.online.settings import OfferSettings
from flexor.runtime.adapters.trial import Trial
from flexor.runtime.serving.channel import ServerRefused

ADAPTER = "1-0123456789ab"
TASKS = ("plate", "box", "mat")


class Server:
    """A trial that begins after some episodes of a shadow, told as a server lists it; the robot that plays for it."""

    address = "inproc://trial"

    def __init__(self, shadowed: int, refusal: str = "") -> None:
        self.trial, self.shadowed, self.refusal = Trial(40, seed=3), shadowed, refusal
        self.pairs: dict[int, list[tuple[str, int]]] = {}
        self.server, self.pushed = self, False

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def order(self, verb: str, adapter: str) -> None:
        if self.refusal:
            raise ServerRefused("error", self.refusal, "no room")
        self.pushed = True

    def adapters(self) -> dict[str, Any]:
        verdict, trial = self.trial.to_dict()["verdict"], None if self.shadowed > 0 else self.trial.to_dict()
        state = "UNANNOUNCED" if not self.pushed else "SHADOW" if trial is None else "CANARY"
        row = {"id": ADAPTER, "state": state if verdict is None else "ACTIVE", "reason": None, "told": ""}
        return {"adapters": [row], "trial": trial}

    def play(self, seed: int, task: str, correcting: bool) -> str:
        assert not correcting
        self.shadowed -= 1
        if self.shadowed < 0 and (assigned := self.trial.assign((task, seed))) is not None:
            number, arm = assigned
            self.pairs.setdefault(number, []).append((task, seed))
            self.trial.ended(number, arm, arm)  # the candidate always, its parent never
        return "played"


def offer(server: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(offering, "ServerControl", lambda *given: server)
    monkeypatch.setattr(offering, "told", lambda result: "")
    made = Offering(server, OfferSettings(), lambda seed: TASKS[seed % 3], lambda line: None, lambda: False)
    return made.make(ADAPTER, range(100, 160))


@pytest.mark.parametrize("shadowed", [1, 2, 3])
def test_the_two_of_a_pair_see_the_same_scene_whenever_the_trial_begins(
    monkeypatch: pytest.MonkeyPatch, shadowed: int
) -> None:
    server = Server(shadowed)
    assert offer(server, monkeypatch)["state"] == "ACTIVE"
    assert len(server.pairs) >= 5
    assert all(len(pair) == 2 and pair[0] == pair[1] for pair in server.pairs.values()), server.pairs
    assert len({pair[0] for pair in server.pairs.values()}) == len(server.pairs)


def test_a_server_that_cannot_take_it_now_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FlexorError, match=r"1-0123456789ab cannot be announced: .*no room.*give the command again"):
        offer(Server(1, refusal="disk"), monkeypatch)
