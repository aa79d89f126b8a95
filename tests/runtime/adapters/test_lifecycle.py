"""The way of an adapter without sockets: what takes one back, a disk that refuses, and learners that misbehave."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapted_policy import AdaptedPolicy
from random_adapters import ALPHA, RANK

from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_settings import AdapterSettings
from flexor.runtime.adapters.adapter_slots import AdapterSlots
from flexor.runtime.adapters.adapter_store import KEPT, AdapterStore
from flexor.runtime.adapters.audit_log import read_audit
from flexor.runtime.adapters.lifecycle import Lifecycle
from flexor.runtime.adapters.store_state import StoreState
from flexor.runtime.adapters.verification import Verifier

Write = Callable[..., Path]
Open = Callable[..., Lifecycle]


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow beyond ten bytes; Python ignores the signal, so that writing fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def open_(root: Path, verifier: Verifier) -> Iterator[Open]:
    """open_(**settings) -> Lifecycle, restored; the one before it is closed, as a restart would."""
    opened: list[Lifecycle] = []

    def make(**settings: Any) -> Lifecycle:
        for earlier in opened:
            earlier.store.close()
        chosen = {"dir": root, "rank": RANK, "alpha": ALPHA, "shadow_requests": 0, "canary_episodes": 0, **settings}
        slots = AdapterSlots(AdaptedPolicy.slots)
        life = Lifecycle(AdapterStore(root), verifier, AdaptedPolicy(), slots, AdapterSettings(**chosen))
        opened.append(life)
        life.restore()
        return life

    yield make
    for life in opened:
        life.store.close()


def stands(life: Lifecycle, name: str) -> tuple[str, str | None]:
    record = life.store.record(name)
    assert record is not None
    return record.state, record.reason


def play(life: Lifecycle, success: bool, session: str = "s") -> str:
    carried = life.slots.bind(session, ("stack", None)).carried
    released = life.slots.release(session, success)
    assert released is not None
    life.episode_ended(carried.adapter, success, released[1])
    return carried.adapter


def fill(life: Lifecycle, adapter: str, ms: float, bits: float) -> None:
    carried = life.slots.active if life.slots.active.adapter == adapter else life.slots.previous
    rng = np.random.default_rng(carried.slot)
    life.slots.seen[carried.slot].policy_ms.extend(ms + rng.uniform(0, 1, 60))
    life.slots.seen[carried.slot].bits.extend(bits + rng.uniform(0, 0.2, 60))


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


def test_a_disk_that_refuses_leaves_a_harmful_adapter_unserved_and_is_caught_up_with(open_: Open, write: Write) -> None:
    life = open_()
    name = write(seed=1).name
    life.push(name)
    life.slots.quarantine(life.slots.active)  # as the engine's thread does it
    with full_disk(), pytest.raises(OSError, match="large"):
        life.failed(name, "its actions are not finite")
    assert life.slots.active.adapter == "base"
    assert StoreState.read(life.store.root).active == name
    life.tick()
    assert stands(life, name) == ("ROLLED_BACK", "not_finite")
    assert StoreState.read(life.store.root).active == "base"


def test_a_trial_that_is_over_while_the_disk_refuses_is_decided_when_it_no_longer_does(
    open_: Open, write: Write
) -> None:
    life = open_(canary_episodes=40)
    name = write(seed=1).name
    life.push(name)
    with full_disk():
        while life.slots.trial_state()["verdict"] is None:  # type: ignore[index]
            carried = life.slots.bind("s", "stack").carried
            released = life.slots.release("s", carried.adapter == name)
            assert released is not None
            with contextlib.suppress(OSError):
                life.episode_ended(carried.adapter, carried.adapter == name, released[1])
        with pytest.raises(OSError, match="large"):
            life.tick()
    assert life.store.state.active == "base"
    life.tick()
    assert stands(life, name) == ("ACTIVE", None)


def test_a_push_on_a_full_disk_changes_nothing(open_: Open, write: Write) -> None:
    life = open_()
    name = write(seed=1).name
    with full_disk(), pytest.raises(OSError, match="large"):
        life.push(name)
    assert life.store.state.candidate is None
    assert life.push(name)["state"] == "ACTIVE"


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
