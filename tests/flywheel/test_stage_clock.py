"""The clock of a stage: what a killed process spent in it counts, and what another stage took does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flexor.flywheel.online.stage_clock import STAGE, StageClock
from flexor.flywheel.online.stages import Stage

LEARN, OFFER = Stage(1, "learn"), Stage(1, "offer")
WORKS = """
import sys, time
from pathlib import Path
from flexor.flywheel.online.stage_clock import StageClock
from flexor.flywheel.online.stages import Stage

with StageClock(Path(sys.argv[1]), beat_s=0.02).running(Stage(1, "learn")) as spent:
    while True:
        time.sleep(0.01)
        print(spent(), flush=True)
"""


def test_a_killed_process_counts_up_to_what_it_last_wrote_down(tmp_path: Path):
    worker = subprocess.Popen([sys.executable, "-c", WORKS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    said = 0.0
    while said < 0.2 or not (tmp_path / STAGE).exists():
        said = float(worker.stdout.readline())
    os.kill(worker.pid, signal.SIGKILL)
    rest = worker.communicate(timeout=60)[0].split()
    worked = float(rest[-1]) if rest else said
    with StageClock(tmp_path).running(LEARN) as spent:
        first = spent()
    assert 0.0 < first <= worked + 1.0
    with StageClock(tmp_path).running(LEARN) as spent:  # ended in its middle, by Ctrl-C
        assert spent() >= first


def test_a_stage_does_not_take_over_the_seconds_of_another(tmp_path: Path):
    clock = StageClock(tmp_path, beat_s=0.01)
    with clock.running(LEARN) as spent:
        time.sleep(0.05)
        learned = spent()
    with clock.running(OFFER) as spent:
        offered = spent()
    assert learned >= 0.05 and offered < learned


def test_what_happens_in_a_stage_goes_on_and_its_seconds_are_kept(tmp_path: Path):
    clock = StageClock(tmp_path, beat_s=10.0)
    with pytest.raises(KeyError), clock.running(LEARN):
        raise KeyError(time.sleep(0.02))
    with clock.running(LEARN) as spent:
        assert spent() >= 0.02


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cycle": 1, "verb": "learn"}'])
def test_a_file_that_cannot_be_read_counts_for_nothing(tmp_path: Path, content: str):
    (tmp_path / STAGE).write_text(content)
    with StageClock(tmp_path).running(LEARN) as spent:
        assert spent() >= 0.0
