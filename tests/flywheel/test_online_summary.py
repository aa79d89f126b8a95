"""What an online loop does in which order, and what its ledger comes to."""

from __future__ import annotations

from typing import Any

import pytest

from flexor.flywheel.online.stages import stages
from flexor.flywheel.online.summary import summarise


def test_a_loop_measures_before_in_every_cycle_and_after():
    keys = [stage.key for stage in stages(2, learning=True)]
    assert keys[:2] == ["0/reserve", "0/measure"]
    assert keys[2:8] == ["1/collect", "1/decide", "1/learn", "1/gate", "1/offer", "1/measure"]
    assert keys[8:14] == [key.replace("1/", "2/") for key in keys[2:8]]
    assert keys[14:] == ["3/after", "3/unshifted"]


def test_a_control_collects_and_looks_but_learns_nothing():
    verbs = [stage.verb for stage in stages(3, learning=False)]
    assert "learn" not in verbs and "offer" not in verbs
    assert verbs.count("collect") == verbs.count("decide") == 3 and verbs.count("measure") == 4


def test_where_a_person_judges_nothing_is_left_of_what_only_a_simulator_can_do():
    keys = [stage.key for stage in stages(1, simulated=False)]
    assert keys == ["1/collect", "1/decide", "1/learn", "1/offer"]


def _measured(successes: int) -> dict[str, Any]:
    return {"success_rate": successes / 40, "successes": successes, "episodes": 40, "ci95": [0.0, 1.0]}


def _row(cycle: int, verb: str, seconds: float, **found: Any) -> dict[str, Any]:
    return {"cycle": cycle, "verb": verb, "seconds": seconds, **found}


def _collected(episodes: int) -> dict[str, Any]:
    return {"episodes": episodes, "successes_alone": 9, "interventions": 7, "failure_labels": {"timeout": 4}}


LEDGER = [
    _row(0, "reserve", 60.0, episodes=60),
    _row(0, "measure", 30.0, **_measured(24)),
    _row(1, "collect", 90.0, **_collected(20)),
    _row(1, "decide", 0.0, triggers=["consecutive_failures"], learn=True, why=""),
    _row(1, "learn", 45.0, adapter="1-aaaaaaaaaaaa", loss_before=0.27, loss_after=0.2),
    _row(1, "offer", 150.0, adapter="1-aaaaaaaaaaaa", state="REJECTED", reason="no_evidence", episodes=40, teach=True),
    _row(1, "measure", 15.0, **_measured(24)),
    _row(2, "collect", 90.0, **_collected(20)),
    _row(2, "decide", 0.0, triggers=["success_rate"], learn=True, why=""),
    _row(2, "learn", 45.0, adapter="2-bbbbbbbbbbbb", loss_before=0.27, loss_after=0.18),
    _row(2, "offer", 150.0, adapter="2-bbbbbbbbbbbb", state="ACTIVE", reason=None, episodes=24, teach=False),
    _row(2, "measure", 15.0, **_measured(36)),
    _row(3, "collect", 90.0, **_collected(20)),
    _row(3, "decide", 0.0, triggers=[], learn=False, why="no trigger has fired"),
    _row(3, "learn", 0.0, adapter=None),
    _row(3, "offer", 0.0, adapter=None, state="NONE", reason=None, episodes=0),
    _row(3, "measure", 15.0, **_measured(37)),
    _row(4, "after", 300.0, base={}, last={}, points=21.0, ci95=[14.0, 28.0], mcnemar_p=1e-6),
    _row(4, "unshifted", 300.0, base={}, last={}, points=-1.0, ci95=[-3.0, 1.5], mcnemar_p=0.6),
]


def test_before_first_adapter_and_last_are_told_from_the_stages():
    told = summarise(LEDGER)
    assert told["before"]["successes"] == 24
    assert told["one_shot"]["successes"] == 36  # of the first that went into service, not of the first that was learned
    assert told["loop"]["successes"] == 37
    assert told["episodes"] == 60 + 40  # what an adapter was tried in is learned from where that teaches
    assert told["adapters"] == {"learned": 2, "served": 1, "refused": {"no_evidence": 1}}
    assert told["after"]["points"] == 21.0


def test_what_was_forgotten_is_the_base_less_the_last():
    told = summarise(LEDGER)
    assert told["forgetting_points"] == 1.0
    assert told["forgetting_ci95"] == [-1.5, 3.0]


def test_what_was_not_measured_is_not_told():
    nothing = _row(4, "unshifted", 0.0, base=None, last=None, points=None, ci95=[None, None], mcnemar_p=None)
    told = summarise([*LEDGER[:-1], nothing])
    assert told["forgetting_points"] is None and told["forgetting_ci95"] is None


def test_the_wall_time_leaves_out_what_only_measures_the_ends():
    assert summarise(LEDGER)["wall_minutes"] == pytest.approx((300 + 300 + 105) / 60)


def test_cycles_carry_what_happened_in_them():
    first, second, third = summarise(LEDGER)["cycles"]
    assert first["state"] == "REJECTED" and first["reason"] == "no_evidence" and first["measured"]["successes"] == 24
    assert second["adapter"] == "2-bbbbbbbbbbbb" and second["loss_after"] == 0.18
    assert third["adapter"] is None and third["triggers"] == []


@pytest.mark.parametrize("length", range(len(LEDGER)))
def test_a_loop_that_has_not_come_so_far_tells_what_there_is(length: int):
    told = summarise(LEDGER[:length])
    assert told["episodes"] == 20 * sum(row["verb"] == "collect" for row in LEDGER[:length]) + 40 * (length > 5)
    assert (told["after"] is None) == (length < len(LEDGER) - 1)


def test_a_refusal_without_a_reason_is_told_by_its_state():
    told = summarise(
        [
            *LEDGER,
            _row(4, "collect", 1.0, **_collected(1)),
            _row(4, "offer", 1.0, state="UNANNOUNCED", reason=None, episodes=0),
        ]
    )
    assert told["adapters"]["refused"] == {"no_evidence": 1, "unannounced": 1}
