"""The measurement of a server beside a learner: three real processes, and requests counted where they belong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from recordings import CAMERAS, record
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.errors import FlexorError
from flexor.flywheel.timing.learner_beside import summary
from flexor.flywheel.timing.paced_learner import PACES, Pace
from flexor.learner.lora.trainer import LearningStopped
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.timing.steady_client import Asked


def test_a_request_belongs_to_the_pace_in_which_it_began_and_ended() -> None:
    spans = {"alone": [(0.0, 10.0), (30.0, 40.0)], "slack": [(10.0, 20.0)], "free": [(20.0, 30.0)]}
    asked = [Asked(0, second + 0.5, second + 0.5 + (0.2 if 10 <= second < 20 else 0.1)) for second in range(40)]
    asked[9] = Asked(0, 9.5, 10.5)  # across an end
    asked[25] = Asked(0, 25.5, 26.0, "timeout")
    found = summary(asked, spans, {"alone": 0, "slack": 30, "free": 40})
    assert [found[pace]["n"] for pace in PACES] == [19, 10, 9]
    assert (found["lost"], found["lost_told"], found["requests"]) == (1, {"timeout": 1}, 40)
    assert (found["p50_ratio"], found["free_p99_ratio"]) == (pytest.approx(2.0), pytest.approx(1.0))
    assert (found["slack"]["micro_batches_per_s"], found["work_ratio"]) == (3.0, 0.75)
    with pytest.raises(FlexorError, match="larger --n"):
        summary(asked, spans | {"free": [(50.0, 60.0)]}, dict.fromkeys(PACES, 1))


def test_a_learner_keeps_to_the_pace_that_was_ordered_last_and_says_so_each_time() -> None:
    told: list[tuple[str, int]] = []
    pace = Pace(lambda what, works: told.append((what, works)))
    asked: list[str] = []

    def slack() -> None:
        asked.append("slack")
        if len(asked) == 3:
            pace.want("")

    pace.slack = slack
    pace()
    pace()
    assert (told, asked) == ([], [])
    pace.want("slack")
    pace()
    pace.want("slack")
    pace()
    assert told == [("slack", 2), ("slack", 3)] and len(asked) == 2
    with pytest.raises(LearningStopped):
        pace()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_command_times_a_real_server_beside_a_real_learner(
    make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    record(tmp_path / "data", episodes=6)
    bundle, file = make_bundle(cameras=CAMERAS), tmp_path / "slack.json"
    command = ["bench", "slack", str(bundle.path), "--episodes", str(tmp_path / "data"), "--n", "60", "--hz", "10"]
    run = CliRunner().invoke(app, [*command, "--json", str(file), "draws=1", "held_out=0.2"])
    assert run.exit_code == 0, run.output
    found = json.loads(file.read_text())
    assert {"p50_ratio", "p99_ratio", "free_p50_ratio", "free_p99_ratio", "work_ratio", "env"} <= set(found)
    assert found["lost"] == 0 and all(found[pace]["n"] > 0 for pace in PACES)
    assert found["alone"]["micro_batches_per_s"] == 0 < found["free"]["micro_batches_per_s"]
