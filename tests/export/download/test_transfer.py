"""A file arrives whole or not at all, whatever the network does, and nothing is sent twice that is there."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flexor.export.download.remote_file import DownloadError
from flexor.export.download.transfer import MOST_BEGINNINGS, MOST_WRONG, WrongContent
from flexor.export.download.web import Patience

MODEL = "model.safetensors"


def test_every_file_arrives_and_is_noted(server, fetch, contents, tmp_path):
    outcome = fetch()
    assert contents() == server.files
    assert outcome.received_bytes == sum(map(len, server.files.values())) == sum(server.sent.values())
    assert {file.state for file in outcome.files} == {"downloaded"}
    note = json.loads((tmp_path / "out" / "flexor-download.json").read_text())
    assert note["source"] == "hf:lerobot/tiny" and note["revision"] == server.commit and note["complete"]
    assert not (tmp_path / "out" / ".flexor-download").exists()


def test_a_second_call_verifies_and_transfers_nothing(server, fetch, contents):
    fetch()
    before = dict(server.sent)
    outcome = fetch()
    assert server.sent == before and outcome.received_bytes == 0
    assert {file.state for file in outcome.files} == {"kept"}


def test_dropped_connections_go_on_where_they_broke_off(server, fetch, contents):
    server.drops[MODEL] = [100_000, 50_000]
    outcome = fetch()
    assert contents() == server.files
    assert outcome.retries == 2
    asked = [request for request in server.asked if request.path == MODEL]
    begins = [int(request.range.removeprefix("bytes=").removesuffix("-")) for request in asked[1:]]
    assert begins == sorted(begins) and begins[0] > 0
    etag = f'"{hashlib.sha256(server.files[MODEL]).hexdigest()}"'
    assert [request.if_range for request in asked] == [None, etag, etag]
    assert outcome.received_bytes == sum(map(len, server.files.values()))


def test_kill_9_in_the_middle_costs_nothing_that_was_there(server, contents, tmp_path):
    server.holds[MODEL] = 200_000
    command = [sys.executable, "-m", "flexor", "download", "hf:lerobot/tiny", "--out", str(tmp_path / "out")]
    environ = {**os.environ, **server.environ}
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            assert server.held.wait(60)
            held = server.sent[MODEL]
            part = next(iter_parts(tmp_path), None)
            for _ in range(600):  # what was sent is on its way to the disk
                if part is not None and part.stat().st_size == held:
                    break
                server.release.wait(0.05)
                part = next(iter_parts(tmp_path), None)
            assert part is not None and part.stat().st_size == held
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    assert MODEL not in contents()
    server.holds.clear()
    server.release.set()
    server.sent.clear()
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert contents() == server.files
    assert server.sent[MODEL] == len(server.files[MODEL]) - held
    assert "resumed" in done.stdout


def iter_parts(folder: Path):
    return (folder / "out" / ".flexor-download").glob("*.part")


def broken_off(server, fetch) -> None:
    """One call that ends with the first half of the model on disk."""
    server.drops[MODEL] = [160_000]
    server.statuses[MODEL] = []
    with pytest.raises(DownloadError, match="the same command goes on from there"):
        fetch(patience=Patience(5, 1, 0.01, 0.05))
    server.drops.clear()


def test_a_changed_etag_begins_the_file_again(server, fetch, contents):
    broken_off(server, fetch)
    server.etags[MODEL] = '"another"'
    server.sent.clear()
    outcome = fetch()
    assert contents() == server.files
    assert server.sent[MODEL] == len(server.files[MODEL])
    assert {file.path: file.state for file in outcome.files}[MODEL] == "downloaded"


def test_a_changed_etag_is_seen_where_the_server_does_not_mind_if_range(server, fetch, contents):
    broken_off(server, fetch)
    server.etags[MODEL] = '"another"'
    server.if_range = False
    server.asked.clear()
    outcome = fetch()
    assert contents() == server.files
    assert [bool(request.range) for request in server.asked if request.path == MODEL] == [True, False]
    assert {file.path: file.state for file in outcome.files}[MODEL] == "downloaded"


@pytest.mark.parametrize("shift", [-1000, 1000])
def test_another_range_than_asked_for_is_not_appended(server, fetch, contents, shift):
    broken_off(server, fetch)
    server.shift = shift
    fetch()
    assert contents() == server.files
    assert [bool(request.range) for request in server.asked if request.path == MODEL] == [False, True, False]


def test_a_server_without_ranges_sends_all_again(server, fetch, contents):
    broken_off(server, fetch)
    server.ranges = False
    fetch()
    assert contents() == server.files


def test_a_server_without_ranges_that_keeps_breaking_off_is_given_up(server, fetch):
    server.ranges = False
    server.drops[MODEL] = [250_000] * 100
    with pytest.raises(DownloadError, match=r"broke off|ended after"):
        fetch(patience=Patience(5, 50, 0.01, 0.05))
    assert len([request for request in server.asked if request.path == MODEL]) == MOST_BEGINNINGS


def test_bytes_of_another_commit_are_not_gone_on_with(server, fetch, contents, tmp_path):
    broken_off(server, fetch)
    (tmp_path / "out" / "flexor-download.json").unlink()
    server.files[MODEL] = bytes(reversed(server.files[MODEL]))
    server.asked.clear()
    fetch()
    assert contents() == server.files
    assert [request.range for request in server.asked if request.path == MODEL] == [None]


def test_a_part_that_rotted_on_disk_is_begun_again(server, fetch, contents, tmp_path):
    broken_off(server, fetch)
    part = next(iter_parts(tmp_path))
    part.write_bytes(bytes(part.stat().st_size))
    fetch()
    assert contents() == server.files


def test_wrong_bytes_are_refused_and_nothing_of_them_is_kept(server, fetch, contents):
    server.listed[MODEL] = bytes(len(server.files[MODEL]))
    with pytest.raises(WrongContent, match="sha256"):
        fetch()
    assert not [path for path in contents() if MODEL in path or path.endswith(".part")]
    assert server.sent[MODEL] == MOST_WRONG * len(server.files[MODEL])


def test_wrong_bytes_of_a_small_file_are_found_by_its_git_hash(server, fetch, contents):
    server.listed["config.json"] = b'{"type": "pi0X"}\n'
    with pytest.raises(WrongContent, match="git-sha1"):
        fetch()
    assert "config.json" not in contents()


@pytest.mark.parametrize("length", [299_999, 300_001])
def test_another_length_than_listed_is_refused_before_it_comes(server, fetch, contents, length):
    server.listed[MODEL] = bytes(length)
    with pytest.raises(WrongContent, match="the server has 300000 bytes"):
        fetch()
    assert MODEL not in contents()


def test_a_truncated_answer_that_never_gets_further_is_given_up(server, fetch):
    server.drops[MODEL] = [0] * 100
    with pytest.raises(DownloadError, match="1 of 4 files are whole"):
        fetch()
    assert len([request for request in server.asked if request.path == MODEL]) == 3


@pytest.mark.parametrize("status", [500, 502, 503, 504, (429, 0), (503, 3600)])
def test_a_status_that_passes_is_tried_again(server, fetch, contents, status):
    server.statuses = {"hub": [status], MODEL: [status, status]}
    outcome = fetch()
    assert contents() == server.files and outcome.retries == 3


def test_a_status_that_stays_is_given_up(server, fetch):
    server.statuses = {MODEL: [503] * 100}
    with pytest.raises(DownloadError, match=r"answers 503.*1 of 4 files are whole"):
        fetch()
    assert len([request for request in server.asked if request.path == MODEL]) == 3


def test_a_server_that_says_nothing_more_is_not_waited_for(server, fetch):
    server.holds[MODEL] = 8192
    with pytest.raises(DownloadError, match="timed out"):
        fetch(patience=Patience(0.3, 2, 0.01, 0.05))
    assert len([request for request in server.asked if request.path == MODEL]) == 2


def test_a_server_that_drips_is_not_waited_for(server, fetch):
    server.drips.add(MODEL)
    with pytest.raises(DownloadError, match="less than 1024 bytes a second"):
        fetch(patience=Patience(0.3, 2, 0.01, 0.05))
    assert len([request for request in server.asked if request.path == MODEL]) == 2


def test_a_disk_that_takes_no_more_is_told_and_the_part_stays(server, tmp_path):
    """RLIMIT_FSIZE is a real disk that refuses: no file may become longer than 200 kB."""
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));"
        "from flexor.cli.main import main; sys.argv[0] = 'flexor'; main()"
    )
    arguments = ["download", "hf:lerobot/tiny", "--out", str(tmp_path / "out")]
    environ = {**os.environ, **server.environ}
    full = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environ, capture_output=True, text=True, timeout=100
    )
    assert full.returncode == 1 and "File too large" in full.stderr and "make room" in full.stderr, full.stderr
    assert "Traceback" not in full.stderr
    server.sent.clear()
    again = subprocess.run(
        [sys.executable, "-m", "flexor", *arguments], env=environ, capture_output=True, text=True, timeout=100
    )
    assert again.returncode == 0, again.stderr
    assert server.sent[MODEL] <= len(server.files[MODEL]) - 100_000
