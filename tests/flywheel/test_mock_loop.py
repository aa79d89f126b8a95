"""flexor learn --mock: every part of the loop at work, in processes of its own, and nothing left over."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flexor.cli.main import app


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_mock_ends_with_a_learned_adapter_in_a_real_server_and_says_that_it_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mock.json"
    with tempfile.TemporaryDirectory(prefix="fx") as scratch:  # a short name: sockets lie in it
        monkeypatch.setattr(tempfile, "tempdir", scratch)
        run = CliRunner().invoke(app, ["learn", "--mock", "--json", str(file)])
        left = [path.name for path in Path(scratch).iterdir() if path.name.startswith("flexor-")]
        monkeypatch.undo()
    assert run.exit_code == 0, run.output
    found = json.loads(file.read_text())
    assert (found["mock"], found["state"]) == (True, "ACTIVE")
    assert (found["served_before"], found["served_after"]) == ("base", found["adapter"])
    assert "none of its numbers means anything" in " ".join(run.output.split())
    assert left == []


def test_a_mock_takes_nothing_of_yours_and_learning_needs_all_three() -> None:
    for given, told in ((["--mock", "--out", "mine"], "leave the others out"), (["--bundle", "pi05-nano"], "--mock")):
        run = CliRunner().invoke(app, ["learn", *given])
        assert run.exit_code == 2 and told in " ".join(run.output.replace("│", " ").split())
