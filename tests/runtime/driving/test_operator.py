"""A person at keys or a gamepad: what they press is what the arm does, and how the episode ends is their word."""

from __future__ import annotations

import os
import pty
import struct
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from point_world import POINT_SPEC
from scripted_client import PERIOD, Clock, ScriptedClient, TimedRobot

from flexor.errors import FlexorError
from flexor.runtime.driving.daemon import Daemon, DaemonSettings
from flexor.runtime.episodes.episode import Episode, read_episode
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.robot import FailureEvent, Status
from flexor.runtime.teleop.device import OperatorError
from flexor.runtime.teleop.devices import open_devices
from flexor.runtime.teleop.gamepad import Gamepad
from flexor.runtime.teleop.operator import Operator
from flexor.runtime.teleop.operator_settings import GamepadSettings, OperatorSettings
from flexor.runtime.teleop.terminal_keys import TerminalKeys

SETTINGS = OperatorSettings(pulse_s=2 * PERIOD, ready_s=1.0, answer_s=0.5)
BUTTON, AXIS, INIT = 1, 2, 0x80
Story = dict[int, Callable[[], object]]
"""What a person does before which control step; at -1, once the run waits for them."""


class Told(ScriptedClient):
    """Remembers how the server was told of each end."""

    def end_episode(self, outcome: str, label: str | None, source: str) -> None:
        self.ended.append(f"{outcome} by {source}")


