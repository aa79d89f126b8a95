"""The way of an adapter without sockets: what takes one back, what orders remember, and learners that misbehave."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from adapter_life import fill, play, stands

from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_store import KEPT
from flexor.runtime.adapters.audit_log import read_audit
from flexor.runtime.adapters.lifecycle import Lifecycle

Write = Callable[..., Path]
Open = Callable[..., Lifecycle]


def test_an_adapter_that_makes_chunks_slow_is_rolled_back_and_one_that_does_not_stays(
    open_: Open, write: Write
) -> None:
    life = open_()
    name = write(seed=1).name
    life.push(name)
    fill(life, "base", 10.0, 1.0)
    fill(life, name, 11.0, 1.0)
    life.tick()
    assert stands(life, name) == ("ACTIVE", None)
    life.slots.seen[life.slots.active.slot].policy_ms.extend([30.0] * 200)
    life.tick()
    assert stands(life, name) == ("ROLLED_BACK", "latency")
    assert life.slots.active.adapter == "base"


def test_an_adapter_that_is_unsure_where_its_parent_was_not_is_rolled_back(open_: Open, write: Write) -> None:
    life = open_()
    name = write(seed=1).name
    life.push(name)
    fill(life, "base", 10.0, 1.0)
    fill(life, name, 10.0, 2.0)
    life.tick()
    assert stands(life, name) == ("ROLLED_BACK", "alarms")


def test_an_adapter_that_succeeds_less_often_than_its_parent_is_rolled_back(open_: Open, write: Write) -> None:
    life = open_()
    for turn in range(30):
        play(life, turn % 10 != 0)
    name = write(seed=1).name
    life.push(name)
    played = 0
    while life.store.state.active == name:
        assert play(life, played % 2 == 0) == name
        life.tick()
        played += 1
        assert played < 60
    assert stands(life, name) == ("ROLLED_BACK", "success")
    with pytest.raises(AdapterError) as caught:
        life.swap(name)
    assert caught.value.reason == "blacklisted"


def test_as_good_as_its_parent_it_stays_however_long(open_: Open, write: Write) -> None:
    life = open_()
    for turn in range(30):
        play(life, turn % 5 != 0)
    name = write(seed=1).name
    life.push(name)
    for turn in range(100):
        play(life, turn % 5 != 0)
        life.tick()
    assert stands(life, name) == ("ACTIVE", None)


def test_a_rollback_returns_step_by_step_also_to_what_is_in_no_slot_any_more(open_: Open, write: Write) -> None:
    life = open_()
    names = [write(seed=seed).name for seed in range(3)]
    for name in names:
        life.push(name)
    assert [life.rollback()["active"] for _ in range(3)] == [names[1], names[0], "base"]
    with pytest.raises(AdapterError, match="base is active"):
        life.rollback()


def test_an_adapter_that_was_only_ordered_is_compared_with_what_it_replaced(open_: Open, write: Write) -> None:
    life = open_()
    before, name = write(seed=1).name, write(seed=2).name
    life.push(before)
    for turn in range(30):
        assert play(life, turn % 10 != 0) == before
    life.swap(name)
    record = life.store.record(name)
    assert record is not None and record.parent == before
    played = 0
    while life.store.state.active == name:
        play(life, played % 2 == 0)
        life.tick()
        played += 1
        assert played < 60
    assert stands(life, name) == ("ROLLED_BACK", "success")
    assert life.slots.active.adapter == before


def test_an_adapter_that_was_only_ordered_and_did_harm_does_not_come_back(open_: Open, write: Write) -> None:
    life = open_()
    name = write(seed=1).name
    life.swap(name)
    life.slots.quarantine(life.slots.active)
    life.failed(name, "its actions are not finite")
    for order, again in ((life.swap, name), (life.push, write(seed=1).name)):
        with pytest.raises(AdapterError, match="not_finite") as caught:
            order(again)
        assert caught.value.reason == "blacklisted"


def test_what_is_written_after_the_newest_was_removed_is_new(open_: Open, write: Write) -> None:
    life = open_()
    newest = [write(seed=seed).name for seed in range(2)][-1]
    life.push(newest)
    life.rollback()
    life.remove(newest)
    assert life.push(write(seed=2).name)["state"] == "ACTIVE"


def test_a_parent_that_is_taken_back_ends_the_trial_against_it(open_: Open, write: Write) -> None:
    life = open_(canary_episodes=40)
    parent, candidate = write(seed=1).name, write(seed=2).name
    life.swap(parent)
    life.push(candidate)
    life.slots.quarantine(life.slots.active)
    life.failed(parent, "its actions are not finite")
    assert stands(life, parent) == ("ROLLED_BACK", "not_finite")
    assert stands(life, candidate) == ("REJECTED", "no_evidence")
    assert life.slots.candidate is None
    assert play(life, True) == "base"


def test_of_two_learners_that_write_the_same_version_one_is_taken(open_: Open, write: Write) -> None:
    life = open_()
    mine, theirs = write(seed=1, version=4).name, write(seed=2, version=4).name
    life.push(mine)
    with pytest.raises(AdapterError, match="not newer than version 4") as caught:
        life.push(theirs)
    assert caught.value.reason == "replayed"
    assert life.slots.active.adapter == mine


def test_a_learner_that_publishes_garbage_fills_neither_disk_nor_memory(open_: Open, write: Write, root: Path) -> None:
    life = open_()
    good = write(seed=1).name
    life.push(good)
    for seed in range(20):
        path = write(seed=seed, size=1e9 if seed % 2 else 0.05, version=seed + 2)
        if seed % 2 == 0:
            (path / "adapter_model.safetensors").write_bytes(b"garbage")
        with pytest.raises(AdapterError):
            life.push(path.name)
    assert life.slots.active.adapter == good
    assert len(life.store.ids()) == 1 + KEPT
    assert len(life.store.state.records) <= 2 + KEPT
    assert life.store.state.seen == 1, "what does not verify raises no version"


def test_a_restart_takes_up_a_trial_from_its_beginning_and_keeps_what_was_counted(open_: Open, write: Write) -> None:
    life = open_(canary_episodes=40)
    name = write(seed=1).name
    life.push(name)
    for _ in range(4):
        play(life, True)
    life = open_(canary_episodes=40)
    assert stands(life, name) == ("CANARY", None)
    assert life.slots.trial_state()["pairs"] == 0  # type: ignore[index]
    record = life.store.record(name)
    assert record is not None and record.episodes == 2


def test_a_clock_that_is_set_back_changes_nothing_but_the_times_that_are_told(
    open_: Open, write: Write, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = open_()
    first, second = write(seed=1).name, write(seed=2).name
    life.push(first)

    class Back(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) - timedelta(days=400)

    monkeypatch.setattr("flexor.runtime.adapters.audit_log.datetime", Back)
    life.push(second)
    assert [life.slots.active.adapter, life.slots.previous.adapter] == [second, first]
    life = open_()
    assert life.slots.active.adapter == second
    assert life.rollback()["active"] == first
    entries, unreadable = read_audit(root)
    assert unreadable == 0 and entries[-1]["at"] < entries[0]["at"]
    assert [entry["adapter"] for entry in entries if entry["event"] == "adapter.active"][:2] == [first, second]
