"""`flexor run --operator` as a real process in a terminal of its own, with a real server and the tabletop."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.inference.bundle import Bundle

FLEXOR = [sys.executable, "-m", "flexor.cli.main"]
CAMERAS = ("agentview", "robot0_eye_in_hand")
PATIENCE_S = 120.0  # processes that import torch and MuJoCo, on a machine that may be busy
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "TERM": "xterm"}
pytestmark = pytest.mark.timeout(300)


class Seat:
    """A terminal, `flexor run --operator` in its foreground, and a person who types and reads."""

    def __init__(self, address: str, log: Path) -> None:
        self.log = log
        self._person, self.terminal = pty.openpty()
        self.before = termios.tcgetattr(self.terminal)
        self._printed = b""
        options = ["--episodes", "3", "--log", str(log), "connect_timeout_s=120", "hold_limit_s=30"]
        terminal = self.terminal
        self.process = subprocess.Popen(
            [*FLEXOR, "run", "--operator", "--server", address, *options],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=ENVIRONMENT,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(terminal, termios.TIOCSCTTY, 0),
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while came := os.read(self._person, 65536):
                self._printed += came

    def type(self, keys: str) -> None:
        os.write(self._person, keys.encode())

    def reads(self, words: str) -> bool:
        return words.encode() in self._printed

    def look_away(self) -> None:
        """What was printed so far is read no more."""
        self._printed = b""

    def playing(self) -> bool:
        """Whether an open episode has some frames on disk."""
        return any(part.stat().st_size > 30_000 for part in self.log.glob("episodes/*.part"))

    def wait_until(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, f"it ended while waiting for {what}: {self._printed[-2000:]!r}"
            assert time.monotonic() < deadline, (what, self._printed[-2000:])
            time.sleep(0.02)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        os.close(self.terminal)


@pytest.fixture(scope="module")
def address(make_bundle: Callable[..., Bundle]) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="fx") as folder:
        address = f"ipc://{folder}/policy.sock"
        bundle = str(make_bundle(cameras=CAMERAS).path)
        server = subprocess.Popen([*FLEXOR, "serve", bundle, "--bind", address], env=ENVIRONMENT)
        yield address
        server.kill()
        server.wait(PATIENCE_S)


@pytest.fixture
def seat(address: str, tmp_path: Path) -> Iterator[Seat]:
    seat = Seat(address, tmp_path / "log")
    yield seat
    seat.close()


def test_a_person_takes_over_says_success_and_gets_the_terminal_back_when_the_run_is_killed_politely(seat: Seat):
    seat.wait_until("the help", lambda: seat.reads("t: take over, hand back"))
    seat.wait_until("the question", lambda: seat.reads("ready?"))
    assert not termios.tcgetattr(seat.terminal)[3] & (termios.ICANON | termios.ECHO)
    seat.type("\r")
    seat.wait_until("an episode", seat.playing)
    seat.type("t")
    seat.wait_until("who drives", lambda: seat.reads(" operator "))
    seat.type("w" * 3 + "g")
    time.sleep(1.0)  # some steps more of the person's
    seat.type("y")
    seat.wait_until("the first file", lambda: any(seat.log.glob("episodes/*.mcap")))
    seat.look_away()
    seat.wait_until("the question", lambda: seat.reads("ready?"))
    seat.type("\r")
    seat.wait_until("a second episode", seat.playing)
    seat.process.send_signal(signal.SIGTERM)
    assert seat.process.wait(PATIENCE_S) == 130
    assert termios.tcgetattr(seat.terminal) == seat.before

    rows = EpisodeIndex(seat.log).episodes()
    assert [(row.outcome, row.source) for row in rows] == [("success", "operator"), ("abort", "recorder")]
    episode = read_episode(seat.log / rows[0].file)
    mine = episode.interventions
    assert (episode.outcome, episode.source) == ("success", "operator")
    assert rows[0].interventions == int(mine.sum()) > 5
    assert episode.labels[mine, 0].max() == np.float32(0.2)  # forward
    assert len(set(episode.labels[mine, 6].tolist())) == 2  # the gripper was told to change
    told = np.flatnonzero(
        mine & (episode.labels[:, :6] != 0).any(axis=1)
    )  # frames are of steps at which a key was held
    assert any(mine[step] and told[0] <= step <= told[-1] + 1 for step in episode.frames[CAMERAS[0]])


def test_a_lost_connection_ends_the_episode_as_an_abort_and_leaves_a_whole_file(seat: Seat):
    seat.wait_until("the question", lambda: seat.reads("ready?"))
    seat.type("\r")
    seat.wait_until("an episode", seat.playing)
    os.kill(seat.process.pid, signal.SIGHUP)  # what the kernel sends when ssh is gone
    assert seat.process.wait(PATIENCE_S) == 130
    assert termios.tcgetattr(seat.terminal) == seat.before
    assert not list(seat.log.glob("**/*.part"))
    assert [(row.outcome, row.source) for row in EpisodeIndex(seat.log).episodes()] == [("abort", "recorder")]


def test_without_a_terminal_and_a_gamepad_the_run_is_refused_before_anything_is_opened(tmp_path: Path):
    run = subprocess.run(
        [*FLEXOR, "run", "--operator", "--log", str(tmp_path / "log")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert run.returncode == 1
    assert "standard input is no terminal; run it in one (`ssh -t`), or give --gamepad /dev/input/jsN" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "log").exists()
