"""A disk that refuses, for one write or for long: no decision is half made, and what does harm is not served."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from adapter_life import failing_write, fill, full_disk, stands

from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.lifecycle import Lifecycle
from flexor.runtime.adapters.peft_files import MODEL
from flexor.runtime.adapters.store_state import StoreState

Write = Callable[..., Path]
Open = Callable[..., Lifecycle]


def fail(life: Lifecycle, name: str) -> None:
    """The active adapter gives what is not finite: first the engine's thread knows, then the lifecycle."""
    assert life.slots.active.adapter == name
    life.slots.quarantine(life.slots.active)
    life.failed(name, "its actions are not finite")


def alarm(life: Lifecycle, name: str) -> None:
    """The active adapter is unsure where what was before it was not."""
    fill(life, life.slots.previous.adapter, 10.0, 1.0)
    fill(life, name, 10.0, 2.0)


def play_out(life: Lifecycle, name: str, counted: bool) -> None:
    """Episodes to the end of a trial that the candidate always wins; `counted`: the disk is asked to count them."""
    while life.slots.trial_state()["verdict"] is None:  # type: ignore[index]
        carried = life.slots.bind("s", "stack").carried
        released = life.slots.release("s", carried.adapter == name)
        assert released is not None
        with contextlib.suppress(OSError):
            life.episode_ended(carried.adapter, carried.adapter == name if counted else None, released[1])


def served(life: Lifecycle) -> tuple[str, str]:
    """What new episodes play, and what the disk says."""
    return life.slots.active.adapter, StoreState.read(life.store.root).active


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
        play_out(life, name, counted=True)
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


@pytest.mark.parametrize("number", [1, 2, 3])
def test_whichever_write_the_disk_refuses_one_rollback_takes_back_one_adapter(
    open_: Open, write: Write, number: int
) -> None:
    life = open_()
    first, second, harmful = (write(seed=seed).name for seed in range(3))
    for name in (first, second, harmful):
        life.push(name)
    with failing_write(number), contextlib.suppress(OSError):
        fail(life, harmful)
    for _ in range(3):
        life.tick()
    assert stands(life, harmful) == ("ROLLED_BACK", "not_finite")
    assert stands(life, second) == ("ACTIVE", None)
    assert served(life) == (second, second)
    assert life.rollback()["active"] == first


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_swap_that_the_disk_refuses_has_changed_nothing_whichever_write_it_was(
    open_: Open, write: Write, number: int
) -> None:
    life = open_()
    before, after = write(seed=1).name, write(seed=2).name
    life.push(before)
    expected = after
    with failing_write(number):
        try:
            life.swap(after)
        except OSError:
            expected = before
    assert served(life) == (expected, expected)
    assert stands(life, expected) == ("ACTIVE", None)
    assert life.swap(after)["state"] == "ACTIVE"
    assert (served(life), stands(life, before)) == ((after, after), ("RETIRED", None))


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_an_adapter_that_won_its_canary_becomes_active_whichever_write_the_disk_refuses(
    open_: Open, write: Write, number: int
) -> None:
    life = open_(canary_episodes=40)
    parent, name = write(seed=1).name, write(seed=2).name
    life.swap(parent)
    life.push(name)
    verdict = None
    while verdict is None:
        carried = life.slots.bind("s", "stack").carried
        released = life.slots.release("s", carried.adapter == name)
        assert released is not None
        verdict = released[1]
        with failing_write(number if verdict else 0), contextlib.suppress(OSError):
            life.episode_ended(carried.adapter, carried.adapter == name, verdict)
    for _ in range(2):
        life.tick()
    assert served(life) == (name, name)
    assert (stands(life, name), stands(life, parent)) == (("ACTIVE", None), ("RETIRED", None))


def test_a_verdict_that_the_disk_kept_waiting_is_void_once_an_order_has_ended_the_trial(
    open_: Open, write: Write
) -> None:
    life = open_(canary_episodes=40)
    name = write(seed=1).name
    life.push(name)
    with full_disk():
        play_out(life, name, counted=False)
        with pytest.raises(OSError, match="large"):
            life.rollback()
    life.tick()
    assert stands(life, name) == ("REJECTED", "order")
    assert served(life) == ("base", "base")


