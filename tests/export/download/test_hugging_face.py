"""The hub: what it lists is checked before anything is written, and its refusals say what to do."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path

import pytest
from checkpoint_server import COMMIT, OLD_REPO, CheckpointServer

from flexor.export.download.download import Download
from flexor.export.download.remote_file import DownloadError
from flexor.export.download.web import _Redirects

MODEL = "model.safetensors"


def test_files_are_taken_at_one_commit(server, fetch, contents):
    server.commit = "b" * 40
    outcome = fetch("hf:lerobot/tiny@main")
    assert outcome.listing.revision == "b" * 40
    assert contents() == server.files  # the server knows no other path than the commit's


def test_a_gated_repository_asks_for_a_token_before_anything_is_written(server, fetch, tmp_path):
    server.gated, server.token, server.info = True, "hf_right", {"gated": "manual"}
    with pytest.raises(DownloadError, match="is gated, and HF_TOKEN is unset: accept its terms at http"):
        fetch()
    assert not server.asked and not (tmp_path / "out").exists()


def test_a_gated_repository_refuses_an_account_without_access(server, fetch, tmp_path):
    server.gated, server.token, server.info = True, "hf_right", {"gated": "manual"}
    with pytest.raises(DownloadError, match="the account of HF_TOKEN has no access to it") as raised:
        fetch(token="hf_wrong")
    assert "hf_wrong" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_gated_repository_opens_for_a_token(server, fetch, contents):
    server.gated, server.token, server.info = True, "hf_right", {"gated": "manual"}
    fetch(token="hf_right")
    assert contents() == server.files


def test_the_token_stays_with_the_hub(server, fetch, contents):
    """Files are redirected to other hosts, which must not see it; ranges go along."""
    with CheckpointServer(server.files) as cdn:
        server.files_at, cdn.drops[MODEL] = cdn.url, [100_000]
        fetch(token="hf_secret")
    assert contents() == server.files
    assert {request.token for request in server.asked} == {"Bearer hf_secret"}
    assert {request.token for request in cdn.asked} == {None}
    assert [bool(request.range and request.if_range) for request in cdn.asked if request.path == MODEL] == [False, True]


def test_a_renamed_repository_is_followed_with_the_token(server, fetch, contents):
    server.gated, server.token = True, "hf_right"
    fetch(f"hf:{OLD_REPO}", token="hf_right")
    assert contents() == server.files


@pytest.mark.parametrize("elsewhere", ["ftp://127.0.0.1", "file://"])
def test_a_redirect_to_what_is_not_http_is_refused(server, fetch, contents, elsewhere):
    server.files_at = elsewhere
    with pytest.raises(DownloadError, match=r"not as safe|answers 302"):
        fetch()
    assert contents() == {}


def test_a_redirect_from_https_to_http_is_refused():
    secure = urllib.request.Request("https://hub.example/file")
    with pytest.raises(urllib.error.URLError, match="not as safe"):
        _Redirects(("https", "hub.example")).redirect_request(
            secure, io.BytesIO(), 302, "Found", Message(), "http://hub.example/file"
        )


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("hf:lerobot/none", "no repository lerobot/none, or it is private"),
        ("hf:lerobot/tiny@v9", "no revision 'v9'"),
        ("hf:../etc", "is no repository"),
        ("hf:a/b/c", "is no repository"),
        ("hf:lerobot/tiny@", "is no revision"),
        ("lerobot/other", "names no source.*a repository of the hub is hf:lerobot/other"),
        ("pi05", "names no source.*openpi/pi05_libero"),
    ],
)
def test_what_does_not_exist_is_named(fetch, tmp_path, spec, says):
    with pytest.raises(DownloadError, match=says):
        fetch(spec)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../outside.json",
        "a/../../outside.json",
        "a//b",
        "a/./b",
        "",
        "a\\..\\b",
        "a\nb",
        "a\0b",
        "\ud800",
        "x" * 256,
        "flexor-download.json",
        ".flexor-download/lock",
        "model.safetensors",
        "config.json/inside",
    ],
)
def test_a_name_that_could_do_harm_stops_everything(server, fetch, tmp_path, name):
    server.files["evil.json"] = b"{}"
    server.names["evil.json"] = name
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DownloadError, match="nothing was changed"):
        fetch()
    assert sorted(tmp_path.rglob("*")) == before
    assert not server.asked


@pytest.mark.parametrize(
    "info",
    [
        {"sha": None},
        {"sha": "../../x"},
        {"siblings": None},
        {"siblings": [{"rfilename": "a"}]},
        {"siblings": [{"rfilename": "a", "size": 1}]},
        {"siblings": [{"rfilename": "a", "size": -1, "blobId": COMMIT}]},
        {"siblings": [{"rfilename": "a", "size": "1", "blobId": COMMIT}]},
        {"siblings": [{"rfilename": "a", "size": 1, "blobId": "no hash"}]},
        {"siblings": [{"rfilename": 7, "size": 1, "blobId": COMMIT}]},
        {"siblings": [{"rfilename": "a", "lfs": {"size": 1}}]},
        {"siblings": ["a"]},
        {"siblings": [None]},
    ],
)
def test_a_list_without_what_verifies_is_refused(server, fetch, tmp_path, info):
    server.info = info
    with pytest.raises(DownloadError, match=r"[Nn]othing was changed"):
        fetch()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("page", [b"<html>please log in</html>", b"\xff\xfe", b"[" * 100_000, b"null", b"[]", b"7"])
def test_a_login_page_in_place_of_the_list_is_named(server, fetch, tmp_path, page):
    server.page = page
    with pytest.raises(DownloadError, match=r"no JSON.*|names no commit.*"):
        fetch()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("environ", "says"),
    [({"HF_ENDPOINT": "file:///etc"}, "HF_ENDPOINT is"), ({"HF_TOKEN": "hf_a\nHost: x"}, "HF_TOKEN holds")],
)
def test_an_environment_that_makes_no_sense_is_named(environ, says):
    with pytest.raises(DownloadError, match=says):
        Download("hf:lerobot/tiny", environ=environ)


def test_patterns_choose_files(server, fetch, contents):
    fetch(include=["*.json"], exclude=["assets/"])
    assert list(contents()) == ["config.json"]
    with pytest.raises(DownloadError, match=r"no file .* is left .*it has config.json, model.safetensors"):
        fetch(include=["*.pt"])


def test_a_known_name_takes_its_patterns(server, tmp_path):
    wanted = Download("google/paligemma-3b-pt-224@v1", environ=server.environ)
    assert wanted.source.source == "hf:google/paligemma-3b-pt-224"
    assert "tokenizer*" in wanted.include
    assert wanted.next_command(Path("T")) == "flexor import CHECKPOINT --out BUNDLE --tokenizer T"
