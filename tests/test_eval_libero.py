"""`flexor eval` on a LIBERO suite: a short real evaluation, gone on with, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from libero_here import needs_libero

EVAL = [sys.executable, "-m", "flexor", "eval", "pi05-nano"]


def flexor_eval(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*EVAL, *arguments], capture_output=True, text=True, timeout=110, cwd=cwd)


@needs_libero
@pytest.mark.slow
def test_a_real_evaluation_counts_official_trials_and_goes_on_from_what_was_kept(tmp_path):
    def played(trials: int) -> dict[str, Any]:
        options = ("--sim", "libero_object", "--tasks", "2", "--render", "fast", "--no-entropy", "--json", "-")
        run = flexor_eval(*options, "--trials", str(trials), cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)

    first = played(1)
    assert (first["sim"], first["protocol"], first["render"], first["starts"]) == (
        "sim:libero_object", "openpi", "fast", "official",
    )  # fmt: skip
    assert first["replan"] == 5
    assert len(first["assets_hash"]) == 64 and isinstance(first["reduced_assets"], bool)
    (row,) = first["rows"]
    assert row["task"] == "pick_up_the_salad_dressing_and_place_it_in_the_basket"
    assert 0 < row["steps"] <= 280
    assert played(1)["rows"] == first["rows"]
    (kept,) = (tmp_path / "runs" / "eval").iterdir()
    assert len(kept.read_text().splitlines()) == 2


@needs_libero
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--sim", "libero_goal", "--trials", "51"), "51 is more than LIBERO's 50 states"),
        (("--sim", "libero_goal", "--tasks", "wash_up"), "libero_goal has no task 'wash_up'; expected 0 to 9"),
        (("--sim", "libero_goal", "--protocol", "gr00t"), "unknown protocol 'gr00t'"),
    ],
)
def test_what_a_suite_has_not_is_refused_in_a_line(tmp_path, arguments: tuple[str, ...], told: str):
    run = flexor_eval(*arguments, cwd=tmp_path)
    assert run.returncode != 0
    assert told in " ".join(run.stderr.split())
    assert "Traceback" not in run.stderr


def test_what_is_not_liberos_is_refused_in_a_line(tmp_path):
    for arguments, told in (
        (("--sim", "libero_100"), "unknown simulator 'libero_100', expected one of: tabletop, libero_spatial"),
        (("--protocol", "openpi"), "is for LIBERO's suites, not for tabletop"),
        (("--episodes", "4", "--trials", "4"), "give one"),
    ):
        run = flexor_eval(*arguments, cwd=tmp_path)
        assert run.returncode != 0
        assert told in " ".join(run.stderr.replace("│", " ").split())
        assert "Traceback" not in run.stderr
