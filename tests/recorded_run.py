"""A run of eleven small episodes with two adapters, as its parts leave it on disk: real files, counted by hand.

episode   0       1       2       3      | 4       5       6      | 7       8       9       10
adapter   base    base    base    base   | first   base    base   | first   first   first   first
seed      1       2       3       4      | 5       5       6      | 6       2       3       4
ended     success failure failure helped | success success abort  | success success success failure
score     1.0     2.5     1.5     -      | 0.5     0.5     0.5    | 0.5     0.5     0.5     3.0

Episode 4 is the only one on trial, so that the cycles begin with 0 and 7.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flexor.runtime.adapters.audit_log import AuditLog
from flexor.runtime.adapters.store_state import Record, StoreState
from flexor.runtime.episodes.episode_schema import EpisodeMeta
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.observation import ActionChunk, Provenance

BASE, FIRST, BUNDLE = "base", "1-0a1b2c3d4e5f", "pi05-nano@0123456789ab"
TASK = "lift <b>&</b>"  # must never reach a page as markup
STEPS, SIZE = 12, 16
PLAYED = (
    (BASE, 1, "success", None, 1.0),
    (BASE, 2, "failure", "grasp_slip", 2.5),
    (BASE, 3, "failure", "reach_miss", 1.5),
    (BASE, 4, "success", None, None),
    (FIRST, 5, "success", None, 0.5),
    (BASE, 5, "success", None, 0.5),
    (BASE, 6, "abort", None, 0.5),
    (FIRST, 6, "success", None, 0.5),
    (FIRST, 2, "success", None, 0.5),
    (FIRST, 3, "success", None, 0.5),
    (FIRST, 4, "failure", "grasp_slip", 3.0),
)
HELPED = 3  # the episode in which somebody takes the arm from step 4 to 8


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """Where it lies: `root`/log, `root`/adapters, `root`/adapters.training/run; `files` of its episodes."""

    root: Path
    files: tuple[Path, ...]


def record_run(root: Path) -> RecordedRun:
    """Record it below `root`, which is made."""
    with EpisodeRecorder(root / "log", images="png") as recorder:
        files = tuple(_play(recorder, number, *played) for number, played in enumerate(PLAYED))
    _write_adapters(root / "adapters")
    learned = root / "adapters.training" / "run"
    learned.mkdir(parents=True)
    rows = [{"step": 10 * row, "train/loss": 1.0 / row} for row in range(1, 9)]
    (learned / "curves.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return RecordedRun(root, files)


def _play(
    recorder: EpisodeRecorder,
    number: int,
    adapter: str,
    seed: int,
    outcome: str,
    label: str | None,
    score: float | None,
) -> Path:
    rng = np.random.default_rng(number)
    calibration = {"id": "0123456789ab", "alpha": 0.1, "thresholds": {"accel": {"tau": 0.8, "sigma": None}}}
    extra = {"calibration": "raw" if score is None else calibration}
    recorder.begin(EpisodeMeta("sim:made-up", TASK, f"please {TASK}", seed, BUNDLE, adapter, 20.0, ("front",), extra))
    for step in range(STEPS):
        helped = number == HELPED and 4 <= step < 8
        if number == HELPED and step in (4, 8):
            recorder.event(step, f"intervention.{'begin' if step == 4 else 'end'}", {"by": "ada", "why": "stuck"})
        if step % 4 == 0:
            recorder.frames(step, {"front": rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)})
            actions = rng.normal(size=(10, 7)).astype(np.float32)
            by = Provenance(BUNDLE, adapter, "torch", "cpu", "fp32", 10, step)
            recorder.chunk(step, ActionChunk(actions, by, {"policy": 7.0}, {"accel": 0.1 * step, "ace_bits": 1.0}))
            scored = {"accel": 0.1 * step, "ace_bits": 1.0, "calibration": "raw", "calibrated": {}}
            if score is not None:
                scored |= {"calibration": "0123456789ab", "calibrated": {"ace_bits": score * (step + 4) / STEPS}}
            recorder.event(step, "entropy", scored)
        recorder.step(step, np.zeros(8, np.float32), rng.normal(size=7).astype(np.float32), None, helped)
    if score is not None and score > 2.0:
        recorder.event(9, "alarm", {"score": "ace_bits", "raw": 1.0, "calibrated": score, "scored_step": 8})
    if label is not None:
        recorder.event(6, "guard.speed", {"metres_per_second": 2.5, "limit": 1.7})
        recorder.event(10, f"failure.{label}", {"how": "slipped"})
    return recorder.end(outcome, label, "sim")


def _write_adapters(folder: Path) -> None:
    (folder / FIRST).mkdir(parents=True)
    log = AuditLog(folder)
    for state in ("received", "verified", "staged", "shadow", "canary"):
        log.append(f"adapter.{state}", adapter=FIRST, parent=BASE)
    log.append("adapter.active", adapter=FIRST, told="it was shown to be as good as its parent")
    record = Record(id=FIRST, state="ACTIVE", at="2026-03-01T10:00:00.000+00:00", episodes=5, successes=4)
    StoreState(active=FIRST, history=(BASE,), seen=1, records={FIRST: record}).write(folder)
