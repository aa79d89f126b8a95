"""What is learned from next: priorities, shares and the reservoir by hand, draws that are functions of their number."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from online_episodes import episode_row
from pydantic import ValidationError
from recordings import record

from flexor.learner.replay.online_pool import OnlinePool
from flexor.learner.replay.online_share import OnlineShare
from flexor.learner.replay.replay_error import ReplayError
from flexor.learner.replay.replay_sampler import Draw, ReplaySampler
from flexor.learner.replay.reservoir import Reservoir
from flexor.learner.replay.settings import ReplaySettings
from flexor.runtime.episodes.episode_schema import EpisodeMeta
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.labelling import label_episode
from flexor.runtime.episodes.recorder import EpisodeRecorder


def act(root: Path, task: str, outcome: str, interventions: int = 0, calibrated: float | None = None) -> str:
    """Record a small episode of the robot's own; its id."""
    with EpisodeRecorder(root) as recorder:
        recorder.begin(EpisodeMeta("sim:made-up", task, task, 0, "nano@1", "base", 20.0, ()))
        for step in range(4):
            action = np.zeros(2, np.float32)
            recorder.step(step, np.zeros(3, np.float32), action, intervention=step < interventions)
        if calibrated is not None:
            recorder.event(3, "entropy", {"ace_bits": 1.0, "calibrated": {"ace_bits": calibrated}})
        return recorder.end(outcome, None, "sim").stem


def sampler_of(root: Path, reservoir: Reservoir | None, settings: ReplaySettings) -> ReplaySampler:
    return ReplaySampler(OnlinePool.of(EpisodeIndex(root).episodes(), settings), reservoir, settings)


