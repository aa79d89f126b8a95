"""A public bucket: one object or all below a path, verified by MD5, or by CRC-32C where there is no other."""

from __future__ import annotations

import pytest

from flexor.export.download.download import Download
from flexor.export.download.remote_file import DownloadError
from flexor.export.download.transfer import WrongContent

PREFIX = "checkpoints/pi05_libero"


@pytest.fixture
def bucket(server):
    """The server's files below a path, beside a neighbour whose path begins in the same way."""
    server.files = {f"{PREFIX}/{path}": content for path, content in server.files.items()}
    server.files |= {f"{PREFIX}/params/": b"", f"{PREFIX}_old/config.json": b"{}", "tokenizer.model": b"pieces" * 99}
    return server


def below(server) -> dict[str, bytes]:
    names = [path for path in server.files if path.startswith(f"{PREFIX}/") and not path.endswith("/")]
    return {path.removeprefix(f"{PREFIX}/"): server.files[path] for path in names}


@pytest.mark.parametrize("composite", [False, True])
@pytest.mark.parametrize("page_files", [1, 1000])
def test_all_below_a_path_arrives(bucket, fetch, contents, composite, page_files):
    bucket.composite, bucket.page_files = composite, page_files
    outcome = fetch(f"gs://assets/{PREFIX}/")
    assert contents() == below(bucket)
    assert {file.digest.partition(" ")[0] for file in outcome.files} == {"crc32c" if composite else "md5"}
    assert bucket.lists.count("bucket") == (1 if page_files > 1 else 5)


def test_one_object_arrives_under_its_last_name(bucket, fetch, contents):
    fetch(f"gs://assets/{PREFIX}/config.json")
    assert contents() == {"config.json": bucket.files[f"{PREFIX}/config.json"]}
    assert "bucket" not in bucket.lists  # one object needs no right to list


def test_one_object_at_the_top_arrives(bucket, fetch, contents):
    fetch("gs://assets/tokenizer.model")
    assert contents() == {"tokenizer.model": b"pieces" * 99}


@pytest.mark.parametrize("composite", [False, True])
def test_wrong_bytes_are_refused(bucket, fetch, contents, composite):
    bucket.composite = composite
    path = f"{PREFIX}/model.safetensors"
    bucket.listed[path] = bytes(len(bucket.files[path]))
    with pytest.raises(WrongContent, match="crc32c" if composite else "md5"):
        fetch(f"gs://assets/{PREFIX}")
    assert "model.safetensors" not in contents()


def test_a_dropped_object_is_resumed(bucket, fetch, contents):
    path = f"{PREFIX}/model.safetensors"
    bucket.drops[path] = [100_000]
    bucket.composite = True
    fetch(f"gs://assets/{PREFIX}")
    assert contents() == below(bucket)
    assert bucket.asked[-1].range or any(request.range for request in bucket.asked)


def test_nothing_there_and_nothing_public_are_told_apart(bucket, fetch, tmp_path):
    with pytest.raises(DownloadError, match="nothing at gs://assets/none"):
        fetch("gs://assets/none")
    bucket.statuses = {"object": [401], "bucket": [403]}
    with pytest.raises(DownloadError, match=r"is not public \(403\).*gcloud storage cp"):
        fetch(f"gs://assets/{PREFIX}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [f"{PREFIX}/../../outside", "elsewhere/config.json", f"{PREFIX}//etc/passwd"])
def test_a_name_that_could_do_harm_stops_everything(bucket, fetch, tmp_path, name):
    bucket.names[f"{PREFIX}/config.json"] = name
    with pytest.raises(DownloadError, match="nothing was changed"):
        fetch(f"gs://assets/{PREFIX}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spec", ["gs://", "gs://assets", "gs://assets/", "gs://../x/y", "gs://a b/c"])
def test_what_is_no_place_in_a_bucket_is_named(spec):
    with pytest.raises(DownloadError, match="expected gs://BUCKET/PATH"):
        Download(spec)


def test_an_emulator_may_be_named_without_a_scheme(bucket, tmp_path):
    host = bucket.url.removeprefix("http://")
    outcome = Download("gs://assets/tokenizer.model", environ={"STORAGE_EMULATOR_HOST": host}).look()
    assert [file.path for file in outcome.files] == ["tokenizer.model"]
