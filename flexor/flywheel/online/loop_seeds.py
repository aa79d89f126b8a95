"""LoopSeeds: which episodes a loop learns from, offers adapters in and is measured on, so that they stay apart."""

from __future__ import annotations

from dataclasses import dataclass

from flexor.errors import FlexorError

RESERVE_SEED, COLLECT_SEED, OFFER_SEED, MEASURE_SEED, AFTER_SEED = 1000, 2000, 2500, 5000, 6000
"""Of the first episode of each kind: what is learned from is never measured on, and the other way round."""

SEED_STEP = 1000
"""By how much the collected and offered episodes of one loop differ from those of the next."""

ROOM = OFFER_SEED - COLLECT_SEED
"""How many of its own seeds a loop has for collecting, and as many for offering."""

SHADOW_SEEDS = 20
"""What an offer may need beside its trial, while the server waits for enough live requests."""


@dataclass(frozen=True, slots=True)
class LoopSeeds:
    """The seeds of one loop.

    Attributes:
        loop: 0 to 2.
        collected: episodes of a cycle.
        offered: episodes of a trial at most, two a seed.
    """

    loop: int
    collected: int
    offered: int

    def check(self, cycles: int) -> None:
        """What is collected, what is offered and what is measured must stay apart.

        Raises:
            FlexorError: they would not.
        """
        most = max(cycles * self.collected, (cycles + 1) * self._stride)
        if most > ROOM or COLLECT_SEED + (self.loop + 1) * SEED_STEP > MEASURE_SEED:
            raise FlexorError(
                f"{cycles} cycles of {self.collected} collected and {self.offered} offered episodes with seed "
                f"{self.loop} need more than the {ROOM} seeds that each kind has; fewer, and a seed of 0 to 2, fit"
            )

    def collect(self, cycle: int) -> range:
        """Of the episodes that a cycle collects."""
        first = COLLECT_SEED + self.loop * SEED_STEP + (cycle - 1) * self.collected
        return range(first, first + self.collected)

    def offer(self, cycle: int) -> range:
        """Of the episodes in which the adapter of a cycle is tried, each played twice."""
        first = OFFER_SEED + self.loop * SEED_STEP + cycle * self._stride
        return range(first, first + self._stride)

    @property
    def _stride(self) -> int:
        return self.offered // 2 + SHADOW_SEEDS