def draws_of(sampler: ReplaySampler, count: int) -> list[Draw]:
    return [sampler.draw(number) for number in range(count)]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Demonstrations: ten of each of two tasks."""
    record(tmp_path / "base", 20, steps=2, size=8)
    return tmp_path / "base"


@pytest.mark.parametrize(
    ("fields", "priority"),
    [
        ({}, 0.0),
        ({"entropy_bits_max": 3.0}, 0.0),  # raw
        ({"calibrated_max": 2.0}, 1.0),
        ({"outcome": "failure"}, 1.0),
        ({"interventions": 7}, 1.0),
        ({"outcome": "failure", "interventions": 7, "calibrated_max": 3.0}, 3.5),
        ({"outcome": "abort", "calibrated_max": 0.5}, 0.25),
    ],
)
def test_priority_is_half_the_calibrated_maximum_and_one_for_failure_and_intervention(fields, priority):
    assert episode_row(**fields).priority == priority


def test_priority_follows_what_was_recorded_and_what_an_operator_said_later(tmp_path):
    one = act(tmp_path, "red", "failure", interventions=2, calibrated=2.4)
    (found,) = EpisodeIndex(tmp_path).episodes()
    assert found.priority == pytest.approx(1.2 + 1 + 1)
    assert label_episode(tmp_path, one, "success", None, "ada").priority == pytest.approx(1.2 + 1)


def test_a_weight_halves_with_age_counted_in_episodes_and_with_each_learner():
    settings = ReplaySettings(floor=0.5, half_life=2, used_factor=0.25, exponent=1.0)
    rows = [
        episode_row(0, outcome="failure", interventions=1),  # 2.5, four younger: a quarter
        episode_row(1, calibrated_max=1.0),  # 1.0, three younger
        episode_row(2, outcome="abort"),  # teaches nothing, and is younger than the others all the same
        episode_row(3, used_by=("a", "b")),  # 0.5, one younger, learned from twice
        episode_row(4),
    ]
    pool = OnlinePool.of(rows, settings)
    expected = {"e000": 2.5 / 4, "e001": 1.0 * 0.5**1.5, "e003": 0.5 * 0.5**0.5 / 16, "e004": 0.5}
    assert dict(pool.weights["red"]) == pytest.approx(expected)
    squared = OnlinePool.of(rows, settings.model_copy(update={"exponent": 2.0}))
    assert dict(squared.weights["red"]) == pytest.approx({one: weight**2 for one, weight in expected.items()})


def test_failures_that_nobody_put_right_are_drawn_only_where_an_objective_learns_from_them():
    rows = [
        episode_row(0, outcome="failure"),
        episode_row(1, outcome="failure", interventions=3),
        episode_row(2, outcome="unknown"),
    ]
    assert list(OnlinePool.of(rows, ReplaySettings()).weights["red"]) == ["e001"]
    assert list(OnlinePool.of(rows, ReplaySettings(failures=True)).weights["red"]) == ["e000", "e001"]


def test_plain_successes_may_be_left_out_beside_episodes_in_which_somebody_helped_or_advised():
    rows = [
        episode_row(0),
        episode_row(1, advised=1),
        episode_row(2, interventions=3),
        episode_row(3, outcome="failure", advised=1),
        episode_row(4, outcome="failure"),
    ]
    assert list(OnlinePool.of(rows, ReplaySettings()).weights["red"]) == ["e000", "e001", "e002", "e003"]
    assert list(OnlinePool.of(rows, ReplaySettings(successes=False)).weights["red"]) == ["e001", "e002", "e003"]


def test_the_oldest_of_a_million_can_still_be_drawn():
    assert (
        OnlinePool.of([episode_row(0), *[episode_row(1, outcome="abort")] * 500_000], ReplaySettings()).weights["red"][
            "e000"
        ]
        > 0
    )


@pytest.mark.parametrize(
    ("online", "replay", "share"),
    [
        ([], [], 0.5),
        ([9.0], [], 0.5),  # one pool alone says nothing
        ([1.0, 3.0], [1.0], 0.8),  # exp(3) / (exp(3) + exp(1)) = 0.88
        ([0.5], [1.0], math.exp(0.75) / (math.exp(0.75) + math.exp(1.0))),
        ([0.0], [2.0], 0.2),  # 1 / (1 + exp(2)) = 0.12
        ([1e6], [1.0], 0.8),  # exp(1.5e6) is no float
        ([0.0], [1e6], 0.2),
    ],
)
def test_the_online_share_is_sops_and_clipped(online, replay, share):
    one = OnlineShare(alpha=1.5, window=200, low=0.2, high=0.8)
    for loss in online:
        one.note("red", True, loss)
    for loss in replay:
        one.note("red", False, loss)
    assert one.share("red") == pytest.approx(share)
    assert one.share("blue") == 0.5


def test_only_the_last_losses_of_a_window_count():
    one = OnlineShare(alpha=2.0, window=3, low=0.0, high=1.0)
    one.note("red", False, 1.0)
    for loss in (100.0, 0.5, 0.5, 0.5):
        one.note("red", True, loss)
    assert one.share("red") == pytest.approx(0.5)  # 2 * 0.5 - 1 = 0
    with pytest.raises(ReplayError, match="had the loss nan"):
        one.note("red", True, float("nan"))


def test_a_reservoir_is_balanced_fixed_by_its_seed_and_free_of_what_was_corrected(base, tmp_path):
    for _ in range(3):
        act(base, "red", "success", interventions=1)
    chosen = Reservoir.choose(base, 4, seed=0)
    assert {task: len(ids) for task, ids in chosen.episodes.items()} == {"blue": 4, "red": 4}
    assert Reservoir.choose(base, 4, seed=0) == chosen
    assert Reservoir.choose(base, 4, seed=1) != chosen
    assert all(chosen.file(one).exists() for ids in chosen.episodes.values() for one in ids)
    everything = Reservoir.choose(base, 99, seed=0)
    assert {task: len(ids) for task, ids in everything.episodes.items()} == {"blue": 10, "red": 10}
    chosen.save(tmp_path / "reservoir.json")
    act(base, "red", "success")
    assert Reservoir.load(tmp_path / "reservoir.json") == chosen
    chosen.file(chosen.episodes["red"][0]).unlink()
    with pytest.raises(ReplayError, match=r"names 1 episodes that .* no longer has"):
        Reservoir.load(tmp_path / "reservoir.json")


def test_a_state_that_was_touched_is_refused(base, tmp_path):
    path = tmp_path / "reservoir.json"
    Reservoir.choose(base, 2, seed=0).save(path)
    path.write_text(path.read_text().replace("red", "rod"))
    with pytest.raises(ReplayError, match=r"its digest does not fit.*delete it"):
        Reservoir.load(path)


def test_tasks_are_drawn_by_what_is_to_be_learned_of_them_pools_by_their_share_and_episodes_by_priority(base, tmp_path):
    root = tmp_path / "own"
    plain, urgent = act(root, "red", "success"), act(root, "red", "failure", interventions=2, calibrated=1.8)
    settings = ReplaySettings(exponent=1.0, half_life=1e9)
    reservoir = Reservoir.choose(base, 5, 0)
    draws = draws_of(sampler_of(root, reservoir, settings), 6000)
    alike = draws_of(sampler_of(root, reservoir, settings.model_copy(update={"exponent": 0.0})), 6000)
    assert Counter(draw.task for draw in alike)["red"] / 6000 == pytest.approx(0.5, abs=0.03)
    by_task = Counter(draw.task for draw in draws)
    # red on average (0.1 + 3.0) / 2, and blue, which the robot has not played, as much as a success: 0.1
    assert by_task["red"] / 6000 == pytest.approx(1.55 / 1.65, abs=0.02)
    assert {draw.online for draw in draws if draw.task == "blue"} == {False}  # the robot has none of it
    red = [draw for draw in draws if draw.task == "red"]
    assert np.mean([draw.online for draw in red]) == pytest.approx(0.5, abs=0.04)
    own = Counter(draw.id for draw in red if draw.online)
    # (0.1 + 0) to (0.1 + 0.9 + 1 + 1)
    assert own[plain] / own.total() == pytest.approx(0.1 / 3.1, abs=0.02)
    assert next(draw.probability for draw in red if draw.id == urgent) == pytest.approx(3.0 / 3.1)
    replayed = Counter(draw.id for draw in alike if not draw.online and draw.task == "blue")
    assert len(replayed) == 5
    assert min(replayed.values()) / max(replayed.values()) > 0.8


def test_losses_move_what_is_drawn_within_the_clip(base, tmp_path):
    root = tmp_path / "own"
    act(root, "red", "success")
    sampler = sampler_of(root, Reservoir.choose(base, 5, 0), ReplaySettings())
    for draw in draws_of(sampler, 400):
        sampler.note_loss(draw, 5.0 if draw.online else 0.1)
    assert sampler.share("red") == 0.8
    assert np.mean([d.online for d in draws_of(sampler, 2000) if d.task == "red"]) == pytest.approx(0.8, abs=0.04)


def test_without_a_reservoir_or_without_own_episodes_the_other_is_drawn_and_without_both_it_says_so(base, tmp_path):
    root = tmp_path / "own"
    chosen = Reservoir.choose(base, 2, 0)
    assert {draw.online for draw in draws_of(sampler_of(root, chosen, ReplaySettings()), 20)} == {False}
    with pytest.raises(ReplayError, match="no episode to learn from"):
        sampler_of(root, None, ReplaySettings())
    act(root, "green", "success")
    assert {draw.task for draw in draws_of(sampler_of(root, None, ReplaySettings()), 20)} == {"green"}


def test_a_draw_is_the_same_whenever_it_is_made_until_a_loss_is_noted(base, tmp_path):
    root, reservoir = tmp_path / "own", Reservoir.choose(base, 3, 0)
    for number in range(6):
        act(root, ("red", "blue")[number % 2], "success", interventions=number % 3, calibrated=0.3 * number)
    first = sampler_of(root, reservoir, ReplaySettings(seed=3))
    forwards = [first.draw(number) for number in range(40)]
    assert [first.draw(number) for number in reversed(range(40))] == forwards[::-1]
    for draw in forwards:
        first.note_loss(draw, 0.02 * draw.number * draw.online)
    again = sampler_of(root, reservoir, ReplaySettings(seed=3))
    again.restore(json.loads(json.dumps(first.state())))
    later = [first.draw(number) for number in range(40)]
    assert [again.draw(number) for number in range(40)] == later
    assert later != forwards
    assert again.digest == first.digest
    assert sampler_of(root, reservoir, ReplaySettings(seed=4)).digest != first.digest


def test_another_look_at_the_index_knows_what_came_and_who_learned_meanwhile(tmp_path):
    one, settings = act(tmp_path, "red", "success"), ReplaySettings(exponent=1.0, half_life=1e9)
    assert {draw.id for draw in draws_of(sampler_of(tmp_path, None, settings), 30)} == {one}
    two = act(tmp_path, "red", "success")
    EpisodeIndex(tmp_path).mark_used([one], "adapter-1")
    assert {draw.id: draw.probability for draw in draws_of(sampler_of(tmp_path, None, settings), 60)} == {
        one: pytest.approx(1 / 3),
        two: pytest.approx(2 / 3),
    }


@pytest.mark.parametrize("wrong", [{"alpha": 1.0}, {"share_low": 0.9}, {"half_life": 0}, {"floor": 0}, {"wrong": 1}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        ReplaySettings(**wrong)
