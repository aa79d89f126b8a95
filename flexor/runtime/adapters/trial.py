"""Trial: which episodes of a canary play the candidate and which its parent, and what they come to, pair by pair."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from flexor.runtime.adapters.canary import PAIRS, CanaryTest, Verdict

Arm = bool
"""True for the candidate, False for its parent."""


@dataclass(slots=True)
class _Pair:
    key: object
    first: Arm
    begun: int = 1
    outcomes: dict[Arm, bool | None] = field(default_factory=dict)


class Trial:
    """At most so many episodes, in pairs whose order is drawn.

    The episode after the first of a pair is its other half, one of the same task and seed before any other: whoever
    plays every seed twice, one after the other, has pairs that share it. Pairs count in the order in which they began,
    so that quick successes do not count before slow failures; a pair of which a half has no outcome does not count.
    """

    def __init__(self, max_episodes: int = 2 * PAIRS, seed: int | None = None) -> None:
        self._test = CanaryTest(max_episodes // 2)
        self._draw = random.Random(seed)
        self._pairs: list[_Pair] = []
        self._counted = 0

    def assign(self, key: object) -> tuple[int, Arm] | None:
        """Begin an episode: its pair and what it plays; None when it is none of the trial's.

        Args:
            key: equal for episodes that begin alike.
        """
        if self._test.verdict is not None:
            return None
        halves = [number for number, pair in enumerate(self._pairs) if pair.begun == 1]
        number = next((n for n in halves if self._pairs[n].key == key), halves[0] if halves else None)
        if number is not None:
            self._pairs[number].begun = 2
            return number, not self._pairs[number].first
        if len(self._pairs) >= self._test.max_pairs:
            return None
        self._pairs.append(_Pair(key, self._draw.random() < 0.5))
        return len(self._pairs) - 1, self._pairs[-1].first

    def ended(self, number: int, arm: Arm, success: bool | None) -> Verdict | None:
        """End an episode that was assigned; None where nobody knows how. The verdict, if there is one now."""
        self._pairs[number].outcomes[arm] = success
        while self._test.verdict is None and self._counted < len(self._pairs):
            outcomes = self._pairs[self._counted].outcomes
            if len(outcomes) < 2:
                break
            self._counted += 1
            candidate, parent = outcomes[True], outcomes[False]
            if candidate is not None and parent is not None:
                self._test.observe(candidate, parent)
        if self._test.verdict is None and self._counted == self._test.max_pairs:
            self._test.give_up()
        return self._test.verdict

    def to_dict(self) -> dict[str, Any]:
        """How it stands; plain values."""
        test = self._test
        return {
            "pairs": test.pairs,
            "wins": test.wins,
            "losses": test.losses,
            "money_for": test.money_for,
            "money_against": test.money_against,
            "bar": test.bar,
            "begun": sum(pair.begun for pair in self._pairs),
            "max_episodes": 2 * test.max_pairs,
            "verdict": test.verdict,
        }
