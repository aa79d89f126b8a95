"""Reports of a run and of an episode: counted by hand, whole in themselves, and deaf to markup in recorded words."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from recorded_run import FIRST, TASK, RecordedRun, record_run
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.flywheel.cycles import cycles
from flexor.flywheel.report.telling import telling_episodes
from flexor.runtime.episodes.index import EpisodeIndex

pytest.importorskip("matplotlib")


class Page(HTMLParser):
    """What a browser would find in a page: its tags, their sources, its words, and the bytes of its pictures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words += data + "\n"

    def pictures(self, kind: str) -> list[bytes]:
        start = f"data:{kind};base64,"
        return [base64.b64decode(link.removeprefix(start)) for link in self.links if link.startswith(start)]

    def check_whole(self) -> None:
        assert not {"script", "link", "iframe", "b"} & set(self.tags)
        assert all(link.startswith("data:image/") for link in self.links)
        assert TASK in self.words


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    return record_run(tmp_path_factory.mktemp("run"))


def flexor(*arguments: object) -> dict:
    """What a command that must end well writes as JSON."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json", "-"])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return json.loads(result.stdout)


def test_a_run_is_told_in_one_page_with_its_pictures_beside_it(recorded: RecordedRun, tmp_path: Path):
    told = flexor("plot", "run", recorded.root, "--out", tmp_path / "report")
    assert (told["episodes"], told["successes"], told["judged"]) == (11, 6, 10)
    assert [(cycle["adapter"], cycle["successes"], cycle["judged"]) for cycle in told["cycles"]] == [
        ("base", 2, 5), (FIRST, 3, 4)]  # fmt: skip
    assert told["troubles"] == []
    names = {Path(path).name for path in told["plots"]}
    assert names == {
        f"{name}.{end}" for name in ("success", "cycles", "entropy", "labels", "loss") for end in ("png", "svg")
    }
    for path in map(Path, told["plots"]):
        assert path.read_bytes().startswith(b"\x89PNG" if path.suffix == ".png" else b"<?xml")
    page = Page(tmp_path / "report" / "report.html")
    page.check_whole()
    assert "6 of 10 succeeded (31% to 83%)" in page.words
    assert len(page.pictures("image/svg+xml")) == 5
    assert "it was shown to be as good as its parent" in page.words
    clips = [Image.open(io.BytesIO(data)) for data in page.pictures("image/gif")]
    assert [getattr(clip, "n_frames", 1) for clip in clips] == [3, 3, 3]


def test_the_clips_are_a_failure_a_correction_and_the_same_seed_after_a_swap(recorded: RecordedRun):
    rows = EpisodeIndex(recorded.root / "log").episodes()
    assert [(why, rows.index(row)) for why, row in telling_episodes(cycles(rows))] == [
        ("first failure; seed 2 before a swap", 1),
        ("a correction", 3),
        ("the same seed with the adapter after it", 8),
    ]
    assert telling_episodes(cycles(rows[:1])) == []
    failed, won = replace(rows[5], outcome="failure", label=None), rows[4]  # a pair of the canary: seed 5 twice
    assert telling_episodes(cycles([rows[0], won, failed, *rows[7:10]]))[-2:] == [
        ("first failure; seed 5 before a swap", failed),
        ("the same seed with the adapter after it", won),
    ]


def test_a_clip_whose_episode_was_evicted_is_told_and_the_rest_is_there(tmp_path: Path):
    run = record_run(tmp_path / "run")
    run.files[1].unlink()
    told = flexor("plot", "run", run.root / "log", "--out", tmp_path)
    assert len(told["troubles"]) == 1 and run.files[1].stem in told["troubles"][0]
    page = Page(tmp_path / "report.html")
    assert len(page.pictures("image/gif")) == 2
    assert "No log of adapters was found." in page.words


def test_an_episode_is_told_with_frames_chunks_guard_and_turns(recorded: RecordedRun, tmp_path: Path):
    failed = flexor(
        "plot", "episode", recorded.root / "log", "--id", recorded.files[1].stem, "--out", tmp_path / "a.html"
    )
    assert (failed["outcome"], failed["label"], failed["alarm_step"]) == ("failure", "grasp_slip", 9)
    assert (failed["frames"], failed["chunks"], failed["adapters"]) == (3, 3, ["base"])
    assert (failed["guard"], failed["turns"]) == ({"guard.speed": 1}, [])
    page = Page(tmp_path / "a.html")
    page.check_whole()
    assert page.words.count("failure.grasp_slip") == 1
    assert len(page.pictures("image/svg+xml")) == 1
    frames = [Image.open(io.BytesIO(data)).size for data in page.pictures("image/png")]
    assert frames == [(16, 16)] * 3
    helped = flexor("plot", "episode", recorded.files[3], "--out", tmp_path / "b.html")
    assert helped["turns"] == [[4, 8]]
    assert (tmp_path / "b.html").read_text().count('class="chunk helped"') == 1


def test_a_folder_without_episodes_is_refused_with_the_way_out(tmp_path: Path):
    result = CliRunner().invoke(app, ["plot", "run", str(tmp_path)])
    assert "--episodes DIR" in str(result.exception)
    result = CliRunner().invoke(app, ["plot", "episode", str(tmp_path), "--id", "nowhere"])
    assert "has no episode nowhere" in str(result.exception)
