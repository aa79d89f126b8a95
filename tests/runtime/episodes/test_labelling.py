"""What an operator says of an episode later holds: beside its file, in the index, and in what learns from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from at_once import run_at_once

from flexor.runtime.episodes.budget import DiskBudget
from flexor.runtime.episodes.corrections import corrections_file
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.episode_check import check_root, repair
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.labelling import label_episode

LABEL_IN_TURN = """
import sys
from pathlib import Path
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.labelling import label_episode
print("ready", flush=True)
sys.stdin.readline()
(path,) = (Path(sys.argv[1]) / "episodes").glob("*.mcap")
for number in range(5):
    done = False
    while not done:
        try:
            label_episode(Path(sys.argv[1]), path.stem, "failure", f"{sys.argv[2]}_{number}", sys.argv[2])
            done = True
        except EpisodeError as error:
            assert "another process works on" in str(error), error
"""


@pytest.fixture
def finished(tmp_path, record) -> Path:
    """One success that the simulator judged."""
    return record(tmp_path, steps=2).end("success", None, "sim")


def only_row(root: Path):
    (row,) = EpisodeIndex(root).episodes()
    return row


def test_a_correction_is_what_file_and_index_say_from_then_on(tmp_path, finished):
    before = finished.read_bytes()
    row = label_episode(tmp_path, finished.stem, "failure", "grasp_slip", "ada", "it fell after the last step")
    episode = read_episode(finished)
    assert (episode.outcome, episode.label, episode.source) == ("failure", "grasp_slip", "operator")
    assert (row.outcome, row.label, row.source) == ("failure", "grasp_slip", "operator")
    assert only_row(tmp_path) == row
    assert finished.read_bytes() == before
    assert check_root(tmp_path).problems == ()


def test_who_said_what_and_what_stood_there_before_is_kept(tmp_path, finished):
    label_episode(tmp_path, finished.stem, "failure", "grasp_slip", "ada", "it fell")
    label_episode(tmp_path, finished.stem, None, "collision", "ben")
    label_episode(tmp_path, finished.stem, "success", None, "ada")
    first, second, third = read_episode(finished).corrections
    assert (first.by, first.outcome, first.label, first.note) == ("ada", "failure", "grasp_slip", "it fell")
    assert (first.was_outcome, first.was_label, first.was_source) == ("success", None, "sim")
    assert (second.by, second.outcome, second.label) == ("ben", "failure", "collision")
    assert (second.was_outcome, second.was_label, second.was_source) == ("failure", "grasp_slip", "operator")
    assert (third.outcome, third.label, third.was_label) == ("success", None, "collision")
    assert first.time < second.time < third.time


def test_an_index_that_is_made_again_has_the_corrections(tmp_path, finished):
    row = label_episode(tmp_path, finished.stem, "failure", "reach_miss", "ada")
    for file in tmp_path.glob("index.sqlite*"):
        file.unlink()
    for problem in check_root(tmp_path).problems:
        repair(tmp_path, problem)
    assert only_row(tmp_path) == row


def test_who_learned_from_an_episode_stays_known(tmp_path, finished):
    EpisodeIndex(tmp_path).mark_used([finished.stem], "nano@1")
    assert label_episode(tmp_path, finished.stem, "unknown", None, "ada").id == finished.stem
    assert only_row(tmp_path).used_by == ("nano@1",)


def test_an_unfinished_episode_is_refused_and_so_is_what_is_not_there(tmp_path, record):
    recorder = record(tmp_path, steps=2)
    (part,) = (tmp_path / "episodes").glob("*.part")
    with pytest.raises(EpisodeError, match="is not finished: it is being recorded, or its writer was killed"):
        label_episode(tmp_path, part.name, "failure", None, "ada")
    recorder.close()
    with pytest.raises(EpisodeError, match="has no episode nobody"):
        label_episode(tmp_path, "nobody", "failure", None, "ada")


@pytest.mark.parametrize(
    ("outcome", "label", "by", "told"),
    [
        ("won", None, "ada", 'outcome is "won"; give one of success'),
        ("success", "collision", "ada", "a success has no failure label"),
        ("failure", "It fell!", "ada", 'label is "It fell!"; give a word'),
        ("failure", None, " ", "nobody is named"),
    ],
)
def test_words_that_mean_nothing_are_refused_and_change_nothing(tmp_path, finished, outcome, label, by, told):
    with pytest.raises(EpisodeError, match=told):
        label_episode(tmp_path, finished.stem, outcome, label, by)
    assert not corrections_file(finished).exists()
    assert only_row(tmp_path).source == "sim"


def test_the_same_said_twice_by_an_operator_is_refused_but_confirming_the_simulator_is_not(tmp_path, finished):
    assert label_episode(tmp_path, finished.stem, "success", None, "ada").source == "operator"
    with pytest.raises(EpisodeError, match="there is nothing to correct"):
        label_episode(tmp_path, finished.stem, "success", None, "ben")


@pytest.mark.slow
def test_operators_at_once_lose_nothing(tmp_path, finished):
    assert run_at_once(LABEL_IN_TURN, tmp_path, "ada", "ben") == [0, 0]
    said = [(one.by, one.label) for one in read_episode(finished).corrections]
    for name in ("ada", "ben"):
        assert [label for by, label in said if by == name] == [f"{name}_{number}" for number in range(5)]
    assert only_row(tmp_path).label == said[-1][1]


def test_a_flipped_bit_in_a_correction_is_found_and_what_is_whole_is_kept(tmp_path, finished):
    label_episode(tmp_path, finished.stem, "failure", "collision", "ada")
    label_episode(tmp_path, finished.stem, "failure", "grasp_slip", "ada")
    file = corrections_file(finished)
    damaged = file.read_bytes().replace(b'"grasp_slip"', b'"grasp_slap"')
    file.write_bytes(damaged)
    with pytest.raises(EpisodeError, match=r"its digest does not fit.*verify --repair"):
        read_episode(finished)
    (problem,) = check_root(tmp_path).problems
    assert (problem.kind, problem.file) == ("mislabelled", f"episodes/{file.name}")
    assert repair(tmp_path, problem) == "kept 1 of 2 corrections"
    assert check_root(tmp_path).problems == ()
    assert only_row(tmp_path).label == "collision"
    assert file.with_name(file.name + ".damaged").read_bytes() == damaged


def test_a_row_from_before_a_correction_is_stale(tmp_path, finished):
    row = only_row(tmp_path)
    label_episode(tmp_path, finished.stem, "failure", None, "ada")
    corrections_file(finished).rename(tmp_path / "aside")
    assert [problem.kind for problem in check_root(tmp_path).problems] == ["stale"]
    (tmp_path / "aside").rename(corrections_file(finished))
    assert check_root(tmp_path).problems == ()
    assert row.outcome == "success"


def test_corrections_go_with_their_episode_and_are_found_without_it(tmp_path, finished):
    label_episode(tmp_path, finished.stem, "failure", None, "ada")
    content = corrections_file(finished).read_bytes()
    assert [gone.id for gone in DiskBudget(tmp_path, 1, "all").evict()] == [finished.stem]
    assert os.listdir(tmp_path / "episodes") == []
    corrections_file(finished).write_bytes(content)
    (problem,) = check_root(tmp_path).problems
    assert (problem.kind, repair(tmp_path, problem)) == ("orphaned", "removed them")
    assert check_root(tmp_path).problems == ()


def test_the_command_corrects_and_show_tells_who_did(tmp_path, finished):
    def flexor(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flexor.cli.main", "episodes", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=100)

    words = ("--outcome", "failure", "--label", "collision", "--by", "ada", "--note", "hit the lamp")
    done = flexor("label", tmp_path, finished.stem, *words, "--json", tmp_path / "label.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"episode {finished.stem}: success -> failure, collision, says ada" in done.stdout
    told = json.loads((tmp_path / "label.json").read_text())
    assert (told["outcome"], told["label"], told["was_outcome"], told["by"]) == (
        "failure",
        "collision",
        "success",
        "ada",
    )
    shown = flexor("show", tmp_path, "--json", tmp_path / "show.json")
    assert "hit the lamp" in shown.stdout
    assert json.loads((tmp_path / "show.json").read_text())["corrections"][0]["by"] == "ada"
    assert flexor("label", tmp_path, finished.stem).returncode == 1
