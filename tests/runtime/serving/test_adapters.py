"""Adapters under a working server: real sockets, a real engine, and sessions that notice by the adapter's id alone."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import zmq
from adapter_house import PATIENCE_S, House, observation
from random_adapters import RANK

from flexor.pi05.lora_targets import ALL_PAIRS, PAIRS, Pairs
from flexor.runtime.adapters.audit_log import read_audit
from flexor.runtime.adapters.peft_files import MODEL
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import open_engine
from flexor.runtime.inference.policy import Policy
from flexor.runtime.serving.channel import ServerRefused
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.control import ServerControl
from flexor.runtime.serving.events import EventReader
from flexor.runtime.serving.server import PolicyServer


@pytest.mark.parametrize("pairs", [PAIRS, ALL_PAIRS], ids=["shallow", "deep"])
def test_an_adapter_goes_all_the_way_and_every_chunk_says_whose_it_is(
    house: Callable[..., House], pairs: Pairs
) -> None:
    here = house()
    events = EventReader(here.address, ["adapter"], here.context)
    time.sleep(0.5)  # a subscription takes a moment
    before = here.actions()
    name = here.write(pairs=pairs)
    assert here.control.order("push", name)["state"] == "SHADOW"
    assert here.ask() == "base"
    here.until(name, "CANARY")
    played = []
    while (
        here.row(name)["state"] == "CANARY"
    ):  # the disk may be behind: episodes after the verdict are none of the trial's
        played.append(here.play(lambda adapter: adapter == name))
    assert here.until(name, "ACTIVE")["told"].startswith("it was shown to be as good")
    assert played[:10].count(name) == 5
    assert here.ask() == name
    assert not np.array_equal(here.actions(), before)
    np.testing.assert_array_equal(here.actions(), here.actions())
    states = []
    while (event := events.poll(1.0)) is not None:
        states.append(event.fields["state"])
    events.close()
    assert states == ["RECEIVED", "VERIFIED", "STAGED", "SHADOW", "CANARY", "ACTIVE"]
    logged = [entry["event"] for entry in read_audit(here.root)[0]]
    assert logged == [f"adapter.{state.lower()}" for state in states]


def test_a_candidate_that_fails_where_its_parent_does_not_never_becomes_active(house: Callable[..., House]) -> None:
    here = house()
    name = here.write()
    here.control.order("push", name)
    here.until(name, "CANARY")
    played = []
    while here.row(name)["state"] == "CANARY":
        played.append(here.play(lambda adapter: adapter == "base"))
    assert played.count(name) <= 20
    row = here.row(name)
    assert (row["state"], row["reason"] in ("canary", "no_evidence")) == ("REJECTED", True)
    assert here.ask() == "base"
    with pytest.raises(ServerRefused) as caught:
        here.control.order("push", name)
    assert caught.value.code == "replayed"


def test_an_episode_keeps_its_adapter_until_it_ends(house: Callable[..., House]) -> None:
    here = house(shadow_requests=0, canary_episodes=0)
    first, second = here.write(seed=1), here.write(seed=2)
    assert here.control.order("push", first)["state"] == "ACTIVE"
    assert here.client.begin_episode("stack") == first
    assert here.control.order("push", second)["state"] == "ACTIVE"
    assert here.ask() == first
    here.client.end_episode("success")
    assert here.client.begin_episode("stack") == second
    assert here.ask() == second
    here.control.order("swap", first, at="chunk")
    assert here.ask() == first, "at a chunk boundary when asked"
    here.client.end_episode("unknown")


def test_a_swapped_adapter_answers_like_one_that_was_loaded_first_of_all(
    house: Callable[..., House], micro_bundle: Bundle
) -> None:
    here = house(shadow_requests=0, canary_episodes=0)
    names = [here.write(seed=seed) for seed in range(3)]
    for name in names:
        here.control.order("push", name)
    swapped = here.actions()
    here.stop()
    here.start()
    assert here.ask() == names[-1]
    np.testing.assert_array_equal(here.actions(), swapped)
    here.control.order("rollback")
    assert here.ask() == names[1]
    here.control.order("swap", "base")
    assert here.ask() == "base"
    np.testing.assert_array_equal(
        here.actions(), Policy(micro_bundle, open_engine(micro_bundle, flow_steps=2)).infer(observation(), 1).actions
    )


def test_more_swaps_than_slots_while_episodes_hold_theirs(house: Callable[..., House]) -> None:
    here = house(shadow_requests=0, canary_episodes=0)
    names = [here.write(seed=seed) for seed in range(5)]
    holders = [PolicyClient(here.address, PATIENCE_S, context=here.context, share_memory=False) for _ in range(3)]
    for name, holder in zip(names, holders, strict=False):
        here.control.order("push", name)
        assert holder.begin_episode("stack") == name
    assert here.control.order("push", names[3])["state"] == "VERIFIED", "no slot is free"
    assert [holder.infer(observation()).provenance.adapter for holder in holders] == names[:3]
    holders[0].end_episode("success")
    here.until(names[3], "ACTIVE")
    assert [holder.infer(observation()).provenance.adapter for holder in holders[1:]] == names[1:3]
    for holder in holders:
        holder.close()


@pytest.mark.parametrize("at", ["shadow", "canary", "active"])
def test_an_adapter_whose_actions_are_not_finite_is_gone_at_once_and_the_robot_gets_its_chunk(
    house: Callable[..., House], at: str
) -> None:
    stages = {"shadow": {}, "canary": {"shadow_requests": 0}, "active": {"shadow_requests": 0, "canary_episodes": 0}}
    here = house(max_change=1e30, **stages[at])
    name = here.write(size=1e17)
    here.control.order("push", name)
    deadline = time.monotonic() + PATIENCE_S
    while here.row(name)["state"] not in ("REJECTED", "ROLLED_BACK"):
        assert time.monotonic() < deadline
        here.client.begin_episode("stack")
        assert here.ask() == "base"
        here.client.end_episode("unknown")
    assert here.row(name)["reason"] == ("not_finite" if at != "shadow" else "shadow")
    with pytest.raises(ServerRefused) as caught:
        here.control.order("swap", name)
    assert caught.value.code == "blacklisted"
    again = here.write(size=1e17, version=9)
    with pytest.raises(ServerRefused) as caught:
        here.control.order("push", again)
    assert caught.value.code == "blacklisted"
    assert here.ask() == "base"


def test_adapters_that_do_not_verify_are_refused_while_serving_goes_on(house: Callable[..., House]) -> None:
    here = house()
    torn, altered, pickled = (here.write(seed=seed) for seed in range(3))
    (here.root / torn / MODEL).write_bytes(b"\0" * 10)
    raw = bytearray((here.root / altered / MODEL).read_bytes())
    raw[-2] ^= 4
    (here.root / altered / MODEL).write_bytes(raw)
    (here.root / pickled / "adapter_model.bin").write_bytes(b"\x80\x04N.")
    wrong = here.write(seed=3, rank=RANK, alpha=1.0)
    reasons = {torn: "torn", altered: "altered", pickled: "pickled", wrong: "wrong_schema", "../../etc": "unknown"}
    for name, reason in reasons.items():
        with pytest.raises(ServerRefused) as caught:
            here.control.order("push", name)
        assert caught.value.code == reason
        assert here.ask() == "base"
    there = [row["id"] for row in here.control.adapters()["adapters"]]
    assert there == ["base", altered, pickled, wrong], "the last three that were refused stay"
    for name in (altered, pickled, wrong):
        assert (here.row(name)["state"], here.row(name)["reason"]) == ("REJECTED", reasons[name])


def test_a_file_whose_name_is_no_text_costs_its_adapter_and_nothing_else(house: Callable[..., House]) -> None:
    here = house()
    events = EventReader(here.address, ["adapter"], here.context)
    time.sleep(0.5)  # a subscription takes a moment
    name = here.write()
    with open(os.fsencode(here.root / name) + b"/stray\xff", "wb"):
        pass
    with pytest.raises(ServerRefused, match=r"stray\\udcff is no file of an adapter") as caught:
        here.control.order("push", name)
    assert caught.value.code == "altered"
    assert here.ask() == "base"
    told = [events.poll(1.0), events.poll(1.0)]
    events.close()
    assert [event and event.fields["state"] for event in told] == ["RECEIVED", "REJECTED"]
    assert "stray" in here.row(name)["told"]


def test_a_folder_that_changes_during_its_trial_is_rejected(house: Callable[..., House]) -> None:
    here = house()
    name, other = here.write(seed=1), here.write(seed=2)
    here.control.order("push", name)
    here.until(name, "CANARY")
    shutil.copy(here.root / other / MODEL, here.root / name / MODEL)
    while here.row(name)["state"] == "CANARY":
        here.play(lambda adapter: adapter == name)
    assert (here.row(name)["state"], here.row(name)["reason"]) == ("REJECTED", "changed")
    assert here.ask() == "base"


def test_one_adapter_is_tried_at_a_time_and_an_order_ends_its_trial(house: Callable[..., House]) -> None:
    here = house()
    first, second = here.write(seed=1), here.write(seed=2)
    here.control.order("push", first)
    for verb in ("push", "swap"):
        with pytest.raises(ServerRefused, match="being tried") as caught:
            here.control.order(verb, second)
        assert caught.value.code == "busy"
    assert here.control.order("rollback")["state"] == "REJECTED"
    assert here.control.order("push", second)["state"] == "SHADOW"
    with pytest.raises(ServerRefused) as caught:
        here.control.order("remove", second)
    assert caught.value.code == "in_use"
    here.control.order("remove", first)
    assert not (here.root / first).exists()


def test_episodes_of_a_trial_are_slower_and_others_are_not(house: Callable[..., House]) -> None:
    here = house()
    name = here.write()
    here.client.begin_episode("stack")
    assert here.client.velocity_scale == 1.0
    here.client.end_episode("success")
    here.control.order("push", name)
    here.until(name, "CANARY")
    here.client.begin_episode("stack")
    assert here.client.velocity_scale == 0.5


def test_a_server_without_a_directory_says_so(micro_bundle: Bundle, address: str, context: zmq.Context[Any]) -> None:
    with PolicyServer(Policy(micro_bundle, open_engine(micro_bundle, flow_steps=2)), address) as server:
        server.wait_ready(PATIENCE_S)
        with ServerControl(address, PATIENCE_S, context) as control, pytest.raises(ServerRefused, match="--adapters"):
            control.adapters()
