"""Stages: what an online loop does, in order, each a row of its ledger once it is done.

A cycle collects, decides, learns, holds what was learned against its parent, offers it to the server, and measures.
Around the cycles the base is measured before, and base and last adapter are measured after, on other seeds and also
where nothing is shifted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

LEDGER = "ledger.jsonl"
"""File of the finished stages, in the folder of a run."""

RESERVE, COLLECT, DECIDE, LEARN = "reserve", "collect", "decide", "learn"
GATE, OFFER, MEASURE = "gate", "offer", "measure"
AFTER, UNSHIFTED = "after", "unshifted"
CYCLE = (COLLECT, DECIDE, LEARN, GATE, OFFER, MEASURE)
LEARNED = (RESERVE, LEARN, GATE, OFFER)
"""What a loop that does not learn, a control, leaves out: it collects as many episodes and only looks."""

SIMULATED = (RESERVE, GATE, MEASURE, AFTER, UNSHIFTED)
"""What only a simulator can do; where a person judges, all that is known of success is what they said."""


class LoopStopped(Exception):
    """Raised in the middle of a stage by the wish to end; what the stage has done so far is on disk."""


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


def stages(cycles: int, learning: bool = True, simulated: bool = True) -> Iterator[Stage]:
    """All stages of a loop."""
    left_out = {*(() if learning else LEARNED), *(() if simulated else SIMULATED)}
    around = [
        (0, (RESERVE, MEASURE)),
        *((cycle, CYCLE) for cycle in range(1, cycles + 1)),
        (cycles + 1, (AFTER, UNSHIFTED)),
    ]
    for cycle, verbs in around:
        for verb in verbs:
            if verb not in left_out:
                yield Stage(cycle, verb)
