"""Stages: what an online loop does, in order, each a row of its ledger once it is done.

A cycle collects, decides, learns, holds what was learned against its parent, offers it to the server, and measures.
Around the cycles the base is measured before, and base and last adapter are measured after, on other seeds and also
where nothing is shifted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

RESERVE, COLLECT, DECIDE, LEARN = "reserve", "collect", "decide", "learn"
GATE, OFFER, MEASURE = "gate", "offer", "measure"
AFTER, UNSHIFTED = "after", "unshifted"
CYCLE = (COLLECT, DECIDE, LEARN, GATE, OFFER, MEASURE)


@dataclass(frozen=True, slots=True)
class Stage:
    """One thing to do.

    Attributes:
        cycle: 0 before the first one, then 1 to `cycles`; one more for what comes after the last.
        verb: what.
    """

    cycle: int
    verb: str

    @property
    def key(self) -> str:
        """Its name in the ledger."""
        return f"{self.cycle}/{self.verb}"


def stages(cycles: int, learning: bool) -> Iterator[Stage]:
    """All stages of a loop; one that does not learn, a control, collects as many episodes and only looks."""
    yield Stage(0, RESERVE)
    yield Stage(0, MEASURE)
    for cycle in range(1, cycles + 1):
        for verb in CYCLE if learning else (COLLECT, DECIDE, MEASURE):
            yield Stage(cycle, verb)
    for verb in (AFTER, UNSHIFTED):
        yield Stage(cycles + 1, verb)
