"""`flexor run` on a LIBERO suite: from where its episodes begin."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.sim.libero.protocol import LiberoSettings


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], LiberoSettings(starts="sampled")),
        (["--correct", "--render", "fast"], LiberoSettings(render="fast", starts="sampled")),
        (["--official"], LiberoSettings(starts="official")),
    ],
)
def test_what_is_recorded_to_be_learned_from_begins_with_placements_of_our_own(
    options: list[str], expected: LiberoSettings, monkeypatch: pytest.MonkeyPatch
):
    found: list[LiberoSettings] = []

    def driven(*_: Any, make_robot: Any, **settled: Any) -> None:
        found.append(make_robot.keywords["libero"])

    monkeypatch.setattr("flexor.flywheel.drive.drive", driven)
    shown = CliRunner().invoke(app, ["run", "--robot", "sim:libero_spatial", *options])
    assert shown.exit_code == 0, shown.output
    assert found == [expected]


def test_official_states_of_another_simulation_are_refused():
    shown = CliRunner().invoke(app, ["run", "--robot", "sim:tabletop", "--official"])
    assert shown.exit_code == 2
    assert "is for LIBERO's suites, not for sim:tabletop" in " ".join(shown.output.replace("│", " ").split())
