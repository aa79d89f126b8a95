"""A folder over its budget loses what was learned from first, and nothing that somebody still needs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flexor.runtime.episodes.budget import DiskBudget, Evicted
from flexor.runtime.episodes.episode_check import check_root, repair
from flexor.runtime.episodes.episode_files import hold_file
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.index import EpisodeIndex

KILLED_WHILE_IT_REMOVES_A_FILE = """
import os, pathlib, signal, sys
from flexor.runtime.episodes.budget import DiskBudget
pathlib.Path.unlink = lambda path: os.kill(os.getpid(), signal.SIGKILL)
DiskBudget(sys.argv[1], 1, "all").evict()
"""

WAITS_BEFORE_IT_REMOVES_A_FILE = """
import os, pathlib, sys
from flexor.runtime.episodes.budget import DiskBudget
def unlink(path):
    print("removing", flush=True)
    sys.stdin.readline()
    os.unlink(path)
pathlib.Path.unlink = unlink
DiskBudget(sys.argv[1], 1, "all").evict()
"""


# On a full disk SQLite can make no table of locks and no log; a limit of 1,000 bytes a file does the same.
FULL_UNTIL_A_FILE_IS_GONE = """
import os, pathlib, resource, sys
from flexor.runtime.episodes.budget import DiskBudget
def allow(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
def unlink(path):
    os.unlink(path)
    allow(resource.RLIM_INFINITY)
pathlib.Path.unlink = unlink
allow(1000)
print(*(episode.id for episode in DiskBudget(sys.argv[1], int(sys.argv[2]), "all").evict()))
"""


@pytest.fixture
def ended(record):
    """ended(root, outcome, ...): the files of finished episodes, oldest first, each of another size."""

    def run(root: Path, *outcomes: str) -> list[Path]:
        return [record(root, steps=3 + n).end(outcome, None, "sim") for n, outcome in enumerate(outcomes)]

    return run


def budget(root: Path, max_bytes: int) -> DiskBudget:
    """The budget of a folder that nobody learns from."""
    return DiskBudget(root, max_bytes, unlearned="all")


def ids(evicted: list[Evicted]) -> list[str]:
    return [episode.id for episode in evicted]


def sizes(*paths: Path) -> int:
    return sum(path.stat().st_size for path in paths)


def listed(root: Path) -> list[str]:
    return [row.id for row in EpisodeIndex(root).episodes()]


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "episodes").iterdir()}


def flexor_evict(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flexor.cli.main", "episodes", "evict", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_folder_of_exactly_the_budget_is_left_as_it_is(tmp_path, ended):
    paths = ended(tmp_path, "success", "failure")
    assert DiskBudget(tmp_path, sizes(*paths)).used_bytes() == sizes(*paths)
    assert budget(tmp_path, sizes(*paths)).evict() == []
    assert listed(tmp_path) == [path.stem for path in paths]


def test_one_byte_over_the_budget_costs_one_episode(tmp_path, ended):
    first, second = ended(tmp_path, "success", "success")
    size = sizes(first)
    evicted = budget(tmp_path, sizes(first, second) - 1).evict()
    assert [(gone.id, gone.file, gone.outcome, gone.bytes) for gone in evicted] == [
        (first.stem, f"episodes/{first.name}", "success", size)
    ]
    assert (first.exists(), second.exists(), listed(tmp_path)) == (False, True, [second.stem])
    assert check_root(tmp_path).problems == ()


def test_successes_go_before_all_others_and_the_older_before_the_newer(tmp_path, ended):
    outcomes = ("failure", "success", "abort", "success", "unknown", "failure")
    failure, success, abort, later_success, unknown, later_failure = ended(tmp_path, *outcomes)
    order = [success, later_success, failure, abort, unknown, later_failure]
    limit = sum(path.stat().st_size for path in order)
    for count, path in enumerate(order):
        assert ids(budget(tmp_path, limit).evict(dry_run=True)) == [p.stem for p in order[:count]]
        limit -= path.stat().st_size
    assert ids(budget(tmp_path, 1).evict()) == [path.stem for path in order]
    assert (listed(tmp_path), contents(tmp_path)) == ([], {})


def test_a_dry_run_changes_nothing(tmp_path, ended):
    paths = ended(tmp_path, "success", "failure")
    before = contents(tmp_path)
    would_go = budget(tmp_path, 1).evict(dry_run=True)
    assert ids(would_go) == [path.stem for path in paths]
    assert (contents(tmp_path), listed(tmp_path)) == (before, [path.stem for path in paths])
    assert budget(tmp_path, 1).evict() == would_go


def test_an_open_episode_counts_and_stays(tmp_path, ended, record):
    (done,) = ended(tmp_path, "success")
    recorder = record(tmp_path, steps=3)
    (part,) = (tmp_path / "episodes").glob("*.part")
    assert DiskBudget(tmp_path, 1).used_bytes() == sizes(done, part)
    assert ids(budget(tmp_path, 1).evict()) == [done.stem]
    assert DiskBudget(tmp_path, 1).used_bytes() == sizes(part)
    path = recorder.end("success", None, "sim")
    assert listed(tmp_path) == [path.stem]
    assert check_root(tmp_path).problems == ()


def test_an_episode_that_somebody_holds_stays_and_the_next_one_goes(tmp_path, ended):
    held, other = ended(tmp_path, "success", "success")
    with hold_file(held):
        assert ids(budget(tmp_path, sizes(held, other) - 1).evict()) == [other.stem]
    assert held.exists()


def test_what_the_index_does_not_list_stays(tmp_path, ended):
    unlisted, other = ended(tmp_path, "success", "success")
    EpisodeIndex(tmp_path).remove(unlisted.stem)
    aside = unlisted.with_name("older.mcap.damaged")
    aside.write_bytes(b"set aside")
    assert ids(budget(tmp_path, 1).evict()) == [other.stem]
    assert set(contents(tmp_path)) == {unlisted.name, aside.name}


def test_a_kill_between_row_and_file_leaves_a_file_that_a_repair_lists_again(tmp_path, ended):
    killed, other = ended(tmp_path, "success", "success")
    child = subprocess.run([sys.executable, "-c", KILLED_WHILE_IT_REMOVES_A_FILE, str(tmp_path)], timeout=60)
    assert child.returncode == -signal.SIGKILL
    (problem,) = check_root(tmp_path).problems
    assert (problem.kind, problem.file) == ("unlisted", f"episodes/{killed.name}")
    repair(tmp_path, problem)
    assert check_root(tmp_path).problems == ()
    assert listed(tmp_path) == [killed.stem, other.stem]
    # The lock of the killed process is gone with it.
    assert ids(budget(tmp_path, 1).evict()) == [killed.stem, other.stem]


def test_room_is_made_on_a_disk_so_full_that_the_index_cannot_be_changed(tmp_path, ended):
    first, second, third = ended(tmp_path, "success", "success", "success")
    command = [sys.executable, "-c", FULL_UNTIL_A_FILE_IS_GONE, str(tmp_path), str(sizes(third))]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (child.stdout, child.stderr) == (f"{first.stem} {second.stem}\n", "")
    assert (listed(tmp_path), set(contents(tmp_path))) == ([third.stem], {third.name})
    assert check_root(tmp_path).problems == ()


def test_two_processes_do_not_evict_from_one_folder_at_once(tmp_path, ended):
    _, other = ended(tmp_path, "success", "success")
    command = [sys.executable, "-c", WAITS_BEFORE_IT_REMOVES_A_FILE, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "removing\n"
        with pytest.raises(EpisodeError, match="another process evicts from"):
            budget(tmp_path, 1).evict()
        assert ids(budget(tmp_path, 1).evict(dry_run=True)) == [other.stem]
        child.communicate("go on\n" * 2, timeout=60)
    assert (child.returncode, listed(tmp_path), contents(tmp_path)) == (0, [], {})


def test_what_nobody_learned_from_stays_unless_told_otherwise(tmp_path, ended):
    success, failure, learned_success, learned_failure = ended(tmp_path, "success", "failure", "success", "failure")
    EpisodeIndex(tmp_path).mark_used([learned_failure.stem, learned_success.stem], "nano@0123456789ab")
    wanted = {
        "none": [learned_success, learned_failure],
        "successes": [learned_success, learned_failure, success],
        "all": [learned_success, learned_failure, success, failure],
    }
    for unlearned, paths in wanted.items():
        tried = DiskBudget(tmp_path, 1, unlearned)
        assert ids(tried.evict(dry_run=True)) == [path.stem for path in paths]
        assert {episode.id for episode in tried.protected()} == set(listed(tmp_path)) - {path.stem for path in paths}
    gone = DiskBudget(tmp_path, 1).evict()
    assert [episode.used_by for episode in gone] == [("nano@0123456789ab",)] * 2
    assert listed(tmp_path) == [success.stem, failure.stem]
    assert check_root(tmp_path).problems == ()


def test_a_success_that_somebody_intervened_in_is_kept_like_a_failure(tmp_path, record, ended, state, action):
    recorder = record(tmp_path, steps=3)
    recorder.step(3, state(3), action(3), label=action(4), intervention=True)
    corrected = recorder.end("success", None, "operator")
    failure, plain = ended(tmp_path, "failure", "success")
    assert ids(DiskBudget(tmp_path, 1, "successes").evict(dry_run=True)) == [plain.stem]
    assert ids(budget(tmp_path, 1).evict(dry_run=True)) == [plain.stem, corrected.stem, failure.stem]


def test_an_episode_that_was_listed_again_is_one_that_nobody_learned_from(tmp_path, ended):
    (path,) = ended(tmp_path, "success")
    index = EpisodeIndex(tmp_path)
    index.mark_used([path.stem], "nano")
    index.remove(path.stem)
    index.add(path)
    assert DiskBudget(tmp_path, 1).evict() == []
    assert path.exists()


def test_a_word_for_unlearned_that_does_not_exist_is_refused(tmp_path, ended):
    ended(tmp_path, "success")
    with pytest.raises(EpisodeError, match='unlearned is "some"; give one of none, successes, all'):
        DiskBudget(tmp_path, 1, "some")


def test_a_folder_that_was_never_logged_to_and_a_budget_of_nothing_are_refused(tmp_path, ended):
    with pytest.raises(EpisodeError, match="holds no episodes: it has no folder named episodes"):
        DiskBudget(tmp_path, 1)
    ended(tmp_path, "success")
    with pytest.raises(EpisodeError, match="the disk budget is 0 bytes; give 1 or more"):
        DiskBudget(tmp_path, 0)


def test_the_command_tells_what_it_removed_and_exits_with_0_when_the_folder_fits(tmp_path, ended):
    first, second = ended(tmp_path, "success", "success")
    before, left = sizes(first, second), sizes(second)
    gib = before / 2**30 - 1e-9
    EpisodeIndex(tmp_path).mark_used([first.stem, second.stem], "nano@0123456789ab")
    dry = flexor_evict(tmp_path, "--max-gib", gib, "--dry-run", "--json", tmp_path / "dry.json")
    assert (dry.returncode, dry.stderr, first.exists()) == (0, "", True)
    done = flexor_evict(tmp_path, "--max-gib", gib, "--json", tmp_path / "done.json")
    assert (done.returncode, done.stderr, first.exists()) == (0, "", False)
    told = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("dry", "done")]
    assert told[0]["evicted"] == told[1]["evicted"]
    assert [gone["id"] for gone in told[1]["evicted"]] == [first.stem]
    for report, dry_run in zip(told, (True, False), strict=True):
        assert (report["bytes_before"], report["bytes_left"], report["fits"]) == (before, left, True)
        assert report["dry_run"] is dry_run


def test_the_command_exits_with_3_when_what_is_left_is_still_too_much(tmp_path, record):
    with record(tmp_path, steps=3):
        result = flexor_evict(tmp_path, "--max-gib", 1e-8)
        assert (result.returncode, result.stderr) == (3, "")
        assert "over the budget still" in result.stdout


def test_the_command_says_what_it_kept_because_nobody_learned_from_it(tmp_path, ended):
    success, failure = ended(tmp_path, "success", "failure")
    kept = flexor_evict(tmp_path, "--max-gib", 1e-8, "--json", tmp_path / "kept.json")
    assert (kept.returncode, kept.stderr) == (3, "")
    assert "2 episodes" in kept.stdout and "--unlearned" in kept.stdout
    told = json.loads((tmp_path / "kept.json").read_text())
    assert (told["evicted"], told["unlearned"]) == ([], "none")
    assert told["protected"] == {"episodes": 2, "bytes": sizes(success, failure)}
    some = flexor_evict(tmp_path, "--max-gib", 1e-8, "--unlearned", "successes")
    assert (some.returncode, success.exists(), failure.exists()) == (3, False, True)
    wrong = flexor_evict(tmp_path, "--max-gib", 1, "--unlearned", "some")
    assert (wrong.returncode, wrong.stderr[:21]) == (1, 'error: unlearned is "')


@pytest.mark.parametrize("max_gib", ["nan", "inf", "0", "-1"])
def test_the_command_refuses_a_budget_that_is_none(tmp_path, ended, max_gib):
    (path,) = ended(tmp_path, "success")
    result = flexor_evict(tmp_path, f"--max-gib={max_gib}")
    assert (result.returncode, path.exists()) == (1, True)
    assert result.stderr.startswith("error: ")


def test_the_command_names_a_folder_that_is_not_there(tmp_path):
    result = flexor_evict(tmp_path / "nowhere", "--max-gib", 1)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {tmp_path / 'nowhere'} holds no episodes")
