"""Reproduction: the four LIBERO suites that papers report, beside the numbers that were published under a protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from flexor.errors import FlexorError
from flexor.runtime.metrics import Count, weighted_sum, wilson

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
TASKS = 10  # of each suite


@dataclass(frozen=True, slots=True)
class Published:
    """Success of a Pi0.5 on LIBERO as its makers tell it.

    Attributes:
        source: who tells it.
        successes: by suite; in SUITES' order its columns.
        episodes: of each suite. They are the protocol's; the published percentages are whole numbers of successes.
    """

    source: str
    successes: Mapping[str, int]
    episodes: int

    def rates(self) -> dict[str, float]:
        """By suite."""
        return {suite: count / self.episodes for suite, count in self.successes.items()}


PUBLISHED = {
    "openpi": Published(
        "openpi's README, pi0.5 at 30k steps", dict(zip(SUITES, (494, 491, 490, 462), strict=True)), 500
    ),
    "lerobot": Published(
        "LeRobot's documentation, pi05_libero_finetuned", dict(zip(SUITES, (97, 99, 98, 96), strict=True)), 100
    ),
}
"""By the protocol under which they were measured: 98.8 98.2 98.0 92.4, mean 96.85; and 97 99 98 96, mean 97.5."""


@dataclass(slots=True)
class Reproduction:
    """Episodes of a bundle on the suites, counted as they finish.

    Attributes:
        protocol: key of PUBLISHED.
        suites: those that are played, of SUITES.
        tasks: of each suite.
        trials: episodes a task.
        assets: hash of LIBERO's assets and whether they are reduced, as the robot names them.
        render: whose frames the policy sees.
        counts: [successes, episodes] by suite.
        faults: episodes that failed because the simulator broke down.
    """

    protocol: str
    suites: Sequence[str]
    tasks: int
    trials: int
    assets: Mapping[str, Any]
    render: str
    counts: dict[str, list[int]] = field(default_factory=dict)
    faults: int = 0

    def __post_init__(self) -> None:
        """Raises FlexorError for suites without a published number, or one named twice."""
        if self.protocol not in PUBLISHED:
            known = ", ".join(PUBLISHED)
            raise FlexorError(f"nothing is published under the protocol {self.protocol!r}, expected one of: {known}")
        if unknown := [suite for suite in self.suites if suite not in SUITES]:
            raise FlexorError(f"nothing is published of {', '.join(unknown)}, expected some of: {', '.join(SUITES)}")
        if not self.suites or len(set(self.suites)) < len(self.suites):
            raise FlexorError(f"suites are {', '.join(self.suites) or 'none'}; expected each once, at least one")
        self.counts = {suite: [0, 0] for suite in self.suites}

    @property
    def published(self) -> Published:
        """What it is compared with."""
        return PUBLISHED[self.protocol]

    @property
    def wanted(self) -> int:
        """Episodes of each suite."""
        return self.tasks * self.trials

    def add(self, suite: str, row: Mapping[str, Any]) -> None:
        """Count one episode."""
        count = self.counts[suite]
        count[0], count[1] = count[0] + bool(row["success"]), count[1] + 1
        self.faults += row["fault"] is not None

    def to_dict(self) -> dict[str, Any]:
        """What there is.

        Returns:
            success_rate and ci95 (the mean of the four suites; None unless each has an episode), episodes, successes,
            published (of the mean), difference and difference_ci95 (ours less theirs; rates, not percent), suites (the
            same of each, with `wanted` episodes), source, protocol, render, assets_hash, reduced_assets, faults,
            complete, and notes (sentences: what is missing, and what makes the numbers no fair comparison).
        """
        theirs, by = self.published, self.published.rates()
        played = {suite: (count[0], count[1]) for suite, count in self.counts.items() if count[1]}
        mean: dict[str, Any] = {key: None for key in ("success_rate", "ci95", "difference", "difference_ci95")}
        if len(played) == len(SUITES):
            each = Fraction(1, len(SUITES))
            rate, *ends = weighted_sum((each, count) for count in played.values())
            pairs = [(each, played[suite], theirs.successes[suite]) for suite in SUITES]
            mean = {"success_rate": rate, "ci95": ends, **_difference(pairs, theirs.episodes)}
        return {
            **mean,
            **self.assets,
            "render": self.render,
            "episodes": sum(n for _, n in self.counts.values()),
            "successes": sum(s for s, _ in self.counts.values()),
            "published": sum(by.values()) / len(by),
            "suites": [self._suite(suite, played.get(suite)) for suite in self.suites],
            "source": theirs.source,
            "protocol": self.protocol,
            "faults": self.faults,
            "complete": not self._unfinished(),
            "notes": self.notes(),
        }

    def notes(self) -> list[str]:
        """What is missing, and what makes the numbers no fair comparison."""
        notes = [f"{suite}: {said}" for suite, said in self._unfinished().items()]
        episodes = self.published.episodes
        if self.wanted < episodes:
            ours, theirs = f"{self.tasks} x {self.trials}", f"{TASKS} x {episodes // TASKS}"
            notes.append(f"tasks x trials of each suite are {ours}; the published numbers are of {theirs}")
        if self.assets.get("reduced_assets"):
            notes.append("reduced assets: pictures are not the benchmark's own everywhere (docs/libero.md)")
        if self.render != "official":
            notes.append(f"{self.render} frames, not the benchmark's: these numbers are no reproduction")
        if self.protocol == "lerobot":
            notes.append(
                "episodes begin with the official initial states in turn; in LeRobot's evaluation they did not before "
                "February 2026, so that the published ones began elsewhere (docs/libero.md)"
            )
        if self.faults:
            notes.append(f"failures because the simulator broke down: {self.faults}")
        return notes

    def _unfinished(self) -> dict[str, str]:
        short = {suite: n for suite, (_, n) in self.counts.items() if n < self.wanted}
        said = {suite: f"{n} of {self.wanted} episodes played" for suite, n in short.items()}
        return said | {suite: "not asked for" for suite in SUITES if suite not in self.counts}

    def _suite(self, suite: str, count: Count | None) -> dict[str, Any]:
        theirs = self.published
        told: dict[str, Any] = {
            "suite": suite, "success_rate": None, "ci95": None, "episodes": 0, "successes": 0, "wanted": self.wanted,
            "published": theirs.rates()[suite], "difference": None, "difference_ci95": None,
        }  # fmt: skip
        if count is None:
            return told
        rate, *ends = wilson(*count)
        ours = {"success_rate": rate, "ci95": ends, "successes": count[0], "episodes": count[1]}
        return told | ours | _difference([(Fraction(1), count, theirs.successes[suite])], theirs.episodes)


def _difference(pairs: Sequence[tuple[Fraction, Count, int]], episodes: int) -> dict[str, Any]:
    """Ours less theirs, of weighted suites: (weight, our count, their successes of `episodes`)."""
    terms = [term for weight, ours, theirs in pairs for term in ((weight, ours), (-weight, (theirs, episodes)))]
    value, low, high = weighted_sum(terms)
    return {"difference": value, "difference_ci95": [low, high]}
