"""The folder: nothing of the user's is overwritten, nothing is mixed, and what does not fit is not begun."""

from __future__ import annotations

import fcntl
import shutil
from dataclasses import replace

import pytest

from flexor.export.download.bucket import Bucket
from flexor.export.download.folder import SPARE_BYTES, DownloadFolder
from flexor.export.download.hugging_face import HuggingFaceRepo
from flexor.export.download.remote_file import DownloadError
from flexor.export.download.web import Patience

MODEL = "model.safetensors"


def test_a_file_of_the_users_is_not_overwritten(server, fetch, contents, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("mine")
    with pytest.raises(DownloadError, match=r"config.json is there and is not the file of hf:lerobot/tiny"):
        fetch()
    assert contents()["config.json"] == b"mine" and MODEL not in contents()
    assert not server.asked


def test_files_that_were_brought_by_hand_are_kept(server, fetch, contents, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / MODEL).write_bytes(server.files[MODEL])
    (tmp_path / "out" / "notes.txt").write_text("mine too")
    outcome = fetch()
    assert contents() == server.files | {"notes.txt": b"mine too"}
    assert {file.path: file.state for file in outcome.files}[MODEL] == "kept"
    assert MODEL not in server.sent


def test_another_revision_does_not_mix_with_what_is_there(server, fetch, contents):
    server.drops[MODEL] = [100_000]
    with pytest.raises(DownloadError):
        fetch(patience=Patience(5, 1))
    server.info = {"sha": "c" * 40}
    with pytest.raises(DownloadError, match=f"`flexor download hf:lerobot/tiny@{'a' * 40} --out .*` goes on with it"):
        fetch()
    server.info = {}
    server.drops.clear()
    fetch(f"hf:lerobot/tiny@{'a' * 40}")
    assert contents() == server.files


def test_another_source_does_not_mix_with_what_is_there(server, fetch):
    fetch()
    with pytest.raises(DownloadError, match="holds hf:lerobot/tiny"):
        fetch("gs://assets/config.json")


def test_more_files_of_the_same_may_follow(server, fetch, contents):
    fetch(include=["config.json"])
    outcome = fetch()
    assert contents() == server.files
    assert {file.path: file.state for file in outcome.files}["config.json"] == "kept"


def test_what_does_not_fit_is_not_begun(server, fetch, tmp_path):
    server.info = {"siblings": [{"rfilename": "huge.bin", "size": 10**18, "blobId": "0" * 40}]}
    with pytest.raises(DownloadError, match=r"needs 1000000000.00 GB more .* nothing was changed: make room"):
        fetch()
    assert not server.asked and not (tmp_path / "out").exists()


def test_what_is_there_of_a_file_needs_no_room_again(server, fetch, tmp_path, monkeypatch):
    server.drops[MODEL] = [200_000]
    with pytest.raises(DownloadError):
        fetch(patience=Patience(5, 1))
    server.drops.clear()
    left = sum(map(len, server.files.values())) - sum(server.sent.values())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=SPARE_BYTES + left - 1))
    with pytest.raises(DownloadError, match="make room"):
        fetch()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=SPARE_BYTES + left))
    fetch()


def test_two_processes_do_not_fill_one_folder(server, fetch, tmp_path):
    work = tmp_path / "out" / ".flexor-download"
    work.mkdir(parents=True)
    with (work / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match="another process downloads into"):
            fetch()
    fetch()


@pytest.mark.parametrize("note", ["", "[]", '{"source": 1}', "\0"])
def test_a_spoilt_note_is_named(fetch, tmp_path, note):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "flexor-download.json").write_text(note)
    with pytest.raises(DownloadError, match="cannot be read"):
        fetch()


def test_a_place_that_cannot_be_written_is_named(server, fetch, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DownloadError, match=r"cannot be (read|written)"):
        fetch()
    assert (tmp_path / "out").read_text() == "a file" and not server.asked


def test_a_file_in_the_way_of_a_folder_is_named(server, fetch, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "assets").write_text("a file")
    with pytest.raises(DownloadError, match="cannot be read or written"):
        fetch()
    assert (tmp_path / "out" / "assets").read_text() == "a file"


def test_an_attempt_that_brought_nothing_leaves_nothing(server, fetch, tmp_path):
    server.statuses = {"config.json": [404]}
    with pytest.raises(DownloadError, match="no repository"):
        fetch()
    assert not (tmp_path / "out").exists()


def test_a_bucket_that_changed_has_another_revision(server):
    repo, place = HuggingFaceRepo("lerobot/tiny", endpoint=server.url), Bucket("assets", "config.json", server.url)
    web = place.web(Patience(5, 1))
    first = place.listing(web)
    assert place.listing(web) == replace(first, explain=place.listing(web).explain)
    server.files["config.json"] = b"changed"
    assert place.listing(web).revision != first.revision
    assert repo.pinned("x") == "hf:lerobot/tiny@x" and "@" not in place.pinned(first.revision)


def test_a_folder_is_made_with_its_parents_and_left_as_it_was(tmp_path):
    with DownloadFolder(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
