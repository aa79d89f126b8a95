"""evaluate: lockstep in worker processes, deterministic, independent of how many there are."""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from point_world import (
    PointPolicy,
    PointRobot,
    broken_policy,
    crashing_policy,
    open_elsewhere,
    open_noisy_policy,
    open_point,
)
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.errors import FlexorError
from flexor.flywheel.evaluate import evaluate
from flexor.flywheel.lockstep import Delay, Lockstep, noise_seed
from flexor.runtime.driving.handshake import Mismatch
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.observation import ActionChunk, Observation

run = functools.partial(
    evaluate, "point", "sim:point", ("left", "right"), make_robot=open_point, make_policy=open_noisy_policy
)


def test_the_same_seed_gives_the_same_result_with_one_worker_and_with_three():
    once = run(10, 5, 1)
    assert run(10, 5, 1) == once
    assert run(10, 5, 3) == once
    assert run(10, 6, 3)["rows"] != once["rows"]


def test_the_result_has_the_common_names_and_a_row_a_task_and_an_episode():
    told: list[dict[str, Any]] = []
    result = run(5, 100, 2, watch=told.append)
    assert sorted(row["episode"] for row in told) == [0, 1, 2, 3, 4]
    assert [(row["seed"], row["task"]) for row in result["rows"]] == [
        (100, "left"), (101, "right"), (102, "left"), (103, "right"), (104, "left"),
    ]  # fmt: skip
    assert result["episodes"] == 5
    assert result["successes"] == sum(row["success"] for row in result["rows"])
    assert result["success_rate"] == result["successes"] / 5
    low, high = result["ci95"]
    assert 0 <= low <= result["success_rate"] <= high <= 1
    assert 1.0 <= result["entropy_bits_mean"] <= 2.0
    assert [(row["task"], row["episodes"]) for row in result["tasks"]] == [("left", 3), ("right", 2)]


def test_the_result_says_in_what_precision_it_was_computed():
    assert run(1, 5, 1)["precision"] == "fp32"
    assert run(1, 5, 1, precision="int8")["precision"] == "int8"


