"""`flexor download` as a user meets it: plain words offline, lists before anything comes, exit codes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

from flexor.export.download.catalog import CATALOG
from flexor.export.download.download import Download


def flexor(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flexor", "download", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "NO_PROXY": "*", **environ},
    )


def nobody() -> str:
    """An address of this machine where nobody listens."""
    with socket.socket() as claimed:
        claimed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{claimed.getsockname()[1]}"


def test_offline_says_what_to_do_and_changes_nothing(tmp_path):
    address = nobody()
    run = flexor("lerobot/pi05_libero_finetuned", "--out", str(tmp_path / "deep" / "out"), HF_ENDPOINT=address)
    assert run.returncode == 1 and run.stdout == ""
    for part in (
        f"error: {address.removeprefix('http://')} cannot be reached: ",
        "Nothing was changed",
        "model.safetensors",
        f"from {address}/lerobot/pi05_libero_finetuned/tree/main",
        f"copy them into {tmp_path}/deep/out",
        f"Then: flexor import {tmp_path}/deep/out --out BUNDLE --tokenizer TOKENIZER",
    ):
        assert part in run.stderr, part
    assert "Traceback" not in run.stderr and list(tmp_path.iterdir()) == []


def test_a_host_without_a_name_is_offline_too(tmp_path):
    run = flexor("gs://assets/x", "--out", str(tmp_path / "out"), STORAGE_EMULATOR_HOST="http://no.such.host.invalid")
    assert run.returncode == 1 and "no.such.host.invalid cannot be reached" in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_lists_and_changes_nothing(server, tmp_path):
    run = flexor("hf:lerobot/tiny", "--dry-run", "--json", "-", **server.environ)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert {file["path"]: file["size"] for file in told["files"]} == {k: len(v) for k, v in server.files.items()}
    assert told["bytes"] == sum(map(len, server.files.values())) and told["dry_run"] and told["received_bytes"] == 0
    assert not server.asked


def test_a_download_tells_what_came_and_what_is_next(server, tmp_path):
    out = tmp_path / "out"
    arguments = ("hf:lerobot/tiny", "--out", str(out), "--exclude", "empty.txt", "--json", str(tmp_path / "told.json"))
    run = flexor(*arguments, **server.environ)
    assert run.returncode == 0, run.stderr
    assert f"next: flexor import {out} --out BUNDLE --tokenizer TOKENIZER" in run.stdout
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["source"] == "hf:lerobot/tiny" and told["revision"] == server.commit
    assert [file["state"] for file in told["files"]] == ["downloaded"] * 3
    assert told["received_bytes"] == told["bytes"] > 0


def test_without_a_spec_the_known_names_are_listed(tmp_path):
    run = flexor("--json", str(tmp_path / "known.json"))
    assert run.returncode == 0
    for name, known in CATALOG.items():
        assert name in run.stdout and known.license in run.stdout and known.spec in run.stdout
    assert len(json.loads((tmp_path / "known.json").read_text())["known"]) == len(CATALOG)


def test_every_known_name_is_a_source():
    for name, known in CATALOG.items():
        wanted = Download(name, environ={})
        assert wanted.source.source == known.spec
        assert "flexor import" in wanted.next_command("DIR") and "{" not in wanted.next_command("DIR")


def test_wrong_usage_exits_with_2(server):
    assert flexor("hf:lerobot/tiny", **server.environ).returncode == 2
    assert flexor("hf:lerobot/tiny", "--out").returncode == 2


def test_options_that_make_no_sense_are_named(server, tmp_path):
    for option, value in (("--timeout", "0"), ("--timeout", "inf"), ("--timeout", "nan"), ("--tries", "0")):
        run = flexor("hf:lerobot/tiny", "--out", str(tmp_path / "out"), option, value, **server.environ)
        assert run.returncode == 1 and "error: the " in run.stderr and "Traceback" not in run.stderr


def test_download_needs_no_torch_and_no_hub_library(server, tmp_path):
    program = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'huggingface_hub', 'requests', 'httpx'): sys.modules[name] = None\n"
        "from flexor.cli.main import main; sys.argv[0] = 'flexor'; main()"
    )
    arguments = ["download", "hf:lerobot/tiny", "--out", str(tmp_path / "out")]
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **server.environ},
    )
    assert run.returncode == 0, run.stderr
