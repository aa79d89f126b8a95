"""The report of a run that was an online loop: three phases, forgetting, and what became of every adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from loop_ledger import LEDGER_ROWS, REFUSED, TAKEN, write_ledger
from recorded_run import RecordedRun, record_run
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.errors import FlexorError
from flexor.flywheel.report.loop_plots import loop_plots
from flexor.flywheel.row_file import read_rows
from flexor.flywheel.run_record import RunFolders, RunReader

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    return record_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def wheel(recorded: RecordedRun, tmp_path: Path) -> Path:
    """A run as `flexor flywheel` lays it: episodes, reserve, adapters and adapters.training with a log each."""
    run = tmp_path / "wheel"
    shutil.copytree(recorded.root, run)
    (run / "log").rename(run / "episodes")
    shutil.copytree(run / "episodes", run / "reserve")
    shutil.copy(run / "adapters" / "audit.jsonl", run / "adapters.training" / "audit.jsonl")
    return run


def plotted(run: Path) -> tuple[dict[str, Any], str]:
    """What `flexor plot run` tells of it, and its page."""
    done = CliRunner().invoke(app, ["plot", "run", str(run), "--out", str(run / "report"), "--json", "-"])
    assert done.exit_code == 0, done.output + repr(done.exception)
    return json.loads(done.stdout), (run / "report" / "report.html").read_text()


def test_the_page_of_a_loop_tells_phases_forgetting_and_swaps_with_reasons(wheel: Path):
    write_ledger(wheel / "ledger.jsonl", LEDGER_ROWS)
    told, page = plotted(wheel)
    names = {Path(path).name for path in told["plots"]}
    assert {f"{name}.{end}" for name in ("loop", "forgetting") for end in ("png", "svg")} <= names
    for cell in ("24 of 40", "36 of 40", "45% to 74%", "+21.0 points (McNemar p 1e-06)", "+14.0 to +28.0 points"):
        assert f"<td>{cell}</td>" in page, cell
    assert "<td>-1.0 points (McNemar p 0.6)</td>" in page
    swaps = page[page.index("<h2>Swaps</h2>") :]
    refused, taken = swaps.index(REFUSED), swaps.index(TAKEN)
    assert "no_evidence" in swaps[refused:taken] and "it can win no more" in swaps[refused:taken]
    assert "success_rate" in swaps[:taken][swaps[:taken].rindex("<tr>") :]
    assert told["troubles"] == []
    assert [clip["why"] for clip in told["clips"]][-1] == "the same seed with the adapter after it"


def test_a_run_without_a_ledger_has_no_part_about_a_loop(wheel: Path):
    told, page = plotted(wheel)
    assert "<h2>Loop</h2>" not in page and "<h2>Swaps</h2>" not in page
    assert "loop.png" not in {Path(path).name for path in told["plots"]}


@pytest.mark.parametrize("length", range(len(LEDGER_ROWS)))
def test_a_loop_that_goes_on_is_drawn_as_far_as_it_has_come(length: int):
    found = loop_plots(LEDGER_ROWS[:length])
    assert ("loop" in found) == (length > 1)
    assert ("forgetting" in found) == (length > LEDGER_ROWS.index(next(r for r in LEDGER_ROWS if r["verb"] == "after")))


def test_a_page_can_be_made_while_the_loop_writes_its_next_row(wheel: Path):
    ledger = write_ledger(wheel / "ledger.jsonl", LEDGER_ROWS[:8])
    with ledger.open("a") as stream:
        stream.write('{"cycle": 2, "ver')
    assert [row["verb"] for row in read_rows(ledger)][-1] == "measure"
    _, page = plotted(wheel)
    assert "Not measured: the loop has not come so far" in page


def test_a_ledger_that_is_none_is_named_and_the_rest_is_there(wheel: Path):
    (wheel / "ledger.jsonl").write_text("[1]\n[2]\n")
    told, page = plotted(wheel)
    assert len(told["troubles"]) == 1 and "is no file of rows" in told["troubles"][0]
    assert "<h2>Loop</h2>" not in page


def test_the_folders_of_a_loop_are_found_among_several_of_a_kind(wheel: Path):
    found = RunFolders.find(wheel)
    assert (found.episodes, found.adapters) == (wheel / "episodes", wheel / "adapters")
    assert found.ledger is None
    assert RunReader(found).read().ledger == []
    (wheel / "adapters" / "audit.jsonl").rename(wheel / "elsewhere.jsonl")
    for name in ("other", "third"):
        (wheel / name).mkdir()
        (wheel / name / "audit.jsonl").touch()
    with pytest.raises(FlexorError, match="choose: --adapters DIR"):
        RunFolders.find(wheel)
