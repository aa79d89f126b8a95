"""The most telling episodes of a run: its first failure, a correction, and the same seed before and after a swap."""

from __future__ import annotations

from collections.abc import Sequence

from flexor.flywheel.cycles import Cycle, judged
from flexor.runtime.episodes.index_row import EpisodeRow

Telling = list[tuple[str, EpisodeRow]]
"""Why, and which; no episode twice."""


def telling_episodes(found: Sequence[Cycle]) -> Telling:
    """In this order: the first failure; the first correction that ended in success, else the first; a failure and
    the same task and seed in a later cycle, where it succeeds if there is such a pair."""
    rows = [row for cycle in found for row in cycle.rows]
    chosen: Telling = []
    failure = next((row for row in rows if row.outcome == "failure"), None)
    if failure is not None:
        chosen.append(("first failure", failure))
    helped = [row for row in rows if row.interventions]
    if helped:
        chosen.append(("a correction", next((row for row in helped if row.outcome == "success"), helped[0])))
    pair = _same_seed(found)
    if pair is not None:
        before, after = pair
        chosen += [(f"seed {before.seed} before a swap", before), ("the same seed with the adapter after it", after)]
    named: dict[str, tuple[str, EpisodeRow]] = {}
    for why, row in chosen:
        named[row.id] = (f"{named[row.id][0]}; {why}" if row.id in named else why, row)
    return list(named.values())


def _same_seed(found: Sequence[Cycle]) -> tuple[EpisodeRow, EpisodeRow] | None:
    """A failure of a cycle's own adapter, and the same robot, task and seed played by the adapter of a later cycle.

    Where that was on trial before it became active, the trial counts: it is where both play the same seeds.
    """
    rows, second_best = [row for cycle in found for row in cycle.rows], None
    for at, cycle in enumerate(found):
        later = {after.adapter for after in found[at + 1 :]} - {cycle.adapter}
        for before in (row for row in cycle.own if row.outcome == "failure"):
            for after in (row for row in rows if row.adapter in later and _key(row) == _key(before)):
                if judged(after):
                    return before, after
                second_best = second_best or (before, after)
    return second_best


def _key(row: EpisodeRow) -> tuple[str, str, str]:
    return row.robot, row.task, row.seed
