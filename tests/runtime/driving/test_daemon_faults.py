"""The loop of real processes, hurt at random moments: nothing finished is lost, every request ends, the arm is safe."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fault_tally import Tally
from point_daemon import SETTINGS, PointDaemon
from point_server import PointServer
from point_world import HORIZON
from telling_process import PATIENCE_S

from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.episode_check import check_root, repair

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
AN_EPISODE_S = 1.2  # so that with what is left of its chunk the point does not reach its goal


@pytest.fixture
def server() -> Iterator[PointServer]:
    with PointServer() as server:
        yield server


@pytest.fixture
def impatient() -> Iterator[PointServer]:
    """A server that soon forgets a session which says nothing."""
    with PointServer("--idle-limit-s", 3.0) as server:
        yield server


def whole(log: Path) -> set[str]:
    """The episodes on disk that read, and whose index row says what they hold."""
    found = check_root(log)
    wrong = {Path(problem.file).name for problem in found.problems}
    return {path.name for path in (log / "episodes").glob("*.mcap")} - wrong


def settle(tally: Tally, daemon: PointDaemon, log: Path, replies: bool = True) -> list[str]:
    """Count what a daemon that is over told, and return how its episodes ended."""
    if replies:
        tally.count_replies((line["id"] for line in daemon.told("ask")), (line["id"] for line in daemon.told("end")))
    finished = daemon.told("finished")
    tally.count_episodes((Path(line["path"]).name for line in finished), whole(log))
    tally.count_commands(len(daemon.told("act")) + len(daemon.told("hold")), len(daemon.unsafe()))
    return [line["outcome"] for line in finished]


def last_command(daemon: PointDaemon) -> str:
    return next(line["what"] for line in reversed(daemon.lines) if line["what"] in ("act", "hold"))


@pytest.mark.fault(
    "server killed (kill -9) in mid-episode, restarted",
    "the arm plays the rest of its chunk and holds; the episode ends as an abort, the next one has the new server",
)
def test_server_killed(tally: Tally, server: PointServer, tmp_path: Path) -> None:
    with PointDaemon(server.address, tmp_path, "--episodes", 3, "--seed", tally.attempt) as daemon:
        daemon.wait_for("act")
        time.sleep(tally.chance.uniform(0.0, AN_EPISODE_S))
        server.kill()
        killed = time.monotonic()
        daemon.wait_for("finished")
        server.start()
        assert daemon.wait() == 0
    outcomes = settle(tally, daemon, tmp_path)
    assert outcomes == ["abort", "success", "success"]
    assert daemon.moves_after(killed) <= HORIZON
    assert daemon.told("hold")


@pytest.mark.fault(
    "server frozen in mid-episode, then goes on",
    "no action of a chunk that is too late is played; a long freeze is an abort, the next episode succeeds",
)
def test_server_frozen(tally: Tally, server: PointServer, tmp_path: Path) -> None:
    with PointDaemon(server.address, tmp_path, "--seed", tally.attempt) as daemon:
        daemon.wait_for("act")
        time.sleep(tally.chance.uniform(0.0, AN_EPISODE_S))
        server.signal(signal.SIGSTOP)
        frozen = time.monotonic()
        time.sleep(tally.chance.uniform(0.1, 2.5 * SETTINGS.hold_limit_s))
        moves = daemon.moves_after(frozen)
        server.signal(signal.SIGCONT)
        assert daemon.wait() == 0
    outcomes = settle(tally, daemon, tmp_path)
    assert moves <= HORIZON
    assert len(outcomes) == 2 and outcomes[0] in ("success", "abort") and outcomes[1] == "success"
    assert server.settled()["episodes"].get("success", 0) == outcomes.count("success")


@pytest.mark.fault(
    "daemon killed (kill -9) in mid-episode",
    "finished episodes stay, the open one is recovered up to its last step; the server forgets the session in time "
    "and serves the next daemon",
)
def test_daemon_killed(tally: Tally, impatient: PointServer, tmp_path: Path) -> None:
    server = impatient
    with PointDaemon(server.address, tmp_path, "--episodes", 5, "--seed", tally.attempt) as daemon:
        daemon.wait_for("act")
        time.sleep(tally.chance.uniform(0.0, 6 * AN_EPISODE_S))
        daemon.signal(signal.SIGKILL)
        daemon.wait()
    for problem in check_root(tmp_path).problems:
        assert problem.kind in ("unfinished", "unlisted")
        repair(tmp_path, problem)
    settle(tally, daemon, tmp_path, replies=False)
    assert check_root(tmp_path).problems == ()
    since = max((n for n, line in enumerate(daemon.lines) if line["what"] == "finished"), default=-1) + 1
    played = [line["action"] for line in daemon.lines[since:] if line["what"] == "act"]
    if played:
        (kept,) = (e for e in map(read_episode, (tmp_path / "episodes").glob("*.mcap")) if e.recovered)
        assert len(kept.actions) >= len(played)  # it is recorded before it is played
        np.testing.assert_array_equal(kept.actions[: len(played)], np.asarray(played, np.float32))

    with PointDaemon(server.address, tmp_path, "--episodes", 1, "--seed", 100) as other:
        assert other.wait() == 0
    assert settle(tally, other, tmp_path) == ["success"]
    deadline = time.monotonic() + PATIENCE_S
    while not (stats := server.settled())["episodes"].get("unknown"):
        assert time.monotonic() < deadline, stats
        time.sleep(0.1)
    done = len(daemon.told("finished")) + 1
    assert stats["episodes"]["success"] in (done, done + 1)  # its last words may have reached the server alone


@pytest.mark.fault(
    "the daemon's wall clock and the server's jump back and ahead",
    "nobody notices: all deadlines are the monotonic clock's",
)
def test_clock_set_back(tally: Tally, tmp_path: Path) -> None:
    with (
        PointServer("--clock-back") as server,
        PointDaemon(server.address, tmp_path, "--seed", tally.attempt, "--clock-back") as daemon,
    ):
        assert daemon.wait() == 0
    assert settle(tally, daemon, tmp_path) == ["success", "success"]
    for name in whole(tmp_path):
        assert 0.0 < read_episode(tmp_path / "episodes" / name).duration_s < 60.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
@pytest.mark.fault(
    "Ctrl-C, or a polite kill, in mid-episode",
    "the arm is held, the episode ends as an abort on disk, the server is told",
)
def test_daemon_stopped(tally: Tally, number: signal.Signals, server: PointServer, tmp_path: Path) -> None:
    with PointDaemon(server.address, tmp_path, "--episodes", 5, "--seed", tally.attempt) as daemon:
        daemon.wait_for("act")
        time.sleep(tally.chance.uniform(0.0, 2 * AN_EPISODE_S))
        daemon.signal(number)
        assert daemon.wait() == 130
    outcomes = settle(tally, daemon, tmp_path)
    assert set(outcomes[:-1]) <= {"success"}
    assert outcomes[-1] in ("abort", "success")  # it may come between two episodes
    assert last_command(daemon) == "hold" or outcomes[-1] == "success"
    told = server.settled()["episodes"]
    assert told == {outcome: outcomes.count(outcome) for outcome in set(outcomes)}


@pytest.mark.fault(
    "the robot raises in mid-episode",
    "the arm is told to hold, what was played is on disk as an abort, the server is told at once",
)
def test_robot_breaks(tally: Tally, server: PointServer, tmp_path: Path) -> None:
    breaks_at = tally.chance.randrange(30)
    with PointDaemon(server.address, tmp_path, "--seed", tally.attempt, "--breaks-at", breaks_at) as daemon:
        assert daemon.wait() == 0
    assert [line["message"] for line in daemon.told("error")] == ["the arm does not answer"]
    assert settle(tally, daemon, tmp_path) == ["abort"]
    assert last_command(daemon) == "hold"
    assert server.settled()["episodes"] == {"abort": 1}
    (name,) = whole(tmp_path)
    kept = read_episode(tmp_path / "episodes" / name)
    assert len(kept.steps) == breaks_at + 1  # what broke the robot was recorded before


class SmallTmpfs:
    """A tmpfs at a folder, for the process that holds it and those that `enter` leads there."""

    def __init__(self, at: Path, kilobytes: int) -> None:
        at.mkdir()
        mount = f"mount -t tmpfs -o size={kilobytes}k tmpfs '{at}' && echo mounted && exec sleep 600"
        hold = ["unshare", "-Urm", "sh", "-c", mount]
        self._holder = subprocess.Popen(hold, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.enter = ["nsenter", "-t", str(self._holder.pid), "-U", "-m", "--preserve-credentials"]
        self.seen_from_here = Path(f"/proc/{self._holder.pid}/root{at}")

    def __enter__(self) -> SmallTmpfs:
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "mounted\n":
            self._holder.kill()
            _, said = self._holder.communicate(timeout=PATIENCE_S)
            pytest.skip(
                f"no tmpfs of one's own here ({said.strip()}): the kernel may forbid unprivileged user namespaces, as "
                "Ubuntu 24.04's AppArmor rule and many containers do; test_file_cannot_grow tries the same fault"
            )
        return self

    def __exit__(self, *error: object) -> None:
        self._holder.kill()
        self._holder.communicate(timeout=PATIENCE_S)


def after_a_full_disk(tally: Tally, daemon: PointDaemon, log: Path, server: PointServer) -> None:
    (error,) = daemon.told("error")
    assert "cannot write episode" in error["message"] or "index.sqlite" in error["message"], error
    assert last_command(daemon) == "hold"
    for problem in check_root(log).problems:
        assert problem.kind in ("unfinished", "unlisted"), problem
        repair(log, problem)
    assert check_root(log).problems == ()
    outcomes = settle(tally, daemon, log)
    assert set(outcomes) <= {"success"}
    counted = server.settled()["episodes"]
    assert (counted.get("success", 0), counted.get("abort")) == (len(outcomes), 1)
    kept = [read_episode(path) for path in (log / "episodes").glob("*.mcap")]
    assert sum(len(episode.steps) for episode in kept) >= len(daemon.told("act"))


@pytest.mark.fault(
    "the file of an episode may not grow any more (a size limit)",
    "the arm is held, the run ends with the name of the file, the server is told; what was played is recovered",
)
def test_file_cannot_grow(tally: Tally, server: PointServer, tmp_path: Path) -> None:
    limit = tally.chance.randrange(12_000, 40_000)
    with PointDaemon(server.address, tmp_path, "--seed", tally.attempt, "--file-bytes", limit) as daemon:
        assert daemon.wait() == 0
    after_a_full_disk(tally, daemon, tmp_path, server)


@pytest.mark.fault(
    "the disk is full (a small tmpfs)",
    "the same; finished episodes are whole",
)
def test_disk_full(tally: Tally, server: PointServer, tmp_path: Path) -> None:
    log, kept = tmp_path / "log", tmp_path / "kept"
    with SmallTmpfs(log, tally.chance.randrange(150, 350)) as disk:
        with PointDaemon(server.address, log, "--episodes", 50, "--seed", tally.attempt, within=disk.enter) as daemon:
            assert daemon.wait() == 0
        shutil.copytree(disk.seen_from_here, kept)
    after_a_full_disk(tally, daemon, kept, server)