class Watched(TimedRobot):
    """Thinks at every step that something went wrong and that it has succeeded; `at[step]` happens before a step."""

    at: Story

    def state(self):
        self.at.pop(self._step, lambda: None)()
        return super().state()

    def hold(self):
        self.at.pop(self._step, lambda: None)()
        return super().hold()

    def _status(self) -> Status:
        return Status(self._step, True, True, None, (FailureEvent("collision", 0, {}),))


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a pseudo terminal: where a person types, and what the daemon has as its standard input."""
    person, daemon = pty.openpty()
    yield person, daemon
    os.close(person)
    os.close(daemon)


def play(root: Path, devices: Any, clock: Clock, at: Story, steps: int = 30) -> tuple[Told, Watched, list[Episode]]:
    client, robot = Told(clock, lambda step: 0.02), Watched(clock, steps)
    robot.at = at
    person = Operator(robot.spec, devices, SETTINGS)
    at.pop(-1, lambda: None)()
    with EpisodeRecorder(root) as recorder:
        daemon = Daemon(
            robot,
            client,  # type: ignore[arg-type]
            recorder,
            DaemonSettings(operator=SETTINGS),
            intervener=person,
            judge=person,
            now=clock.now,
            sleep=clock.sleep,
        )
        report = daemon.run(1, 0, ["left"])
    return client, robot, [read_episode(result.path) for result in report.results]


class Typist:
    """Types into a terminal."""

    def __init__(self, person: int) -> None:
        self._person = person

    def __call__(self, keys: str) -> Callable[[], object]:
        return lambda: os.write(self._person, keys.encode())


def test_keys_drive_the_arm_and_end_the_episode_whatever_the_robot_thinks(tmp_path: Path, terminal: tuple[int, int]):
    clock, typed = Clock(), Typist(terminal[0])
    with TerminalKeys(terminal[1], SETTINGS.pulse_s, clock.now) as keys:
        story = {-1: typed("\r"), 5: typed("t"), 8: typed("w"), 12: typed("gQ"), 15: typed("\x1b[A"), 18: typed("t")}
        client, _, (episode,) = play(tmp_path, [keys], clock, {**story, 24: typed("y")})
    mine = np.flatnonzero(episode.interventions)
    assert mine.tolist() == list(range(5, 18))
    moved = {axis: np.flatnonzero(episode.labels[mine, axis]) + 5 for axis in range(6)}
    assert moved[0].tolist() == [8, 9]  # one pulse forward
    assert moved[2].tolist() == [12, 13]  # capitals are keys, the letters of an arrow key are none
    assert [axis for axis, steps in moved.items() if len(steps)] == [0, 2]
    assert episode.labels[8, 0] == np.float32(0.2)
    shown = {step for frames in episode.frames.values() for step in frames}
    assert shown & set(mine.tolist()) == {9, 13}  # no sample of a moment in which nothing was pressed
    before, after = episode.labels[mine][:7, 6], episode.labels[mine][7:, 6]
    assert set(before) == {1.0} and set(after) == {-1.0}  # as the policy had it, then opened
    assert (episode.outcome, episode.source, episode.label) == ("success", "operator", None)
    assert len(episode.steps) == 25
    assert not [event for event in episode.events if event.kind.startswith("failure")]
    assert [event.data["by"] for event in episode.events if event.kind == "intervention.begin"] == ["operator"]
    assert client.ended == ["failure by operator"]  # the policy was helped
    (row,) = EpisodeIndex(tmp_path).episodes()
    assert (row.outcome, row.source, row.interventions) == ("success", "operator", 13)


@pytest.mark.parametrize(("key", "outcome"), [("n", "failure"), ("x", "abort"), ("y", "success")])
def test_each_verdict_reaches_the_file_the_index_and_the_server(
    tmp_path: Path, terminal: tuple[int, int], key: str, outcome: str
):
    clock, typed = Clock(), Typist(terminal[0])
    with TerminalKeys(terminal[1], SETTINGS.pulse_s, clock.now) as keys:
        client, robot, (episode,) = play(tmp_path, [keys], clock, {-1: typed("\r"), 6: typed(key)})
    assert (episode.outcome, episode.source, len(episode.steps)) == (outcome, "operator", 7)
    assert client.ended == [f"{outcome} by operator"]
    assert robot.commands[-1] is None  # it stands still after that
    assert [(row.outcome, row.source) for row in EpisodeIndex(tmp_path).episodes()] == [(outcome, "operator")]


def test_at_the_step_limit_the_arm_is_held_for_an_answer_and_without_one_nobody_knows(
    tmp_path: Path, terminal: tuple[int, int]
):
    clock, typed = Clock(), Typist(terminal[0])
    with TerminalKeys(terminal[1], SETTINGS.pulse_s, clock.now) as keys:
        _, robot, (episode,) = play(tmp_path / "none", [keys], clock, {-1: typed("\r")}, steps=10)
        assert (episode.outcome, episode.source, len(episode.steps)) == ("unknown", "recorder", 10)
        assert len(robot.commands) >= 20 and not any(
            command is not None for command in robot.commands[10:]
        )  # half a second
        _, _, (episode,) = play(tmp_path / "late", [keys], clock, {-1: typed("\r"), 13: typed("n")}, steps=10)
    assert (episode.outcome, episode.source, len(episode.steps)) == ("failure", "operator", 10)


def test_an_episode_waits_for_the_operator_and_what_was_pressed_before_counts_for_nothing(
    tmp_path: Path, terminal: tuple[int, int]
):
    clock, typed = Clock(), Typist(terminal[0])
    with TerminalKeys(terminal[1], SETTINGS.pulse_s, clock.now) as keys:
        with pytest.raises(FlexorError, match="the operator did not let episode 1 begin within 1 s"):
            play(tmp_path / "alone", [keys], clock, {})
        _, _, (episode,) = play(tmp_path / "there", [keys], clock, {-1: typed("tn\r"), 3: typed("y")})
    assert (episode.outcome, episode.interventions.any()) == ("success", False)


def test_the_terminal_is_as_it_was_after_an_error_in_the_middle_of_an_episode(
    tmp_path: Path, terminal: tuple[int, int]
):
    before, clock = termios.tcgetattr(terminal[1]), Clock()

    def breaks() -> None:
        assert not termios.tcgetattr(terminal[1])[3] & (termios.ICANON | termios.ECHO)
        assert termios.tcgetattr(terminal[1])[3] & termios.ISIG  # Ctrl-C still interrupts
        raise FlexorError("the arm does not answer")

    def run() -> None:
        with open_devices(None, SETTINGS, terminal[1]) as devices:
            play(tmp_path, devices, clock, {-1: Typist(terminal[0])("\r"), 4: breaks})

    with pytest.raises(FlexorError, match="the arm does not answer"):
        run()
    assert termios.tcgetattr(terminal[1]) == before


def test_without_a_terminal_and_a_gamepad_there_is_nobody(tmp_path: Path):
    with (
        (tmp_path / "nothing").open("w+b") as stream,
        pytest.raises(OperatorError, match=r"standard input is no terminal; .*--gamepad /dev/input/js"),
        open_devices(None, SETTINGS, stream.fileno()),
    ):
        pass


def event(value: int, kind: int, number: int) -> bytes:
    return struct.pack("=IhBB", 0, value, kind, number)


def test_a_gamepad_drives_the_arm_and_ends_the_episode(tmp_path: Path):
    """Through a pipe; the buttons that are down at opening are told as INIT and count for nothing."""
    path, clock, numbers = tmp_path / "js0", Clock(), GamepadSettings()
    os.mkfifo(path)
    with Gamepad(path, numbers) as pad:
        descriptor = os.open(path, os.O_WRONLY)

        def send(*events: tuple[int, int, int]) -> Callable[[], object]:
            return lambda: os.write(descriptor, b"".join(event(*told) for told in events))

        begin = [(1, BUTTON | INIT, numbers.abort), (0, AXIS | INIT, numbers.x), (1, BUTTON, numbers.ready)]
        torn = event(-32767, AXIS, numbers.x)
        story = {
            -1: send(*begin),
            4: send((1, BUTTON, numbers.takeover), (0, BUTTON, numbers.takeover)),
            6: lambda: os.write(descriptor, torn[:5]),
            7: lambda: os.write(descriptor, torn[5:]),
            10: send((2000, AXIS, numbers.x), (16383, AXIS, numbers.yaw)),  # the stick rests a little off its middle
            12: send((0, AXIS, numbers.yaw), (1, BUTTON, numbers.gripper), (0, BUTTON, numbers.gripper)),
            15: send((1, BUTTON, numbers.takeover)),
            20: send((1, BUTTON, numbers.failure)),
        }
        _, _, (episode,) = play(tmp_path / "log", [pad], clock, story)
        os.close(descriptor)
        with pytest.raises(OperatorError, match="was closed at its other end"):
            pad.presses()
    assert np.flatnonzero(episode.interventions).tolist() == list(range(4, 15))
    forward, yaw = np.flatnonzero(episode.labels[4:15, 0]) + 4, np.flatnonzero(episode.labels[4:15, 5]) + 4
    assert (forward.tolist(), yaw.tolist()) == ([7, 8, 9], [10, 11])
    assert episode.labels[7, 0] == np.float32(0.2)
    assert episode.labels[10, 5] == pytest.approx(-0.2 * (0.5 - 0.1) / 0.9, abs=1e-4)  # to the right
    assert [episode.labels[step, 6] for step in (11, 12)] == [1.0, -1.0]
    assert (episode.outcome, episode.source) == ("failure", "operator")


def test_what_is_no_joystick_is_named(tmp_path: Path):
    with pytest.raises(OperatorError, match="cannot be opened"), Gamepad(tmp_path / "js0", GamepadSettings()):
        pass
    (tmp_path / "event0").write_bytes(struct.pack("=qqHHi", 1_700_000_000, 5, 3, 0, 127))
    with (
        Gamepad(tmp_path / "event0", GamepadSettings()) as pad,
        pytest.raises(OperatorError, match="give /dev/input/jsN, not /dev/input/eventN"),
    ):
        pad.presses()
    with (
        pytest.raises(OperatorError, match="two things lie on one button"),
        Gamepad(tmp_path / "event0", GamepadSettings(abort=0)),
    ):
        pass


def test_a_person_cannot_drive_another_kind_of_action(terminal: tuple[int, int]):
    fields = {name: getattr(POINT_SPEC, name) for name in type(POINT_SPEC).__dataclass_fields__}
    other = type(POINT_SPEC)(**{**fields, "action_dim": 8})
    with TerminalKeys(terminal[1], 0.1) as keys, pytest.raises(OperatorError, match="has 8 action values"):
        Operator(other, [keys], SETTINGS)
