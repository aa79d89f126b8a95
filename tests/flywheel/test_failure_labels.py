"""What a robot says of a failure reaches the episode file, the index, the report, the summary and the server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from point_world import PointPolicy, PointRobot
from scripted_client import Clock, ScriptedClient
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.flywheel.evaluate import evaluate
from flexor.runtime.driving.daemon import Daemon, DaemonSettings
from flexor.runtime.driving.run_report import RunReport
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.robot import FailureEvent, Status
from flexor.runtime.serving.client import PolicyClient

BUMP = FailureEvent("collision", 3, {"how": "pressed", "on": "table", "force_n": 21.5}, recovered_at=9)
SLIP = FailureEvent("grasp_slip", 12, {"how": "slipped", "lift_m": 0.05})


class FumblingRobot(PointRobot):
    """Bumps into the table at step 3 of every episode and drops what it carries at step 12 of "left" ones."""

    def __init__(self, max_steps: int = 25) -> None:
        super().__init__(max_steps=max_steps)

    def act(self, action: NDArray[np.float32]) -> Status:
        return self._told(super().act(action))

    def hold(self) -> Status:
        return self._told(super().hold())

    def _told(self, status: Status) -> Status:
        drops = self._task == "left"
        events = tuple(event for event in (BUMP, SLIP)[: 1 + drops] if status.step > event.step)
        success = bool(status.success) and not drops
        done = success or status.step >= self.spec.max_steps
        return Status(status.step, done, success, "grasp_slip" if done and not success else None, events)


def open_fumbling(sim: str) -> FumblingRobot:
    return FumblingRobot()


def open_exact_policy(bundle: str) -> PointPolicy:
    return PointPolicy()


def kept(path: Path) -> list[tuple[int, str, dict]]:
    events = [event for event in read_episode(path).events if event.kind.startswith("failure.")]
    return [(event.step, event.kind, dict(event.data)) for event in events]


def test_evaluate_counts_leading_labels_and_records_all_that_happened(tmp_path: Path) -> None:
    tasks = ("left", "right")
    result = evaluate(
        "point", "sim:point", tasks, 4, 1, 2, tmp_path, make_robot=open_fumbling, make_policy=open_exact_policy
    )
    assert result["successes"] == 2
    assert result["failure_labels"] == {"grasp_slip": 2}
    assert [row["failure_labels"] for row in result["tasks"]] == [{"grasp_slip": 2}, {}]
    assert [row["failure_label"] for row in result["rows"]] == ["grasp_slip", None, "grasp_slip", None]
    assert [[event["label"] for event in row["failure_events"]] for row in result["rows"]] == [
        ["collision", "grasp_slip"],
        ["collision"],
    ] * 2
    rows = EpisodeIndex(tmp_path).episodes()
    assert sorted((row.task, row.label) for row in rows if row.label) == [("left", "grasp_slip")] * 2
    assert [row.label for row in rows if row.task == "right"] == [None, None]
    for row in rows:
        both = [BUMP.record(), SLIP.record()]
        assert kept(tmp_path / row.file) == both[: 1 + (row.task == "left")]


def test_a_summary_of_no_episodes_has_no_labels() -> None:
    result = evaluate(
        "point", "sim:point", ("left", "right"), 1, 1, 1, make_robot=open_fumbling, make_policy=open_exact_policy
    )
    assert [row["failure_labels"] for row in result["tasks"]] == [{"grasp_slip": 1}, {}]


def test_the_daemon_tells_the_label_to_the_file_the_report_and_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    client = ScriptedClient(clock, lambda step: 0.01)
    told: list[tuple[str, str | None, str]] = []
    monkeypatch.setattr(client, "end_episode", lambda *ending: told.append(ending))
    report = RunReport()
    with EpisodeRecorder(tmp_path) as recorder:
        daemon = Daemon(
            FumblingRobot(), as_client(client), recorder, DaemonSettings(), report=report, now=clock.now,
            sleep=clock.sleep,
        )  # fmt: skip
        daemon.run(1, 1, ["left"])
    (result,) = report.results
    assert (result.outcome, result.failure_label) == ("failure", "grasp_slip")
    assert told == [("failure", "grasp_slip", "sim")]
    assert report.to_dict()["failure_labels"] == {"grasp_slip": 1}
    assert report.to_dict()["rows"][0]["failure_label"] == "grasp_slip"
    assert read_episode(result.path).label == "grasp_slip"
    assert kept(result.path) == [BUMP.record(), SLIP.record()]
    listed = CliRunner().invoke(app, ["episodes", "list", str(tmp_path)], env={"COLUMNS": "200"})
    assert "grasp_slip" in listed.output
    shown = CliRunner().invoke(app, ["episodes", "show", str(result.path)], env={"COLUMNS": "200"})
    assert "failure.collision" in shown.output


def test_an_episode_that_is_stopped_keeps_what_happened_and_has_no_label(tmp_path: Path) -> None:
    clock, robot = Clock(), FumblingRobot()
    client = ScriptedClient(clock, lambda step: 0.01)
    report = RunReport()
    with EpisodeRecorder(tmp_path) as recorder:
        daemon = Daemon(
            robot, as_client(client), recorder, DaemonSettings(), report=report, now=clock.now, sleep=clock.sleep,
            stopped=lambda: len(robot.commands) >= 6,
        )  # fmt: skip
        daemon.run(1, 1, ["left"])
    (result,) = report.results
    assert (result.outcome, result.failure_label) == ("abort", None)
    assert report.to_dict()["failure_labels"] == {}
    assert kept(result.path) == [BUMP.record()]


def as_client(client: ScriptedClient) -> PolicyClient:
    return client  # type: ignore[return-value]
