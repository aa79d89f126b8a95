"""What a run of the daemon comes to: episodes, success, latency, and everything that was not as planned."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flexor.runtime.metrics import wilson


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """One episode of a run.

    Attributes:
        outcome: success, failure, abort or unknown.
        reason: why it was aborted; empty otherwise.
        entropy_bits_mean: mean ACE of the chunks that were scored, None when none was.
        path: the finished episode file.
        calibrated_max: of the calibrated primary score; None without a calibration or a score.
        alarm_step: control step at which the episode was flagged "pre-fail"; None when it was not.
        failure_label: what explains a failure (docs/failures.md); None where nobody can tell.
        interventions, intervened_steps: how often somebody took the arm, and for how many control steps in all.
    """

    index: int
    task: str
    seed: int
    outcome: str
    reason: str
    steps: int
    holds: int
    entropy_bits_mean: float | None
    path: Path
    calibrated_max: float | None = None
    alarm_step: int | None = None
    failure_label: str | None = None
    interventions: int = 0
    intervened_steps: int = 0


@dataclass(slots=True)
class RunReport:
    """Counts of a whole run.

    Attributes:
        latencies_ms: time from asking for a chunk to having it, as the client saw it, for every chunk.
        entropy_bits: ACE in bits of every chunk that was scored.
        holds: control steps in which the arm was held because there was no action to play.
        stale: chunks that came too late to be played.
        overruns: control steps that took longer than their period.
        guard_events: how often the guard stepped in, by kind.
        refusals: replies that were no chunk, by type.
        calibration: id of the calibration of the scores, "raw" without one.
        interventions: how often somebody took the arm, by why.
        intervened_steps: control steps in which somebody had it.
    """

    results: list[EpisodeResult] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    entropy_bits: list[float] = field(default_factory=list)
    holds: int = 0
    stale: int = 0
    overruns: int = 0
    guard_events: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    calibration: str = "raw"
    interventions: Counter[str] = field(default_factory=Counter)
    intervened_steps: int = 0

    @property
    def aborted(self) -> list[EpisodeResult]:
        """The episodes that were broken off."""
        return [result for result in self.results if result.outcome == "abort"]

    def to_dict(self) -> dict[str, Any]:
        """The report under the names that every flexor command uses; success_rate is None before the first episode."""
        successes = sum(result.outcome == "success" for result in self.results)
        rate, low, high = wilson(successes, len(self.results)) if self.results else (None, None, None)
        latency = self.latencies_ms
        p50, p95, p99 = np.percentile(latency, (50, 95, 99)).tolist() if latency else (None, None, None)
        return {
            "episodes": len(self.results),
            "successes": successes,
            "success_rate": rate,
            "ci95": [low, high],
            "aborted": len(self.aborted),
            "failure_labels": dict(Counter(r.failure_label for r in self.results if r.failure_label).most_common()),
            "entropy_bits_mean": float(np.mean(self.entropy_bits)) if self.entropy_bits else None,
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
            "chunks": len(latency),
            "steps": sum(result.steps for result in self.results),
            "holds": self.holds,
            "stale": self.stale,
            "overruns": self.overruns,
            "guard_events": dict(self.guard_events),
            "refusals": dict(self.refusals),
            "calibration": self.calibration,
            "interventions": dict(self.interventions),
            "intervened_steps": self.intervened_steps,
            "successes_alone": sum(r.outcome == "success" and not r.intervened_steps for r in self.results),
            "pre_fail": sum(result.alarm_step is not None for result in self.results),
            "rows": [
                {
                    "task": result.task,
                    "seed": result.seed,
                    "outcome": result.outcome,
                    "reason": result.reason,
                    "steps": result.steps,
                    "holds": result.holds,
                    "entropy_bits_mean": result.entropy_bits_mean,
                    "path": str(result.path),
                    "calibrated_max": result.calibrated_max,
                    "alarm_step": result.alarm_step,
                    "failure_label": result.failure_label,
                    "interventions": result.interventions,
                    "intervened_steps": result.intervened_steps,
                }
                for result in self.results
            ],
        }
