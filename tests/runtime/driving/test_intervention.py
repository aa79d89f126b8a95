"""Somebody takes the arm in the middle of an episode: what is played, what is recorded, and how it is given back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_client import PERIOD, Clock, ScriptedClient, TimedRobot

from flexor.runtime.driving.adviser import Adviser
from flexor.runtime.driving.daemon import Daemon, DaemonSettings
from flexor.runtime.driving.intervention import Situation, Takeover
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.lerobot.plan_trace import PlanTrace
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.robot import Status


class Person:
    """Takes the arm in some steps and turns the wrist."""

    name = "ada"

    def __init__(self, steps: range, action: float = 0.25) -> None:
        self.steps, self.action = steps, np.full(7, 0.0, np.float32)
        self.action[3] = action
        self.seen: list[Situation] = []

    def begin(self) -> None:
        self.seen = []

    def takeover(self, situation: Situation) -> Takeover | None:
        self.seen.append(situation)
        return Takeover(self.action, "by hand") if situation.step in self.steps else None


class Outcomes(ScriptedClient):
    """Remembers what it was told of each end."""

    def end_episode(self, outcome: str, label: str | None, source: str) -> None:
        self.ended.append(outcome)


class Arriving(TimedRobot):
    """Succeeds with its last step."""

    def _status(self) -> Status:
        status = super()._status()
        return Status(status.step, status.done, status.done)


def run(
    root: Path,
    person: Person | None,
    steps: int = 30,
    latency: Any = lambda step: 0.02,
    robot: type = TimedRobot,
    adviser: Adviser | None = None,
):
    clock = Clock()
    client, arm = Outcomes(clock, latency), robot(clock, steps)
    with EpisodeRecorder(root) as recorder:
        daemon = Daemon(
            arm,
            client,  # type: ignore[arg-type]
            recorder,
            DaemonSettings(),
            intervener=person,
            adviser=adviser,
            now=clock.now,
            sleep=clock.sleep,
        )
        report = daemon.run(1, 0, ["left"])
    return client, arm, report, read_episode(report.results[0].path)


def test_an_adviser_is_silent_while_somebody_has_the_arm_and_begins_anew_afterwards(tmp_path):
    begun: list[int] = []

    def expert():  # says how often it was asked, and how many were made before it
        begun.append(0)
        number = len(begun)

        def advise() -> np.ndarray:
            begun[-1] += 1
            return np.array([number, begun[-1], 0, 0, 0, 0, -1], np.float32)

        return advise

    person = Person(range(10, 16))
    _, _, _, episode = run(tmp_path, person, adviser=Adviser(expert, "grace"))
    assert begun == [10, 14]  # of 30 steps six were the person's
    assert np.flatnonzero(~episode.advised).tolist() == list(range(10, 16))
    assert np.array_equal(episode.labels[10:16], np.tile(person.action, (6, 1)))
    assert episode.labels[9, :2].tolist() == [1, 10] and episode.labels[16, :2].tolist() == [2, 1]
    assert episode.meta.extra["adviser"] == "grace"
    assert not (episode.actions == episode.labels)[episode.advised].all(axis=1).any()  # the policy's were played


def test_the_persons_actions_are_played_and_recorded_as_what_to_learn(tmp_path):
    person = Person(range(10, 16))
    _, arm, report, episode = run(tmp_path, person)
    assert np.flatnonzero(episode.interventions).tolist() == list(range(10, 16))
    assert all(np.array_equal(arm.commands[step], person.action) for step in range(10, 16))
    assert np.array_equal(episode.labels[10:16], np.tile(person.action, (6, 1)))
    assert np.array_equal(episode.actions[10:16], episode.labels[10:16])
    assert (report.interventions, report.intervened_steps) == ({"by hand": 1}, 6)
    (result,) = report.results
    assert (result.interventions, result.intervened_steps) == (1, 6)
    assert EpisodeIndex(tmp_path).episodes()[0].interventions == 6
    assert [(event.step, event.kind, dict(event.data)) for event in episode.events if "interv" in event.kind] == [
        (10, "intervention.begin", {"by": "ada", "why": "by hand"}),
        (16, "intervention.end", {"by": "ada", "steps": 6}),
    ]


def test_every_second_step_of_a_turn_has_its_frames(tmp_path):
    client, _, _, episode = run(tmp_path, Person(range(11, 18)))
    asked = {ask["step"] for ask in client.asked}
    assert set(episode.frames["wrist"]) == asked | {11, 13, 15, 17}


def test_nothing_planned_before_is_played_after_and_the_arm_is_held_until_the_policy_has_seen_where_it_is(tmp_path):
    client, arm, report, episode = run(tmp_path, Person(range(10, 16)))
    asked = [ask["step"] for ask in client.asked]
    assert not any(10 <= step < 16 for step in asked)
    again = client.asked[asked.index(16)]
    assert again["prefix"] is None  # it is not told to continue what nobody plays
    assert arm.commands[16] is None
    assert report.holds == 1
    origins = [round(float(command[3]) * 1000) for command in arm.commands[17:] if command is not None]
    assert len(origins) == 13 and min(origins) == 16
    plan = PlanTrace.of(episode)
    assert plan.chunk[10:17].tolist() == [-1] * 7
    assert [episode.chunks[chunk].step for chunk in plan.chunk[17:].tolist()] == origins


def test_a_reply_that_comes_while_somebody_has_the_arm_is_not_played(tmp_path):
    slow = lambda step: 0.02 if step < 8 else 4 * PERIOD  # noqa: E731
    client, arm, _, episode = run(tmp_path, Person(range(9, 14)), latency=slow)
    late = [ask["step"] for ask in client.asked if ask["step"] < 9][-1]
    assert late == 8  # asked a step before somebody took the arm, and answered after
    assert late not in [chunk.step for chunk in episode.chunks]
    assert not any(command is not None and round(float(command[3]) * 1000) == late for command in arm.commands)


def test_the_guard_looks_at_a_person_too_and_the_label_is_what_they_wanted(tmp_path):
    _, arm, report, episode = run(tmp_path, Person(range(5, 8), action=3.0))
    assert all(arm.commands[step][3] == 1.0 for step in range(5, 8))
    assert (episode.labels[5:8, 3].tolist(), episode.actions[5:8, 3].tolist()) == ([3.0] * 3, [1.0] * 3)
    assert report.guard_events["range"] == 3


def test_what_is_no_number_is_held_and_never_learned_from(tmp_path):
    _, arm, report, episode = run(tmp_path, Person(range(5, 8), action=float("nan")))
    assert arm.commands[5:8] == [None] * 3
    assert np.isfinite(episode.labels).all()
    assert report.guard_events["finite"] == 3


def test_a_turn_that_lasts_to_the_end_is_ended_there(tmp_path):
    _, _, _, episode = run(tmp_path, Person(range(25, 99)))
    assert [(event.step, event.kind) for event in episode.events if "interv" in event.kind] == [
        (25, "intervention.begin"),
        (30, "intervention.end"),
    ]


def test_a_person_may_have_the_arm_from_the_first_step(tmp_path):
    _, _, report, episode = run(tmp_path, Person(range(0, 99)))
    assert episode.interventions.all()
    assert set(episode.frames["wrist"]) == set(range(0, 30, 2))
    assert report.intervened_steps == 30


@pytest.mark.parametrize(("steps", "told"), [(range(0), "success"), (range(3, 5), "failure")])
def test_the_server_is_not_told_that_the_policy_succeeded_where_somebody_helped(tmp_path, steps, told):
    client, _, report, episode = run(tmp_path, Person(steps), robot=Arriving)
    assert (client.ended, episode.outcome) == ([told], "success")
    assert report.to_dict()["successes_alone"] == (told == "success")


def test_an_intervener_sees_the_state_and_every_step(tmp_path):
    person = Person(range(10, 12))
    _, _, _, episode = run(tmp_path, person)
    assert [situation.step for situation in person.seen] == list(range(30))
    assert np.array_equal([situation.state for situation in person.seen], episode.states)


def test_without_an_intervener_nothing_is_counted(tmp_path):
    _, _, report, episode = run(tmp_path, None)
    assert not episode.interventions.any()
    assert report.to_dict()["interventions"] == {}
    assert "intervener" not in episode.meta.extra
