"""Adapters that were never learned, as large as real ones: shadow or canary stops each, and what is good stays."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq
from adapter_house import PATIENCE_S, House
from made_up_way import play, record_way

from flexor.learner.lora.learn import LearnWatcher, learn
from flexor.learner.lora.settings import LoraSettings
from flexor.learner.pretrain import Watcher, pretrain
from flexor.learner.settings import PretrainSettings
from flexor.pi05.lora import Factors
from flexor.runtime.adapters.adapter_folder import AdapterFolder
from flexor.runtime.adapters.adapter_writer import write_adapter
from flexor.runtime.adapters.audit_log import read_audit
from flexor.runtime.adapters.peft_files import MODEL, factors_of, read_model
from flexor.runtime.adapters.store_state import UNDER_WAY
from flexor.runtime.inference.bundle import Bundle

REAL, RANDOM = 3, 20
SAMPLES, STEPS = 4_000, 120
RANK, ALPHA = 8, 32.0
SLACK_S = 0.1

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A pi05-micro that masters its world."""
    folder = tmp_path_factory.mktemp("policy")
    record_way(folder / "data", episodes=20)
    settings = PretrainSettings(
        preset="pi05-micro", batch=32, warmup_steps=10, held_out=0.1, samples=SAMPLES, evaluate_steps=10**6, max_delay=0
    )
    pretrain(folder / "data", folder / "micro", settings, Watcher(lambda done, total: None, lambda standing: None))
    return Bundle.open(folder / "micro")


@pytest.fixture(scope="module")
def real(policy: Bundle, tmp_path_factory: pytest.TempPathFactory) -> list[Factors]:
    """Adapters that were learned in a world in which the right way is the opposite one."""
    folder, quiet = tmp_path_factory.mktemp("real"), LearnWatcher(lambda done, total: None, lambda standing: None)
    record_way(folder / "changed", episodes=20, mirrored=True)
    found = []
    for seed in range(REAL):
        settings = LoraSettings(
            steps=STEPS,
            batch=16,
            accumulation=1,
            draws=4,
            encodings=1,
            precision="fp32",
            lr=3e-3,
            held_out=0.1,
            seed=seed,
        )
        told = learn(policy, folder / "changed", folder / "adapters", settings, quiet)
        raw = AdapterFolder.read(Path(told["adapter"]), 2**30).files[MODEL]
        found.append(factors_of(read_model(raw, "real"), "real"))
    return found


def norm(pair: tuple[np.ndarray, np.ndarray]) -> float:
    """Of the change of one projection."""
    a, b = pair
    return float(np.linalg.norm(ALPHA / RANK * b @ a))


def random_like(real: list[Factors], seed: int) -> Factors:
    """Random factors whose change of each projection is as large as the median of the real ones'."""
    rng, made = np.random.default_rng(seed), {}
    for name, (a, b) in real[0].items():
        drawn = (rng.normal(size=a.shape), rng.normal(size=b.shape))
        scale = float(np.median([norm(one[name]) for one in real])) / norm(drawn)
        made[name] = (drawn[0].astype(np.float32), (scale * drawn[1]).astype(np.float32))
    return made


@pytest.fixture
def house(policy: Bundle) -> Iterator[House]:
    """With every limit as it ships, save how far a candidate's actions may be from those of its parent."""
    with tempfile.TemporaryDirectory(prefix="flexor-test-") as folder:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        made = House(
            policy, Path(folder), context, rank=RANK, alpha=ALPHA, max_change=0.5, max_difference=2.0, shadow_requests=8
        )
        try:
            yield made.start()
        finally:
            made.stop()
            context.term()


def tried(house: House, factors: Factors) -> tuple[str, str, str | None]:
    """Push an adapter and play in the changed world, every seed twice, until it is decided: id, state, why."""
    name = write_adapter(house.root, factors, house.bundle, rank=RANK, alpha=ALPHA).name
    house.control.order("push", name)
    episode, deadline = 0, time.monotonic() + PATIENCE_S
    while (row := house.row(name))["state"] in UNDER_WAY:
        assert time.monotonic() < deadline, row
        play(house.client, episode // 2, mirrored=True)
        episode += 1
        if row["state"] == "SHADOW":
            time.sleep(SLACK_S)  # who asks without a pause leaves no time to compare in
    return name, row["state"], row["reason"]


def test_a_learned_adapter_comes_into_service_and_none_of_twenty_random_ones_as_large_takes_its_place(
    house: House, real: list[Factors]
) -> None:
    without = [play(house.client, seed, mirrored=True)[1] for seed in range(100, 120)]
    good, state, why = tried(house, real[0])
    assert (state, why) == ("ACTIVE", None), "else a canary that lets nothing through would pass, too"
    found = [tried(house, random_like(real, seed))[1:] for seed in range(RANDOM)]
    assert {state for state, _ in found} == {"REJECTED"}, Counter(found)
    assert {why for _, why in found} <= {"shadow", "canary", "no_evidence"}, Counter(found)
    assert house.control.adapters()["active"] == good
    active = [entry["adapter"] for entry in read_audit(house.root)[0] if entry["event"] == "adapter.active"]
    assert active == [good]
    played = [play(house.client, seed, mirrored=True) for seed in range(100, 120)]
    assert {adapter for adapter, _ in played} == {good}
    assert sum(there for _, there in played) > sum(without)
