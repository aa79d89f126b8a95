"""A server with a small checkpoint on it, and downloads from it that do not wait long."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoint_server import CheckpointServer

from flexor.export.download.download import Download, Outcome
from flexor.export.download.web import Patience

QUICK = Patience(timeout_s=5, tries=3, pause_s=0.01, longest_pause_s=0.05)


@pytest.fixture
def server() -> Iterator[CheckpointServer]:
    draw = random.Random(5)
    files = {
        "config.json": b'{"type": "pi05"}\n',
        "model.safetensors": draw.randbytes(300_000),
        "assets/physical-intelligence/libero/norm_stats.json": draw.randbytes(9_000),
        "empty.txt": b"",
    }
    with CheckpointServer(files) as server:
        yield server


@pytest.fixture
def fetch(server: CheckpointServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Download from the server into tmp_path/out."""
    monkeypatch.setenv("NO_PROXY", "*")

    def fetch(
        spec: str = "hf:lerobot/tiny", patience: Patience = QUICK, token: str | None = None, **options: Any
    ) -> Outcome:
        environ = server.environ | ({"HF_TOKEN": token} if token else {})
        return Download(spec, patience=patience, environ=environ, **options).run(tmp_path / "out")

    return fetch


@pytest.fixture
def contents(tmp_path: Path) -> Any:
    """What lies in tmp_path/out besides the note, by path."""

    def contents() -> dict[str, bytes]:
        out = tmp_path / "out"
        files = [path for path in out.rglob("*") if path.is_file() and path.name != "flexor-download.json"]
        return {str(path.relative_to(out)): path.read_bytes() for path in files}

    return contents