def test_an_adapter_that_raises_alarms_on_a_full_disk_is_not_served_although_another_is_on_trial(
    open_: Open, write: Write
) -> None:
    life = open_(canary_episodes=40)
    active, candidate = write(seed=1).name, write(seed=2).name
    life.swap(active)
    life.push(candidate)
    alarm(life, active)
    with full_disk():
        with pytest.raises(OSError, match="large"):
            life.tick()
        assert (life.slots.active.adapter, life.slots.candidate) == ("base", None)
        with pytest.raises(OSError, match="large"):
            life.tick()
    life.tick()
    assert stands(life, active) == ("ROLLED_BACK", "alarms")
    assert stands(life, candidate) == ("REJECTED", "no_evidence")
    assert served(life) == ("base", "base")


def test_what_still_waits_for_the_disk_does_not_blind_the_watch(open_: Open, write: Write) -> None:
    life = open_(canary_episodes=40)
    active, candidate = write(seed=1).name, write(seed=2).name
    life.swap(active)
    life.push(candidate)
    with full_disk():
        with pytest.raises(OSError, match="large"):
            life.failed(candidate, "its actions are not finite")
        alarm(life, active)
        with pytest.raises(OSError, match="large"):
            life.tick()
        assert life.slots.active.adapter == "base"
    life.tick()
    assert stands(life, active) == ("ROLLED_BACK", "alarms")
    assert stands(life, candidate) == ("REJECTED", "not_finite")
    assert len(life.store.state.blacklist) == 2


def test_two_harmful_adapters_one_after_the_other_are_both_taken_back_on_a_full_disk(open_: Open, write: Write) -> None:
    life = open_()
    first, second = write(seed=1).name, write(seed=2).name
    life.push(first)
    life.push(second)
    with full_disk():
        for name in (second, first):
            with pytest.raises(OSError, match="large"):
                fail(life, name)
        assert life.slots.active.adapter == "base"
    life.tick()
    assert [stands(life, name) for name in (first, second)] == 2 * [("ROLLED_BACK", "not_finite")]
    assert served(life) == ("base", "base")
    assert len(life.store.state.blacklist) == 2


def test_a_rollback_that_is_ordered_again_because_the_disk_refused_takes_back_one_adapter(
    open_: Open, write: Write
) -> None:
    life = open_()
    first, second = write(seed=1).name, write(seed=2).name
    life.push(first)
    life.push(second)
    with full_disk():
        for _ in range(2):
            with pytest.raises(OSError, match="large"):
                life.rollback()
            assert life.slots.active.adapter == first
    assert life.rollback()["state"] == "ROLLED_BACK"
    assert served(life) == (first, first)


def test_an_order_comes_after_what_waits_for_the_disk(open_: Open, write: Write) -> None:
    life = open_()
    first, second = write(seed=1).name, write(seed=2).name
    life.push(first)
    life.push(second)
    with full_disk(), pytest.raises(OSError, match="large"):
        fail(life, second)
    with pytest.raises(AdapterError) as caught:
        life.swap(second)
    assert caught.value.reason == "blacklisted"
    assert served(life) == (first, first)


def test_a_restart_on_a_full_disk_serves_what_was_active_and_takes_the_trial_up_when_it_can(
    open_: Open, write: Write
) -> None:
    life = open_(canary_episodes=40)
    active, candidate = write(seed=1).name, write(seed=2).name
    life.swap(active)
    life.push(candidate)
    with full_disk():
        life = open_(canary_episodes=40)
        assert served(life) == (active, active)
        with pytest.raises(OSError, match="large"):
            life.tick()
    assert life.slots.candidate is None
    life.tick()
    assert stands(life, candidate) == ("CANARY", None)
    assert life.slots.candidate is not None


def test_a_restart_on_a_full_disk_serves_the_base_where_nothing_verifies_any_more(open_: Open, write: Write) -> None:
    life = open_(canary_episodes=40)
    active, candidate = write(seed=1), write(seed=2)
    life.swap(active.name)
    life.push(candidate.name)
    for folder in (active, candidate):
        (folder / MODEL).write_bytes(b"garbage")
    with full_disk():
        life = open_(canary_episodes=40)
        assert served(life) == ("base", active.name)
    life.tick()
    assert [stands(life, folder.name) for folder in (active, candidate)] == 2 * [("REJECTED", "torn")]
    assert served(life) == ("base", "base")
