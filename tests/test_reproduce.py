"""`flexor reproduce`: a short real run, gone on with, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from libero_here import needs_libero

pytestmark = pytest.mark.timeout(420)
REPRODUCE = [sys.executable, "-m", "flexor", "reproduce", "pi05-nano"]


def reproduce(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*REPRODUCE, *arguments], capture_output=True, text=True, timeout=200, cwd=cwd)


@needs_libero
@pytest.mark.slow
def test_a_real_episode_stands_beside_the_published_number_and_is_not_played_again(tmp_path):
    def played(*suites: str) -> dict[str, Any]:
        options = ("--suites", ",".join(suites), "--tasks", "2", "--trials", "1", "--json", "-")
        run = reproduce(*options, cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        assert "published" in run.stderr and "libero_goal: not asked for" in run.stderr
        return json.loads(run.stdout)

    first = played("libero_spatial")
    (suite,) = first["suites"]
    assert (suite["suite"], suite["episodes"], suite["wanted"], suite["published"]) == ("libero_spatial", 1, 1, 0.988)
    assert first["protocol"] == "openpi" and first["render"] == "official"
    assert len(first["assets_hash"]) == 64
    assert any("reduced assets" in note for note in first["notes"]) == first["reduced_assets"]
    assert first["success_rate"] is None and not first["complete"]
    (kept,) = (tmp_path / "runs" / "eval").iterdir()
    before = kept.read_bytes()
    again = played("libero_spatial")
    assert again["suites"] == first["suites"]
    assert kept.read_bytes() == before


@needs_libero
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--suites", "libero_90"), "nothing is published of libero_90"),
        (("--protocol", "gr00t"), "unknown protocol 'gr00t'"),
        (("--seed", "7"), "7 is no multiple of 50"),
        (("--tasks", "10"), "has no task '10'"),
        (("--trials", "51"), "Invalid value for '--trials'"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(tmp_path, arguments: tuple[str, ...], told: str):
    run = reproduce(*arguments, cwd=tmp_path)
    assert run.returncode != 0
    assert told in " ".join(run.stderr.replace("│", " ").split())
    assert "Traceback" not in run.stderr
