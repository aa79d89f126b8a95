"""`flexor run` as a real process, with a real server, the tabletop, and signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.inference.bundle import Bundle

FLEXOR = [sys.executable, "-m", "flexor.cli.main"]
CAMERAS = ("agentview", "robot0_eye_in_hand")
PATIENCE_S = 120.0  # processes that import torch and MuJoCo, on a machine that may be busy
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def bundle(make_bundle: Callable[..., Bundle]) -> str:
    return str(make_bundle(cameras=CAMERAS).path)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder with a short name, for sockets; whatever still mentions it at the end is killed."""
    with tempfile.TemporaryDirectory(prefix="fx") as folder:
        yield Path(folder)
        for pid in processes(Path(folder)):
            os.kill(pid, signal.SIGKILL)


def processes(folder: Path) -> list[int]:
    """Living processes that have `folder` in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if str(folder).encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended while we looked
    return found


def start(scratch: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.Popen(
        [*FLEXOR, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def wait_until(what: str, condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, f"it ended while waiting for {what}: {process.communicate()}"
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def is_playing(log: Path) -> bool:
    """Whether an open episode has some frames on disk."""
    return any(part.stat().st_size > 30_000 for part in log.glob("episodes/*.part"))


def test_a_server_killed_under_flexor_run_ends_it_with_code_1_a_message_and_the_episode_as_an_abort(bundle, scratch):
    address, log = f"ipc://{scratch}/policy.sock", scratch / "log"
    server = start(scratch, "serve", bundle, "--bind", address)
    options = ["--log", str(log), "--json", str(scratch / "run.json"), "hold_limit_s=3", "connect_timeout_s=120"]
    run = start(scratch, "run", "--server", address, *options)
    wait_until("an episode to play", lambda: is_playing(log), run)
    server.kill()
    server.communicate(timeout=PATIENCE_S)
    printed, errors = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 1
    assert "error: 1 of 1 episodes aborted" in errors
    assert "did not answer for 3 s, the arm is held" in errors
    assert "Traceback" not in errors
    assert "abort" in printed
    rows = EpisodeIndex(log).episodes()
    assert [row.outcome for row in rows] == ["abort"]
    told = json.loads((scratch / "run.json").read_text())
    assert (told["episodes"], told["aborted"], told["success_rate"]) == (1, 1, 0.0)
    assert told["holds"] > 0
    assert told["env"]["python"]
    assert read_episode(Path(told["rows"][0]["path"])).outcome == "abort"


def test_flexor_run_without_a_server_says_how_to_start_one(scratch):
    run = start(
        scratch,
        "run",
        "--server",
        f"ipc://{scratch}/policy.sock",
        "--log",
        str(scratch / "log"),
        "connect_timeout_s=0.5",
    )
    _, errors = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 1
    assert "no policy server is ready" in errors
    assert "flexor serve" in errors
    assert "Traceback" not in errors


def test_ctrl_c_before_the_first_episode_ends_with_130_also_when_a_picture_was_asked_for(scratch):
    """The server takes the connection and says nothing, so the run waits for it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(f"{scratch}/policy.sock")
        silent.listen()
        silent.settimeout(PATIENCE_S)
        options = ["--log", str(scratch / "log"), "--gif", str(scratch / "x.gif"), "connect_timeout_s=120"]
        run = start(scratch, "run", "--server", f"ipc://{scratch}/policy.sock", *options)
        silent.accept()[0].close()
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=PATIENCE_S)
    assert (run.returncode, errors) == (130, "")


def test_unknown_settings_and_tasks_are_refused_by_name(scratch):
    run = start(scratch, "run", "hold_limits=1")
    _, errors = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 1
    assert "hold_limits" in errors
    assert "hold_limit_s" in errors
    run = start(
        scratch, "run", "--task", "juggle", "--server", f"ipc://{scratch}/p.sock", "--log", str(scratch / "log")
    )
    _, errors = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 1
    assert "robot sim:tabletop has no task juggle; its tasks are" in errors
    assert "red_block_on_plate" in errors
