"""`flexor flywheel` as real processes, killed in every stage and given again: nothing is lost, and nothing is left."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from whole_command import WholeCommand

from flexor.flywheel.online.stage_clock import STAGE
from flexor.flywheel.online.stages import LEDGER, stages
from flexor.flywheel.row_file import read_rows
from flexor.runtime.episodes.episode_check import check_root

SETTINGS = [
    "tasks=[red_block_on_plate]",
    "reserve=2",
    "collect.episodes=2",
    "thresholds.consecutive_failures.trigger_threshold=1",
    "daemon.correct.stall_steps=1",  # the expert takes over at once, so that the second episode teaches
    "daemon.correct.stall_m=10",
    "daemon.correct.turn_steps=200",
    "daemon.hold_limit_s=60",
    "lora.r=8",  # of untrained weights 40 steps at the loop's own rank change actions by more than a server takes
    "lora.lora_alpha=32",
    "lora.steps=40",
    "lora.batch=2",
    "lora.draws=2",
    "lora.encodings=1",
    "lora.held_out=0.0001",
    "lora.checkpoint_s=0",
    "gate.shifted=2",
    "gate.unshifted=2",
    "gate.margin=100",
    "offer.episodes=2",
    "measure.episodes=2",
    "measure.after=2",
    "measure.unshifted=2",
    "measure.workers=1",
]
QUICK = ("decide",)  # over before anybody could kill it
VERBS = [(stage.cycle, stage.verb) for stage in stages(1) if stage.verb not in QUICK]


def under_way(run: Path) -> tuple[tuple[int, str], float]:
    """The stage that is written down as being worked on, and its seconds so far."""
    try:
        told = json.loads((run / STAGE).read_bytes())
    except FileNotFoundError:
        return (0, ""), 0.0
    return (told["cycle"], told["verb"]), told["seconds"]


def finished(run: Path) -> dict[tuple[int, str], dict[str, Any]]:
    rows = read_rows(run / LEDGER) if (run / LEDGER).exists() else []
    assert not [key for key, count in Counter((row["cycle"], row["verb"]) for row in rows).items() if count > 1]
    return {(row["cycle"], row["verb"]): row for row in rows}


@pytest.mark.parametrize(
    "verbs",
    [
        pytest.param([(1, "collect"), (1, "offer")], marks=pytest.mark.slow, id="two stages"),
        pytest.param(VERBS, marks=pytest.mark.nightly, id="every stage"),
    ],
)
@pytest.mark.timeout(3000)
def test_a_loop_that_is_killed_in_its_stages_ends_with_all_of_it_and_leaves_no_process(
    scratch: Path, bundle: str, verbs: list[tuple[int, str]]
):
    run, killed = scratch / "run", dict[tuple[int, str], float]()
    command = ("flywheel", "--out", str(run), "--bundle", bundle, "--cycles", "1", *SETTINGS)
    episodes: set[str] = set()
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for number, stage in enumerate(verbs):
        loop = WholeCommand(scratch, *command)
        loop.wait_until(
            f"{stage} to be worked on", lambda stage=stage: under_way(run)[0] == stage or stage in finished(run)
        )
        loop.kill(everything=number % 2 == 0)
        if stage not in finished(run):
            killed[stage] = under_way(run)[1]
        assert rows.items() <= finished(run).items(), "a finished stage stays as it was"
        rows = finished(run)
        there = {file.name for file in (run / "episodes").glob("episodes/*.mcap")}
        assert episodes <= there, "a finished episode stays"
        episodes = there
    last = WholeCommand(scratch, *command, "--json", str(scratch / "told.json"))
    assert last.ended() == 0, last.said()
    last.check_gone()
    assert len(killed) >= max(1, len(verbs) - 2), "most of them were killed in their middle"
    rows = finished(run)
    assert rows.keys() == {(stage.cycle, stage.verb) for stage in stages(1)}
    assert all(rows[stage]["seconds"] >= seconds for stage, seconds in killed.items())
    told = json.loads((scratch / "told.json").read_text())
    counted = sum(row["seconds"] for (cycle, _), row in rows.items() if cycle == 1)
    assert told["wall_minutes"] == pytest.approx(counted / 60)
    assert check_root(run / "episodes").problems == (), "what a killed process left is mended"
    assert rows[1, "collect"]["episodes"] == 2 and rows[1, "learn"]["adapter"] is not None
    assert rows[1, "offer"]["state"] in ("ACTIVE", "REJECTED") and rows[1, "offer"]["episodes"] >= 2
    for file in (run / "measured").glob("*.jsonl"):
        played = [(row["task"], row["seed"]) for row in read_rows(file)]
        assert len(played) == len(set(played)), "no measured episode was played twice"
