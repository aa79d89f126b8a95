"""What a campaign has so far: the measurements of each cell, success with its interval, pairs of arms compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flexor.flywheel.campaign.cells import Cell
from flexor.flywheel.campaign.results_file import Episode, Measurement
from flexor.runtime.metrics import mcnemar, wilson

SUCCESS = "success"


@dataclass(frozen=True, slots=True)
class Standing:
    """What there is of one cell.

    Attributes:
        cell: the cell.
        bundle_hash: of the bundle that counts; None without one.
        measurements: its own, oldest first.
    """

    cell: Cell
    bundle_hash: str | None
    measurements: tuple[Measurement, ...]

    @classmethod
    def of(cls, cell: Cell, bundle_hash: str | None, measurements: Sequence[Measurement], machine: str) -> Standing:
        """Find a cell's measurements by kind, options, bundle and what its shift means; times by machine, too."""
        found = [
            measurement
            for measurement in measurements_of(cell, measurements)
            if measurement.bundle_hash == bundle_hash
            and cell.shift_hash in (None, measurement.shift_hash)
            and (not cell.kind.timed or measurement.machine == machine)
        ]
        return cls(cell, bundle_hash, tuple(found))

    def episodes(self) -> dict[int, Episode]:
        """Those measured of the ones the cell asks for, by number; the newest where one was measured twice.

        Of a cell whose command chooses its episodes, those of the newest measurement, by seed.
        """
        if not self.cell.kind.plays:
            return self.measurements[-1].episodes() if self.measurements else {}
        wanted = {number for numbers in self.cell.slices() for number in numbers}
        found: dict[int, Episode] = {}
        for measurement in self.measurements:
            found.update(measurement.episodes())
        return {number: found[number] for number in sorted(wanted & found.keys())}

    def missing(self) -> list[range]:
        """The slices that are not measured in full."""
        if not self.cell.kind.plays:
            return [] if self.measurements else self.cell.slices()
        there = self.episodes().keys()
        return [numbers for numbers in self.cell.slices() if not there >= set(numbers)]

    def expected_s(self, numbers: range) -> float | None:
        """How long a slice will take by what the newest one took; None when there is none."""
        if not self.measurements:
            return None
        newest = self.measurements[-1]
        return newest.seconds * (len(numbers) / newest.n if self.cell.kind.plays else 1)

    def summary(self) -> dict[str, Any]:
        """Its figures in the keys that all commands share; success_rate is None while nothing is there.

        Of a cell whose command chooses its episodes they stand under `played`, beside what its kind shows.
        """
        counts = {
            "cell": self.cell.name,
            "kind": self.cell.kind.name,
            "options": self.cell.options,
            "bundle_hash": self.bundle_hash,
            "missing": len(self.missing()),
            "commits": sorted({m.commit or "unknown" for m in self.measurements}),
            "machine": ", ".join(sorted({m.machine for m in self.measurements})) or None,
        }
        if not self.cell.kind.plays:
            newest = self.measurements[-1].result if self.measurements else {}
            played = {"played": _rate(list(self.episodes().values()), SUCCESS)} if self.cell.kind.paired else {}
            return counts | {key: newest.get(key) for key in self.cell.kind.shown} | played
        episodes = list(self.episodes().values())
        outcomes = {key: None for episode in episodes for key in episode.outcomes if key != SUCCESS}
        return {
            **counts,
            "wanted": sum(map(len, self.cell.slices())),
            **_rate(episodes, SUCCESS),
            "seed": self.cell.seed,
            **{key: self._mean(key) for key in self.cell.kind.shown},
            "outcomes": {key: _rate(episodes, key) for key in outcomes},
            "tasks": {
                task: _rate([episode for episode in episodes if episode.task == task], SUCCESS)
                for task in dict.fromkeys(episode.task for episode in episodes)
            },
        }

    def _mean(self, key: str) -> float | None:
        """Mean over episodes of what each measurement tells as its mean."""
        told = [(m.result[key], m.n) for m in self.measurements if m.result.get(key) is not None]
        return sum(value * n for value, n in told) / sum(n for _, n in told) if told else None


def measurements_of(cell: Cell, measurements: Sequence[Measurement]) -> list[Measurement]:
    """The measurements of a cell, of whatever bundle, machine and severity of its shift."""
    identity = cell.identity
    return [m for m in measurements if m.kind == cell.kind.name and m.options == identity]


def _rate(episodes: Sequence[Episode], key: str) -> dict[str, Any]:
    told = [episode.outcomes[key] for episode in episodes if key in episode.outcomes]
    if not told:
        return {"success_rate": None, "episodes": 0, "successes": 0, "ci95": [None, None]}
    rate, low, high = wilson(sum(told), len(told))
    return {"success_rate": rate, "episodes": len(told), "successes": sum(told), "ci95": [low, high]}


def compare(arm: Standing, baseline: Standing) -> dict[str, Any]:
    """Two arms over the episodes that both have played: the same seed and the same task.

    Returns:
        arm, baseline (names), pairs, arm_only and baseline_only (pairs in which only that one succeeded), difference
        (of the success rates over the pairs, arm less baseline) and p (McNemar's exact test, two-sided); the last two
        are None without a pair.
    """
    ours, theirs = _by_seed(arm), _by_seed(baseline)
    pairs = [(ours[key], theirs[key]) for key in ours.keys() & theirs.keys()]
    arm_only = sum(mine and not other for mine, other in pairs)
    baseline_only = sum(other and not mine for mine, other in pairs)
    return {
        "arm": arm.cell.name,
        "baseline": baseline.cell.name,
        "pairs": len(pairs),
        "arm_only": arm_only,
        "baseline_only": baseline_only,
        "difference": (arm_only - baseline_only) / len(pairs) if pairs else None,
        "p": mcnemar(arm_only, baseline_only) if pairs else None,
    }


def _by_seed(standing: Standing) -> dict[tuple[int, str], bool]:
    return {
        (standing.cell.seed + number, episode.task): episode.outcomes[SUCCESS]
        for number, episode in standing.episodes().items()
    }
