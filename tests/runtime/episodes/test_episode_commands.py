"""`flexor episodes` as a person or a program calls it: its words, its JSON, its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from flexor.runtime.episodes.index import EpisodeIndex


def flexor(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flexor.cli.main", "episodes", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_list_writes_the_rows_that_were_asked_for(tmp_path, record):
    record(tmp_path, steps=2).end("success", None, "sim")
    path = record(tmp_path, steps=3).end("failure", "collision", "sim")
    EpisodeIndex(tmp_path).mark_used([path.stem], "nano@0123456789ab")
    result = flexor("list", tmp_path, "--outcome", "failure", "--json", tmp_path / "list.json")
    assert (result.returncode, result.stderr) == (0, "")
    rows = json.loads((tmp_path / "list.json").read_text())["episodes"]
    assert [(row["id"], row["label"], row["steps"]) for row in rows] == [(path.stem, "collision", 3)]
    assert rows[0]["used_by"] == ["nano@0123456789ab"]
    assert "collision" in result.stdout
    assert "…" not in result.stdout  # nothing is cut short on a narrow screen


def test_list_of_a_folder_that_was_never_logged_to_exits_with_1(tmp_path):
    result = flexor("list", tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {tmp_path} has no episode index")


def test_show_tells_of_the_newest_and_writes_its_pictures(tmp_path, record):
    recorder = record(tmp_path, steps=6)
    recorder.event(5, "hold", {"why": "no chunk"})
    path = recorder.end("success", None, "sim")
    pictures = ("--gif", tmp_path / "e.gif", "--rerun", tmp_path / "e.rrd")
    result = flexor("show", tmp_path, *pictures, "--json", tmp_path / "show.json")
    assert (result.returncode, result.stderr) == (0, "")
    shown = json.loads((tmp_path / "show.json").read_text())
    assert (shown["id"], shown["steps"], shown["extra"]["shift"]) == (path.stem, 6, "none")
    assert (shown["event_list"][0]["kind"], shown["event_list"][0]["data"]) == ("hold", {"why": "no chunk"})
    assert (shown["gif"], shown["rerun"]) == (str(tmp_path / "e.gif"), str(tmp_path / "e.rrd"))
    assert (tmp_path / "e.gif").read_bytes()[:6] == b"GIF89a"
    assert (tmp_path / "e.rrd").read_bytes()[:3] == b"RRF"


def test_json_on_standard_output_is_alone_there(tmp_path, record):
    path = record(tmp_path, steps=2).end("success", None, "sim")
    result = flexor("list", tmp_path, "--json", "-")
    assert [row["id"] for row in json.loads(result.stdout)["episodes"]] == [path.stem]
    assert "episodes in" in result.stderr


def test_square_brackets_in_what_was_recorded_are_shown_as_they_are(tmp_path, record):
    recorder = record(tmp_path, steps=1)
    recorder.event(0, "refused", {"why": "RGB [h, w, 3] [/red]"})
    recorder.end("abort", None, "recorder")
    result = flexor("show", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "[h, w, 3] [/red]" in " ".join(result.stdout.split())


def test_show_of_no_episode_exits_with_1(tmp_path):
    (tmp_path / "x.mcap").write_bytes(b"nothing")
    result = flexor("show", tmp_path / "x.mcap")
    assert result.returncode == 1
    assert "unfinished or damaged" in result.stderr
    assert "Traceback" not in result.stderr


def test_verify_exits_with_3_until_it_is_repaired(tmp_path, record):
    whole = record(tmp_path, steps=4).end("success", None, "sim")
    assert flexor("verify", tmp_path).returncode == 0
    assert flexor("verify", whole).returncode == 0
    damaged = record(tmp_path, steps=4).end("success", None, "sim")
    flip(damaged)
    result = flexor("verify", tmp_path, "--json", tmp_path / "verify.json")
    assert result.returncode == 3
    report = json.loads((tmp_path / "verify.json").read_text())
    assert (report["passed"], report["episodes"]) == (False, 2)
    assert [(problem["kind"], problem["file"]) for problem in report["problems"]] == [
        ("damaged", f"episodes/{damaged.name}")
    ]
    assert flexor("verify", damaged).returncode == 3
    assert flexor("verify", tmp_path, "--repair").returncode == 0
    assert flexor("verify", tmp_path).returncode == 0


def test_verify_of_a_path_that_is_not_there_is_an_error_and_no_finding(tmp_path):
    result = flexor("verify", tmp_path / "nothing.mcap")
    assert result.returncode == 1
    assert "nothing.mcap does not exist" in result.stderr


def test_verify_passes_over_an_open_episode_that_ends_while_it_looks(tmp_path, record):
    record(tmp_path, steps=1).end("success", None, "sim")
    # Listed, and gone when it is opened: what a rename between the two looks like.
    (tmp_path / "episodes" / "just-ended.mcap.part").symlink_to(tmp_path / "gone")
    result = flexor("verify", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


def test_verify_repair_sets_aside_what_cannot_be_kept(tmp_path, record):
    lost = record(tmp_path, steps=1).end("success", None, "sim")
    lost.write_bytes(b"nothing of it is left")
    (tmp_path / "episodes" / "begun.mcap.part").write_bytes(b"")
    result = flexor("verify", tmp_path, "--repair", "--json", tmp_path / "verify.json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads((tmp_path / "verify.json").read_text())["passed"]
    aside = {file.name for file in (tmp_path / "episodes").iterdir()}
    assert aside == {"begun.mcap.damaged", f"{lost.stem}.mcap.damaged"}
    assert flexor("verify", tmp_path).returncode == 0


def test_verify_names_what_it_cannot_repair_and_goes_on(tmp_path, record):
    paths = [record(tmp_path, steps=1).end("success", None, "sim") for _ in range(2)]
    for path in paths:
        flip(path)
    # A folder where the repaired file must be written first.
    stuck, mended = sorted(paths)
    stuck.with_suffix(".mcap.recovering").mkdir()
    result = flexor("verify", tmp_path, "--repair", "--json", tmp_path / "verify.json")
    assert result.returncode == 3
    report = json.loads((tmp_path / "verify.json").read_text())
    assert report["repaired"] == [f"episodes/{mended.name}"]
    assert [problem["file"] for problem in report["problems"]] == [f"episodes/{stuck.name}"]


def test_wrong_usage_exits_with_2():
    assert flexor("list").returncode == 2
    assert flexor("list", ".", "--colour", "red").returncode == 2


def test_every_command_shows_an_example():
    for command in ("list", "show", "verify", "evict"):
        assert f"Example: flexor episodes {command} " in flexor(command, "--help").stdout


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-len(data) // 3] ^= 1
    path.write_bytes(data)
