"""`flexor campaign table` of the campaign that ships for the flywheel: the controls beside the loop, pair by pair."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from measurements import ENV, played
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.flywheel.campaign.cells import Cell, load_campaign
from flexor.flywheel.campaign.filling import _episodes
from flexor.flywheel.campaign.results_file import CampaignError, Measurement, ResultsFile
from flexor.runtime.metrics import mcnemar

CAMPAIGN = Path(__file__).parents[3] / "configs" / "campaigns" / "flywheel.yaml"
CONTROLS = ("no-learning", "no-advice", "own-successes", "no-priority", "from-base")


def told(cell: Cell, successes: str) -> Measurement:
    """A loop whose last adapter played fresh episodes from seed 6000 on."""
    result = {"forgetting_points": 1.5, "episodes": 60, "wall_minutes": 14.0, "shift": {"hash": cell.shift_hash}}
    found = played(6000, successes, kind="flywheel", options=cell.identity, result=result)
    return dataclasses.replace(found, cell=cell.name, bundle_hash=cell.bundle_hash(), env=ENV)


def test_every_control_is_paired_with_the_loop_of_its_own_seed():
    campaign = load_campaign(CAMPAIGN)
    assert [(arm.name, baseline.name) for arm, baseline in campaign.pairs] == [(name, "loop-0") for name in CONTROLS]
    assert all(arm.options["seed"] == baseline.options["seed"] for arm, baseline in campaign.pairs)


def test_a_control_may_turn_several_settings():
    (cell,) = [cell for cell in load_campaign(CAMPAIGN).cells if cell.name == "own-successes"]
    assert cell.kind.arguments_of(cell.options)[1:3] == ["collect.correct=false", "collect.advise=false"]


def test_the_table_compares_what_is_there_by_mcnemar(tmp_path: Path):
    cells = {cell.name: cell for cell in load_campaign(CAMPAIGN).cells}
    loop, control = "1111111111" * 2, "0001110000" * 2
    with ResultsFile(tmp_path / "flywheel.jsonl") as results:
        results.append(told(cells["loop-0"], loop))
        results.append(told(cells["no-learning"], control))
    command = ["campaign", "table", str(CAMPAIGN), "--results", str(tmp_path), "--json", str(tmp_path / "told.json")]
    done = CliRunner().invoke(app, command, env={"COLUMNS": "250"})
    assert done.exit_code == 0, done.output + repr(done.exception)
    answer = json.loads((tmp_path / "told.json").read_text())
    (compared,) = [row for row in answer["comparisons"] if row["pairs"]]
    assert (compared["arm"], compared["baseline"], compared["pairs"]) == ("no-learning", "loop-0", 20)
    assert (compared["arm_only"], compared["baseline_only"], compared["p"]) == (0, 14, mcnemar(0, 14))
    assert "20 of 20" in done.output and "6 of 20" in done.output and "-70" in done.output
    assert "nothing there yet: loop-1, loop-2, no-advice, own-successes, no-priority, from-base" in " ".join(
        done.output.split()
    )


def test_rows_of_a_command_that_chooses_its_episodes_are_kept_by_seed():
    cell = load_campaign(CAMPAIGN).cells[0]
    rows = [{"seed": 6000 + n, "task": "ab"[n % 2], "success": n < 2} for n in range(4)]
    kept = _episodes(cell, range(0), {"rows": rows})
    assert kept == {
        "first": 6000,
        "n": 4,
        "tasks": ["a", "b"],
        "task_of": [0, 1, 0, 1],
        "outcomes": {"success": "1100"},
    }
    assert _episodes(cell, range(0), {"rows": []})["outcomes"] == {}
    with pytest.raises(CampaignError, match="each one more than the one before"):
        _episodes(cell, range(0), {"rows": rows[::2]})
    assert "rows" not in cell.kind.kept({"rows": rows, "env": {}, "wall_minutes": 1.0})
