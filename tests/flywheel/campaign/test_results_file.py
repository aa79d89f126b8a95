"""Results on disk: whole lines or none, one writer, nothing lost by a kill or a full disk."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from measurements import PLAYED, played

from flexor.flywheel.campaign.cells import CampaignError
from flexor.flywheel.campaign.results_file import Episode, Measurement, ResultsFile, read_measurements


def write(path: Path, *measurements: Measurement) -> None:
    with ResultsFile(path) as results:
        for measurement in measurements:
            results.append(measurement)


def test_what_was_appended_is_read_in_its_order(tmp_path: Path):
    path = tmp_path / "folder" / "some.jsonl"
    write(path, PLAYED)
    write(path, played(4, "10"))
    assert read_measurements(path) == [PLAYED, played(4, "10")]
    assert read_measurements(tmp_path / "none.jsonl") == []


def test_a_measurement_tells_each_episode_by_its_number():
    both = played(
        4, "10", outcomes={"success": "10", "original_success": "01"}, tasks=["left", "right"], task_of=[1, 0]
    )
    assert both.episodes() == {
        4: Episode("right", {"success": True, "original_success": False}),
        5: Episode("left", {"success": False, "original_success": True}),
    }


def test_of_a_line_cut_at_any_byte_nothing_is_taken_and_the_next_is_whole(tmp_path: Path):
    path = tmp_path / "some.jsonl"
    write(path, PLAYED, played(4, "10"))
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    for length in range(first, len(content)):
        path.write_bytes(content[:length])
        assert read_measurements(path) == [PLAYED], length
    for length in (first + 1, first + 200, len(content) - 1):
        path.write_bytes(content[:length])
        write(path, played(6, "0"))
        assert read_measurements(path) == [PLAYED, played(6, "0")], length


def test_a_whole_line_that_is_no_result_is_refused_by_its_number(tmp_path: Path):
    path = tmp_path / "some.jsonl"
    write(path, PLAYED)
    line = json.loads(path.read_text())
    for damage in ("half a li", json.dumps({**line, "more": 1}), json.dumps({**line, "n": 5}), "[]"):
        path.write_text(json.dumps(line) + "\n" + damage + "\n")
        with pytest.raises(CampaignError, match="line 2"):
            read_measurements(path)
        with pytest.raises(CampaignError, match="line 2"), ResultsFile(path):
            pass


def test_a_file_that_is_open_cannot_be_opened_by_another_process_until_that_is_killed(tmp_path: Path):
    path = tmp_path / "some.jsonl"
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom flexor.flywheel.campaign.results_file import ResultsFile\n"
        "with ResultsFile(Path(sys.argv[1])):\n    print('open', flush=True)\n    time.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(CampaignError, match="being filled by another"), ResultsFile(path):
            pass
        other.send_signal(signal.SIGKILL)
    write(path, PLAYED)
    assert read_measurements(path) == [PLAYED]


def test_a_full_disk_leaves_the_file_as_it_was_and_says_so(tmp_path: Path):
    path = tmp_path / "some.jsonl"
    write(path, PLAYED)
    content = path.read_bytes()
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with ResultsFile(path) as results:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) + 100, limits[1]))
            with pytest.raises(CampaignError, match="cannot be written"):
                results.append(played(4, "10"))
            assert results.measurements == [PLAYED]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == content


def test_a_file_that_was_replaced_meanwhile_is_not_written_past(tmp_path: Path):
    path = tmp_path / "some.jsonl"
    write(path, PLAYED)
    with ResultsFile(path) as results:
        (tmp_path / "other").write_bytes(path.read_bytes())
        os.replace(tmp_path / "other", path)  # as a checkout of another commit does
        with pytest.raises(CampaignError, match="was replaced or removed"):
            results.append(played(4, "10"))
    assert read_measurements(path) == [PLAYED]