def test_an_evaluation_with_other_noise_or_steps_is_another_evaluation(tmp_path: Path):
    told: tuple[dict[str, Any], ...] = (
        {"noise_scale": None, "flow_steps": None},
        {"noise_scale": 0.5},
        {"flow_steps": 2},
    )
    for some in told:
        found = run(1, 5, 1, keep=tmp_path, **some)
        assert {key: found[key] for key in some} == some
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], {}),
        (["--precision", "int8"], {"precision": "int8"}),
        (["--noise-scale", "0.5", "--flow-steps", "2"], {"noise_scale": 0.5, "flow_steps": 2}),
    ],
)
def test_the_command_plays_as_the_bundle_does_or_as_it_is_told_and_tells_it(
    options: list[str], told: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = {"precision": "fp32", "flow_steps": None, "noise_scale": None} | told

    def on_points(bundle: str, *, watch: Any, make_policy: Any, **settled: Any) -> dict[str, Any]:
        assert make_policy.keywords == expected
        return run(2, 5, 1, watch=watch, **{key: settled[key] for key in expected})

    monkeypatch.setattr("flexor.flywheel.evaluate.evaluate", on_points)
    file = tmp_path / "result.json"
    shown = CliRunner().invoke(app, ["eval", "pi05-nano", *options, "--json", str(file)])
    assert shown.exit_code == 0, shown.output
    assert f"point, {expected['precision']}" in " ".join(shown.output.split())
    found = json.loads(file.read_text())
    assert {key: found[key] for key in expected} == expected


def test_a_part_of_an_evaluation_plays_the_episodes_of_the_whole():
    whole = run(7, 5, 1)["rows"]
    assert run(3, 5, 1)["rows"] + run(7, 5, 2, skip=3)["rows"] == whole
    assert [row["task"] for row in run(5, 5, 1, skip=3)["rows"]] == ["right", "left"]
    for skip in (-1, 4, 9):
        with pytest.raises(FlexorError, match=f"skip is {skip}; expected 0 to 3"):
            run(4, 5, 1, skip=skip)


def test_the_result_names_the_bundle_that_played_by_its_hash():
    assert run(2, 5, 2)["bundle_hash"] == PointPolicy().describe()["hash"]


def test_recording_changes_nothing_and_leaves_every_episode_on_disk(tmp_path):
    assert run(4, 7, 2, tmp_path) == run(4, 7, 1)
    rows = EpisodeIndex(tmp_path).episodes()
    assert len(rows) == 4
    episodes = [read_episode(path) for path in sorted((tmp_path / "episodes").glob("*.mcap"))]
    assert sorted(episode.meta.seed for episode in episodes) == [7, 8, 9, 10]
    for episode in episodes:
        assert [recorded.step for recorded in episode.chunks] == list(range(0, len(episode.steps), 5))


def test_a_chunk_that_comes_late_is_asked_for_earlier_and_its_first_actions_are_dropped(tmp_path):
    evaluate_late = functools.partial(run, 1, 7, 1, tmp_path, delay=Delay(2, "replan"))
    assert evaluate_late()["delay"] == {"steps": 2, "splice": "replan"}
    (row,) = EpisodeIndex(tmp_path).episodes()
    episode = read_episode(tmp_path / row.file)
    anchors = [recorded.step for recorded in episode.chunks]
    assert anchors[:4] == [0, 3, 6, 9]  # every replan - delay = 3 steps
    playing = {step: max(a for a in anchors if a == 0 or a + 2 <= step) for step in episode.steps.tolist()}
    plans = {recorded.step: recorded.chunk.actions for recorded in episode.chunks}
    for step, action in zip(episode.steps.tolist(), episode.actions, strict=True):
        np.testing.assert_allclose(action, np.clip(plans[playing[step]][step - playing[step]], -1, 1), atol=1e-6)


def test_with_a_prefix_a_late_chunk_begins_with_what_is_played_meanwhile(tmp_path):
    run(1, 7, 1, tmp_path, delay=Delay(2, "prefix"))
    (row,) = EpisodeIndex(tmp_path).episodes()
    episode = read_episode(tmp_path / row.file)
    plans = {recorded.step: recorded.chunk.actions for recorded in episode.chunks}
    anchors = sorted(plans)
    for before, after in itertools.pairwise(anchors):
        np.testing.assert_array_equal(plans[after][:2], plans[before][after - before : after - before + 2])


@pytest.mark.parametrize("splice", ["replan", "prefix"])
@pytest.mark.parametrize(
    ("delay", "asks"),
    [
        (0, [0, 5, 10, 15]),
        (1, [0, 4, 8, 12]),
        (2, [0, 3, 6, 9]),
        (3, [0, 2, 5, 8, 11]),  # as the daemon asks: due, and not before the last one is there
        (5, [0, 1, 6, 11, 16]),
    ],
)
def test_late_chunks_are_asked_for_when_the_daemon_would_and_every_step_has_an_action(
    tmp_path, delay: int, asks: list[int], splice: Literal["replan", "prefix"]
):
    robot = PointRobot(max_steps=40, far=2.0)
    Lockstep(robot, PointPolicy(far=2.0), EpisodeRecorder(tmp_path), False, Delay(delay, splice)).play("left", 0)
    episode = read_episode(next((tmp_path / "episodes").glob("*.mcap")))
    assert [recorded.step for recorded in episode.chunks][: len(asks)] == asks
    assert len(robot.commands) == 40
    assert all(command is not None for command in robot.commands)


@pytest.mark.parametrize(("delay", "longest"), [(Delay(6), 5), (Delay(-1), 5), (Delay(6, "prefix"), 5)])
def test_a_delay_that_no_chunk_can_bridge_is_refused(delay: Delay, longest: int):
    with pytest.raises(FlexorError, match=f"expected 0 to {longest}"):
        run(1, 0, 1, delay=delay)


def test_no_task_named_means_all_and_an_unknown_one_is_refused_with_the_names():
    every = evaluate("point", "sim:point", (), 2, 0, 1, make_robot=open_point, make_policy=open_noisy_policy)
    assert [row["task"] for row in every["tasks"]] == ["left", "right"]
    with pytest.raises(FlexorError, match=r"unknown tasks up;.*left, right"):
        evaluate("point", "sim:point", ("up",), 2, 0, 1, make_robot=open_point, make_policy=open_noisy_policy)


def test_an_error_in_a_worker_is_the_error_of_the_evaluation():
    with pytest.raises(FlexorError, match="bundle point cannot be opened"):
        run(4, 0, 2, make_policy=broken_policy)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a bug"):
        run(4, 0, 2, make_policy=crashing_policy)


def test_a_policy_that_does_not_fit_is_refused_before_anything_moves():
    robot = PointRobot(hz=10.0)
    with pytest.raises(Mismatch, match="20 Hz"):
        Lockstep(robot, PointPolicy(), None, entropy=False)
    assert robot.commands == []


def test_the_robot_s_conditions_and_its_sentence_are_in_the_result_and_in_every_episode(tmp_path):
    result = run(2, 7, 1, tmp_path, make_robot=open_elsewhere)
    assert result["shift"] == {"level": "low"}
    for row in EpisodeIndex(tmp_path).episodes():
        meta = read_episode(tmp_path / row.file).meta
        assert meta.extra["shift"] == {"level": "low"}
        assert meta.prompt == f"off you go to the {meta.task}"


def test_noise_seeds_fit_the_wire_and_differ_by_episode_and_step():
    seeds = {noise_seed(seed, step) for seed in range(30) for step in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_held_step_is_recorded_with_the_gripper_as_it_was(tmp_path):
    class Lost(PointPolicy):
        """Closes the gripper, and from step 5 on gives nothing that can be played."""

        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def infer(
            self, observation: Observation, noise_seed: int, action_prefix: NDArray[np.float32] | None = None
        ) -> ActionChunk:
            chunk = super().infer(observation, noise_seed, action_prefix)
            chunk.actions[:, 6] = 1.0
            if self.calls:
                chunk.actions[:, 0] = np.nan
            self.calls += 1
            return chunk

    Lockstep(PointRobot(max_steps=8), Lost(), EpisodeRecorder(tmp_path), entropy=False).play("left", 0)
    episode = read_episode(next((tmp_path / "episodes").glob("*.mcap")))
    assert not episode.actions[5:, :6].any()
    assert (episode.actions[:, 6] == 1.0).all()
