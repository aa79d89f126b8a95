"""The daemon that learns: an adapter when one is due, nothing lost by kill -9, one learner a folder, a server told."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import adapter_server
import numpy as np
import pytest
from learning_daemon import LIMIT_S, SMALL, Learner, publish, settings, start_learner, unused, wait_until
from recordings import CAMERAS, record
from safetensors.numpy import load_file
from telling_process import TellingProcess

from flexor.errors import FlexorError
from flexor.learner.continual.learner_state import LearnerState
from flexor.learner.continual.publication import read_start
from flexor.learner.curves import read_curves
from flexor.learner.demonstrations import DemonstrationError
from flexor.learner.lora.episode_set import is_held_out
from flexor.learner.lora.learn import LearnWatcher, learn, work_folder
from flexor.learner.lora.sample_store import SampleStore
from flexor.learner.lora.settings import LoraSettings
from flexor.learner.replay.online_pool import OnlinePool
from flexor.learner.replay.settings import ReplaySettings
from flexor.learner.work_lock import WorkLock
from flexor.runtime.adapters.audit_log import read_audit
from flexor.runtime.episodes.episode_schema import EpisodeMeta
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.labelling import label_episode
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.serving.control import ServerControl

QUIET = LearnWatcher(lambda done, total: None, lambda standing: None)


@pytest.fixture(scope="module")
def published(
    base: Bundle, changed: Path, recordings: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Learner, Path]:
    """One adapter of an undisturbed daemon, beside the log that it came of."""
    folder = tmp_path_factory.mktemp("whole")
    log = unused(changed, folder / "log")
    return publish(base, log, folder / "adapters", settings(), replay=recordings)


def test_an_adapter_is_published_when_enough_episodes_came(published: tuple[Learner, Path]) -> None:
    learner, folder = published
    (begun,), (written,) = learner.told("publication.begun"), learner.told("adapter.written")
    rows = EpisodeIndex(folder.parents[1] / "log").episodes()
    assert (begun["reason"], begun["new"], begun["parent"]) == ("publish.every_episodes", len(rows), "base")
    manifest = json.loads((folder / "manifest.json").read_text())
    learned_from = {row.id for row in rows if folder.name in row.used_by}
    assert learned_from == set(manifest["episodes"])
    assert 3 <= len(learned_from) <= sum(not is_held_out(row.id, 0.2) for row in rows)
    assert manifest["metrics"]["steps"] == written["steps"] == 12
    work = work_folder(folder.parent)
    entries, _ = read_audit(work)
    assert [entry["event"] for entry in entries] == [event for event, _ in learner.events]
    curves = read_curves(work / "0001" / "curves.jsonl")
    assert [row["step"] for row in curves] == list(range(1, 13))
    assert {"train/loss", "train/grad_norm", "train/lr", "train/online_share"} <= curves[-1].keys()
    assert all(0.2 <= row["train/online_share"] <= 1 for row in curves)
    assert list((work / "0001" / "tensorboard").iterdir())


def test_too_few_or_nothing_new_is_not_due_and_time_or_steps_may_be(base: Bundle, tmp_path: Path) -> None:
    data, out = tmp_path / "log", tmp_path / "adapters"
    looks: list[int] = []

    def some_looks() -> bool:
        looks.append(1)
        return len(looks) > 20

    idle = Learner(base, data, out, settings(held_out=1e-9))
    assert idle.run(some_looks)["published"] == 0  # nothing was ever recorded
    record(data, episodes=2)
    looks.clear()
    assert idle.run(some_looks)["published"] == 0
    timed = settings(held_out=1e-9, steps=2, publish={"every_episodes": None, "every_minutes": 1e-9, "min_episodes": 2})
    learner, first = publish(base, data, out, timed)
    assert learner.told("publication.begun")[0]["reason"] == "publish.every_minutes"
    looks.clear()
    assert learner.run(some_looks)["number"] == 1  # time passes, and nothing new comes
    endless = settings(
        held_out=1e-9, steps=2, publish={"every_steps": 2, "min_episodes": 2}, learner={"init": "current"}
    )
    learner, second = publish(base, data, out, endless)
    assert json.loads((second / "manifest.json").read_text())["parent"] == first.name
    parent, child = (load_file(folder / "adapter_model.safetensors") for folder in (first, second))
    ratio = [
        np.linalg.norm(child[name] - value) / np.linalg.norm(value) for name, value in parent.items() if "A" in name
    ]
    assert max(ratio) < 0.5, "it begins with the parent's factors, drawn anew they would be elsewhere"


@pytest.fixture
def address() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="flexor-test-") as folder:
        yield f"ipc://{folder}/policy.sock"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_while_it_learns_and_stopped_before_it_announces_it_ends_with_the_same_adapter_and_tells_the_server(
    base: Bundle, changed: Path, recordings: Path, published: tuple[Learner, Path], tmp_path: Path, address: str
) -> None:
    undisturbed, whole = published
    data, out = unused(changed, tmp_path / "log"), tmp_path / "adapters"
    work = work_folder(out)
    first = start_learner(base, data, recordings, out, "--server", address)
    wait_until(first, lambda: any(row["step"] >= 5 for row in read_curves(work / "0001" / "curves.jsonl")))
    assert os.getpriority(os.PRIO_PROCESS, first.pid) == 19
    assert Path(f"/proc/{first.pid}/oom_score_adj").read_text().strip() == "1000"
    with pytest.raises(FlexorError, match=rf"is used by another learner \(process {first.pid}\)"):
        Learner(base, data, out, settings()).run(lambda: True)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=LIMIT_S)
    assert LearnerState.read(work).plan is not None

    second = start_learner(base, data, recordings, out, "--server", address)
    wait_until(second, lambda: LearnerState.read(work).unannounced is not None)  # the server is not there yet
    second.send_signal(signal.SIGTERM)
    second.communicate(timeout=LIMIT_S)
    assert second.returncode == 0
    assert read_audit(work)[0][-1]["event"] == "learner.stopped"
    (folder,) = [path for path in out.iterdir() if not path.name.startswith(".")]
    ours, theirs = (load_file(path / "adapter_model.safetensors") for path in (folder, whole))
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor, err_msg=name)
    told = [(row["step"], row["train/loss"]) for row in read_curves(work / "0001" / "curves.jsonl")]
    assert told == [(step, pytest.approx(loss, abs=0)) for step, loss in undisturbed.steps]

    more = json.dumps({"canary_episodes": 0, "shadow_requests": 0})
    server = TellingProcess([sys.executable, adapter_server.__file__, base.path, address, out, more])
    try:
        server.wait_for("ready")
        third = Learner(base, data, out, settings(), replay=recordings, server=address)
        third.run(lambda: bool(third.told("adapter.taken")))
        with ServerControl(address) as control:
            assert control.adapters()["active"] == folder.name
    finally:
        server.__exit__()


def test_one_work_folder_has_one_learner(base: Bundle, changed: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapters"
    learner = Learner(base, changed, out, settings())
    held = rf"used by another learner \(process {os.getpid()}\); stop that one"
    with WorkLock(work_folder(out)):
        with pytest.raises(FlexorError, match=held):
            learner.run(lambda: True)
        with pytest.raises(FlexorError, match=held):
            learn(base, changed, out, LoraSettings.model_validate(SMALL), QUIET)
    assert learner.run(lambda: True)["published"] == 0


def test_killed_between_writing_an_adapter_and_noting_it_writes_the_same_one_again(
    base: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = tmp_path / "log", tmp_path / "adapters"
    record(data, episodes=6)
    chosen = settings(held_out=1e-9, steps=3)

    class Killed(BaseException):
        pass

    def die(*arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(EpisodeIndex, "mark_used", die)  # what comes first after it
        with pytest.raises(Killed):
            publish(base, data, out, chosen)
    (folder,) = out.iterdir()
    _, again = publish(base, data, out, chosen)
    assert again == folder
    assert list(out.iterdir()) == [folder]


def test_a_plan_whose_episodes_changed_is_given_up_and_made_anew(base: Bundle, tmp_path: Path) -> None:
    data, out = tmp_path / "log", tmp_path / "adapters"
    paths = record(data, episodes=6)
    chosen = settings(held_out=1e-9, steps=4, publish={"every_episodes": 5})
    learner = Learner(base, data, out, chosen)
    assert learner.run(lambda: len(learner.steps) >= 2)["published"] == 0
    label_episode(data, paths[0].stem, "failure", None, "ada")
    learner, folder = publish(base, data, out, chosen)
    assert "corrected" in learner.told("publication.abandoned")[0]["told"]
    episodes = json.loads((folder / "manifest.json").read_text())["episodes"]
    assert episodes and paths[0].stem not in episodes


def test_of_a_failure_the_frames_at_which_somebody_helped_are_learned_and_what_cannot_be_used_is_told(
    base: Bundle, tmp_path: Path
) -> None:
    data = tmp_path / "log"
    record(data, episodes=1, hz=10.0)
    record(data / "other", episodes=1)
    helped = failure(data, range(6, 10))
    store = SampleStore(tmp_path / "samples", base)
    store.take(data, helped)
    episodes = store.gather(data, [helped])
    assert len(episodes.states) == 4
    assert sorted(episodes.states[:, 0].tolist()) == [6.0, 7.0, 8.0, 9.0]
    np.testing.assert_array_equal(episodes.images[2], episodes.images[2:3][0])
    assert {episodes.number(row) for row in range(4)} == {episodes.number(0) + row for row in range(4)}
    learner = Learner(base, data, tmp_path / "adapters", settings())
    looked: list[int] = []
    learner.run(lambda: len(looked) > 5 or looked.append(1) is not None)
    (skipped,) = learner.told("episode.skipped")
    assert "recorded at 10 Hz" in skipped["told"]


def test_of_an_advised_failure_every_frame_is_learned_as_far_as_the_advice_is_a_plan(
    base: Bundle, tmp_path: Path
) -> None:
    data = tmp_path / "log"
    advised = failure(data, range(6, 10), adviser="oracle")
    store = SampleStore(tmp_path / "samples", base)
    store.take(data, advised)
    episodes = store.gather(data, [advised])
    assert len(episodes.states) == 14
    assert episodes.actions[:, 0, 0].tolist() == [1.0] * 6 + [0.0] * 4 + [1.0] * 4
    horizon = base.model_config.horizon
    # the arm stood still; who had it at 6 to 9 did as they wanted, so from there the plan goes on to the next advice
    assert episodes.reach.tolist() == [1] * 6 + [5, 4, 3, 2] + [1] * 4 and horizon > 5
    (row,) = EpisodeIndex(data).episodes()
    assert (row.advised, row.interventions) == (10, 4)


@pytest.mark.parametrize("outcome", ["abort", "unknown"])
def test_advice_in_an_episode_that_came_to_no_end_teaches_nothing(base: Bundle, tmp_path: Path, outcome: str) -> None:
    advised = failure(tmp_path / "log", range(0), outcome, adviser="oracle")
    with pytest.raises(DemonstrationError, match=f"ended as {outcome}"):
        SampleStore(tmp_path / "samples", base).take(tmp_path / "log", advised)
    (row,) = EpisodeIndex(tmp_path / "log").episodes()
    assert OnlinePool.of([row], ReplaySettings()).weights == {}


def failure(root: Path, helped: range, outcome: str = "failure", **extra: str) -> str:
    """An episode in which the arm stands still; where somebody is named as adviser, they want it to go on."""
    meta = EpisodeMeta("sim:made-up", "red", "the red one", 0, "nano@1", "base", 20.0, CAMERAS, extra)
    advice = np.array([1, 0, 0, 0, 0, 0, 0], np.float32) if extra else None
    with EpisodeRecorder(root, images="png") as recorder:
        recorder.begin(meta)
        for step in range(14):
            recorder.frames(step, {camera: np.full((48, 48, 3), step, np.uint8) for camera in CAMERAS})
            action, state = np.zeros(7, np.float32), np.full(8, step, np.float32)
            theirs = step in helped
            recorder.step(step, state, action, action if theirs else advice, intervention=theirs)
        return recorder.end(outcome, None, "sim").stem


def test_an_adapter_of_another_bundle_or_rank_is_nothing_to_go_on_from(published: tuple[Learner, Path], base: Bundle):
    _, folder = published
    assert read_start(folder.parent, "base", base, settings()) is None
    found = read_start(folder.parent, folder.name, base, settings())
    assert found is not None and found.adapter == folder.name
    with pytest.raises(FlexorError, match="this learner has 16"):
        read_start(folder.parent, folder.name, base, settings(r=16))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"profile": "full", "load_in_8bit": True}, "holds in 8 bits"),
        ({"replay_share": 0.5}, "replay.share_low"),
        ({"replay": {"failures": True}}, "behaviour cloning"),
        ({"publish": {"every_steps": 25}}, "steps=25"),
        ({"publish": {"every_episodes": None}}, "nothing says when"),
    ],
)
def test_settings_that_a_daemon_could_not_keep_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        settings(**wrong)
