"""A learner among faults: killed often, a disk that fills up, a clock that is set back, and one that makes rubbish."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import adapter_server
import numpy as np
import pytest
from learning_daemon import LIMIT_S, Learner, publish, settings, start_learner, unused, wait_until
from recordings import record
from safetensors.numpy import load_file
from telling_process import TellingProcess
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.learner.curves import read_curves
from flexor.learner.lora.learn import work_folder
from flexor.runtime.adapters.audit_log import read_audit
from flexor.runtime.episodes import episode_writer
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.observation import Observation
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.control import ServerControl

STEPS, KILLS = 100, 20
RUBBISH = 12


@pytest.fixture
def address() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="flexor-test-") as folder:
        yield f"ipc://{folder}/policy.sock"


def adapter_in(out: Path) -> Path:
    (folder,) = [path for path in out.iterdir() if not path.name.startswith(".")]
    return folder


def assert_equal(ours: Path, theirs: Path) -> None:
    """Two adapters, bit by bit."""
    found, expected = (load_file(folder / "adapter_model.safetensors") for folder in (ours, theirs))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)


def losses(out: Path) -> list[tuple[float, float]]:
    return [(row["step"], row["train/loss"]) for row in read_curves(work_folder(out) / "0001" / "curves.jsonl")]


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_twenty_kills_at_random_points_change_no_loss_and_no_bit_of_the_adapter(
    base: Bundle, changed: Path, recordings: Path, tmp_path: Path
) -> None:
    """Each is up to a step's time after a random step: in a gradient, a checkpoint, a row of the curves."""
    chosen = settings(steps=STEPS)
    began = time.monotonic()
    undisturbed, whole = publish(
        base, unused(changed, tmp_path / "whole-log"), tmp_path / "whole", chosen, replay=recordings
    )
    step_s = (time.monotonic() - began) / STEPS
    data, out, chance = unused(changed, tmp_path / "log"), tmp_path / "adapters", random.Random(20)
    for step in sorted(chance.sample(range(1, STEPS - 10), KILLS)):
        learner = start_learner(base, data, recordings, out, f"steps={STEPS}", "--count", "1")
        wait_until(learner, lambda step=step: any(row >= step for row, _ in losses(out)))
        time.sleep(chance.uniform(0.0, step_s))
        os.kill(learner.pid, signal.SIGKILL)
        learner.communicate(timeout=LIMIT_S)
        assert not out.exists() or not list(out.iterdir())
    last = start_learner(base, data, recordings, out, f"steps={STEPS}", "--count", "1")
    last.communicate(timeout=LIMIT_S)
    assert last.returncode == 0
    assert losses(out) == [(step, pytest.approx(loss, abs=0)) for step, loss in undisturbed.steps]
    assert_equal(adapter_in(out), whole)
    begun = [entry for entry in read_audit(work_folder(out))[0] if entry["event"] == "learner.started"]
    assert len(begun) == KILLS + 1


@pytest.fixture(scope="module")
def undisturbed(base: Bundle, changed: Path, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of four steps."""
    folder = tmp_path_factory.mktemp("undisturbed")
    log = unused(changed, folder / "log")
    return publish(base, log, folder / "adapters", settings(steps=4), replay=recordings)[1]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("file_limit", [10, 4_000, 40_000])
def test_a_full_disk_ends_the_learner_with_the_way_out_and_costs_nothing_once_there_is_room(
    base: Bundle, changed: Path, recordings: Path, undisturbed: Path, tmp_path: Path, file_limit: int
) -> None:
    """10 bytes: nothing can be noted; 4 kB: no frames can be kept; 40 kB: no prefixes and no checkpoint."""
    data, out = unused(changed, tmp_path / "log"), tmp_path / "adapters"
    learner = start_learner(base, data, recordings, out, "steps=4", "--count", "1", file_limit=file_limit)
    said = learner.communicate(timeout=LIMIT_S)[1]
    assert learner.returncode == 1 and "Traceback" not in said
    assert "free the disk or mend" in " ".join(said.split())
    assert not out.exists() or not list(out.iterdir())
    again = start_learner(base, data, recordings, out, "steps=4", "--count", "1")
    again.communicate(timeout=LIMIT_S)
    assert again.returncode == 0
    assert_equal(adapter_in(out), undisturbed)


def test_a_clock_that_is_set_back_makes_no_episode_old_news_and_no_adapter_an_older_version(
    base: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = tmp_path / "log", tmp_path / "adapters"
    record(data, episodes=6)
    chosen = settings(held_out=1e-9, steps=2, learner={"init": "current", "poll_s": 0.01})
    _, first = publish(base, data, out, chosen)
    lost_ns = int(timedelta(days=400).total_seconds() * 1e9)
    now_ns = time.time_ns

    class Back(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) - timedelta(days=400)

    for module in ("flexor.learner.continual.daemon", "flexor.runtime.adapters.audit_log"):
        monkeypatch.setattr(f"{module}.datetime", Back)
    with monkeypatch.context() as patch:
        patch.setattr(episode_writer.time, "time_ns", lambda: now_ns() - lost_ns)
        record(data, episodes=6)
    learner, second = publish(base, data, out, chosen)
    assert learner.told("publication.begun")[0]["new"] == 6
    earlier, later = (json.loads((folder / "manifest.json").read_text()) for folder in (first, second))
    assert later["created_at"] < earlier["created_at"]
    assert (later["version"], later["parent"]) == (earlier["version"] + 1, first.name)
    numbers = [entry["event"] for entry in read_audit(work_folder(out))[0] if entry["event"] == "adapter.written"]
    assert len(numbers) == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_learner_that_publishes_rubbish_again_and_again_is_refused_each_time_and_nobody_is_harmed(
    base: Bundle, changed: Path, tmp_path: Path, address: str
) -> None:
    data, out = unused(changed, tmp_path / "log"), tmp_path / "adapters"
    good = publish(base, data, out, settings(steps=2))[1].name
    images = {name: np.full((32, 32, 3), 90, np.uint8) for name in ("agentview", "wrist")}
    observation = Observation(images, np.zeros(8, np.float32), "put the red cube on the plate")
    more = json.dumps({"canary_episodes": 0, "shadow_requests": 0, "max_change": 0.5})
    server = TellingProcess([sys.executable, adapter_server.__file__, base.path, address, out, more])
    try:
        server.wait_for("ready")
        with ServerControl(address) as control:
            assert control.order("push", good)["state"] == "ACTIVE"
            wild = settings(lr=5.0, warmup_steps=0, steps=2, publish={"every_steps": 2})
            learner = Learner(base, data, out, wild, server=address)
            served: list[str] = []
            with PolicyClient(address) as client:

                def enough() -> bool:
                    if len(served) < len(learner.told("adapter.written")):
                        served.append(client.infer(observation).provenance.adapter)
                    return len(learner.told("adapter.refused")) >= RUBBISH

                learner.run(enough)
            refused = learner.told("adapter.refused")
            listing = control.adapters()
        assert all("oversized" in told["told"] for told in refused)
        assert set(served) == {good} and listing["active"] == good
        assert len({told["adapter"] for told in refused}) == RUBBISH
        kept = [row for row in listing["adapters"] if row["state"] == "REJECTED"]
        assert [row["id"] for row in kept] == [told["adapter"] for told in refused[-3:]]
        told = CliRunner().invoke(app, ["adapter", "list", "--server", address])
        assert told.exit_code == 0 and told.output.count("oversized") >= len(kept)
    finally:
        server.__exit__()
