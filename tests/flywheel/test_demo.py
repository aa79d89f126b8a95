"""The demo: what it says of what came of it, and that it leaves nothing behind, whoever is stopped or killed."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from whole_command import WholeCommand

from flexor.errors import FlexorError
from flexor.flywheel.demo import STAGES, Demo, verdict
from flexor.flywheel.online.watcher import Watcher
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.index import EpisodeIndex

QUIET = Watcher(lambda stage: None, lambda line: None, lambda row: None)
SMALL = [
    "reserve=2",
    "collect.episodes=2",
    "thresholds.consecutive_failures.trigger_threshold=1",
    "daemon.correct.stall_steps=1",  # the expert takes over at once, so that the second episode teaches
    "daemon.correct.stall_m=10",
    "daemon.correct.turn_steps=200",
    "daemon.hold_limit_s=60",
    "lora.steps=2",
    "lora.batch=2",
    "lora.draws=2",
    "lora.encodings=1",
    "lora.held_out=0.0001",
    "gate.shifted=2",
    "gate.unshifted=2",
    "measure.episodes=2",
    "measure.workers=1",
]


def pair(both: int, parent: int, adapter: int, neither: int, p: float = 1.0) -> dict[str, Any]:
    counts = {"both": both, "reference_only": parent, "other_only": adapter, "neither": neither}
    return {"episodes": sum(counts.values()), "p": p, **counts}


def ledger(shifted: dict[str, Any], state: str = "ACTIVE", learn: bool = True) -> dict[tuple[int, str], dict[str, Any]]:
    before = {"successes": shifted["both"] + shifted["reference_only"], "episodes": shifted["episodes"]}
    return {
        (0, "measure"): before,
        (1, "decide"): {"learn": learn, "why": "no trigger has fired"},
        (1, "learn"): {"adapter": "1-aaaaaaaaaaaa"},
        (1, "gate"): {"shifted": shifted, "unshifted": pair(11, 0, 0, 1)},
        (1, "offer"): {"state": state, "reason": None if state == "ACTIVE" else "gate"},
        (1, "measure"): before,
    }


@pytest.mark.parametrize(
    ("rows", "helped", "said"),
    [
        (ledger(pair(4, 0, 12, 4, 0.0005)), True, "success again: 4 of 20 before it learned, 16 of 20 with what it"),
        (ledger(pair(4, 1, 4, 11, 0.4)), True, "that may be chance"),
        (ledger(pair(4, 1, 1, 14)), False, "it was taken, and it did not help: 5 of 20 before it learned, 5 of 20"),
        (ledger(pair(4, 3, 1, 12), "HELD_BACK"), False, r"it did not help, and was not taken \(gate\)"),
        (ledger(pair(4, 0, 9, 7, 0.004), "HELD_BACK"), False, r"it helped, and was not taken \(gate\)"),
        (
            ledger(pair(20, 0, 0, 0), learn=False),
            False,
            "nothing was learned: no trigger has fired; it succeeds 20 of 20",
        ),
        (
            ledger(pair(0, 0, 0, 20)) | {(1, "learn"): {"adapter": None, "why": "no success and no correction"}},
            False,
            "nothing was learned: no success and no correction; it succeeds 0 of 20",
        ),
        ({(0, "measure"): {"successes": 1, "episodes": 2}}, None, "has not come to its end"),
        ({}, None, "has not come to its end"),
    ],
)
def test_what_came_of_it_is_said_plainly(rows: dict[Any, Any], helped: bool | None, said: str):
    found, words = verdict(rows)
    assert found is helped
    assert re.search(said, words), words


def test_it_is_the_flywheels_own_stages_with_a_look_before_and_after():
    keys = [stage.key for stage in STAGES]
    assert keys[:4] == ["0/show", "0/familiar", "0/reserve", "0/measure"]
    assert keys[4:] == [f"1/{verb}" for verb in ("collect", "decide", "learn", "gate", "offer", "measure", "again")]
    assert all(hasattr(Demo, f"_{stage.verb}") for stage in STAGES)


def test_a_bundle_that_is_not_there_is_told_before_anything_is_made(tmp_path: Path):
    with pytest.raises(FlexorError, match="no bundle"):
        Demo(tmp_path / "run", str(tmp_path / "nothing"), QUIET)
    assert not (tmp_path / "run").exists()


def demo(scratch: Path, bundle: str, *options: str) -> WholeCommand:
    return WholeCommand(scratch, "demo", "--bundle", bundle, "--out", str(scratch / "run"), *options, *SMALL)


def playing(scratch: Path, finished: int = 0) -> bool:
    """Whether so many episodes are finished and another one has some frames on disk."""
    folder = scratch / "run" / "episodes" / "episodes"
    open_ones = [part for part in folder.glob("*.part") if part.stat().st_size > 30_000]
    return len(list(folder.glob("*.mcap"))) >= finished and bool(open_ones)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_policy_that_learns_nothing_goes_the_whole_way_and_is_told_so(scratch: Path, bundle: str):
    """Its weights are random: whatever it learns in two steps helps nobody."""
    pytest.importorskip("matplotlib")
    shown = demo(scratch, bundle, "--json", str(scratch / "told.json"))
    assert shown.ended() == 0, shown.said()
    shown.check_gone()
    assert not list(scratch.glob("flexor-*"))  # the private folder with the sockets
    told = json.loads((scratch / "told.json").read_text())
    assert told["helped"] is False
    assert "it was taken, and it did not help: 0 of 2" in shown.said().replace("\n", " ")
    assert Path(told["report"]).is_file() and told["report"] in shown.said().replace("\n", "")
    played = EpisodeIndex(scratch / "run" / "episodes").episodes()
    assert played[-1].adapter == told["cycles"][0]["adapter"], "the failures were tried again with the adapter"
    assert any(row.interventions for row in played)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ctrl_c_leaves_whole_episodes_and_nothing_else_and_the_demo_can_be_gone_on_with(scratch: Path, bundle: str):
    stopped = demo(scratch, bundle)
    stopped.wait_until("a second episode", lambda: playing(scratch, finished=1))
    stopped.process.send_signal(signal.SIGINT)
    assert stopped.ended() == 130, stopped.said()
    stopped.check_gone()
    assert "Traceback" not in stopped.said() and "it has not come to its end" in stopped.said()
    assert not list(scratch.glob("flexor-*"))
    log = scratch / "run" / "episodes"
    assert not list(log.glob("**/*.part"))
    *whole, last = [read_episode(path) for path in sorted(log.glob("episodes/*.mcap"))]
    assert len(whole) == 1 and all(len(episode.steps) > 0 for episode in whole)
    assert last.outcome == "abort"
    assert {event.kind: event.data for event in last.events}["abort"]["reason"] == "stopped by the user"
    again = demo(scratch, bundle)
    again.wait_until("the second episode once more", lambda: playing(scratch, finished=2))
    again.kill(everything=False)  # the rest ends by itself


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_that_is_killed_ends_the_demo_with_a_message_and_nothing_is_left(scratch: Path, bundle: str):
    shown = demo(scratch, bundle)
    shown.wait_until("an episode", lambda: playing(scratch))
    server = shown.child("serve")
    assert server is not None
    os.kill(server, signal.SIGKILL)
    assert shown.ended() == 1
    shown.check_gone()
    assert "error: the policy server ended with code -9" in shown.said() and "Traceback" not in shown.said()
    assert not list(scratch.glob("flexor-*"))
