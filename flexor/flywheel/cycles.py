"""Cycles: the stretches of episodes between two activations of adapters, told from the adapters of the episodes alone.

This is the one place that says what a cycle is, and which episodes count for the success of a policy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from flexor.runtime.episodes.index_row import EpisodeRow
from flexor.runtime.metrics import wilson

TRIAL_RUN = 2
"""Most episodes in a row that one adapter plays in a canary: its pairs are drawn AB or BA (adapters/trial.py)."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """One stretch.

    Attributes:
        number: 0 for the first.
        adapter: that was active; `base` for none.
        rows: its episodes, in the order in which they began, those on trial among them.
    """

    number: int
    adapter: str
    rows: tuple[EpisodeRow, ...]

    @property
    def own(self) -> tuple[EpisodeRow, ...]:
        """The episodes that the active adapter played; the others tried a candidate."""
        return tuple(row for row in self.rows if row.adapter == self.adapter)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: what its own episodes came to."""
        own = self.own
        bits = [row.entropy_bits_mean for row in own if row.entropy_bits_mean is not None]
        return {
            "cycle": self.number,
            "adapter": self.adapter,
            "began": self.rows[0].started,
            "first": self.rows[0].id,
            "last": self.rows[-1].id,
            "episodes": len(own),
            "on_trial": len(self.rows) - len(own),
            **success(own),
            "labels": labels(own),
            "entropy_bits_mean": sum(bits) / len(bits) if bits else None,
            "alarms": sum(row.alarm_step is not None for row in own),
            "interventions": sum(row.interventions > 0 for row in own),
        }


def cycles(rows: Sequence[EpisodeRow]) -> list[Cycle]:
    """The cycles of episodes in the order in which they began.

    Another adapter than the active one has become active where it plays more than TRIAL_RUN episodes in a row, or
    where the active one does not come back after it. Else it was on trial, and its episodes belong to the cycle of
    the active one.
    """
    runs = [(adapter, list(run)) for adapter, run in groupby(rows, key=lambda row: row.adapter)]
    found: list[tuple[str, list[EpisodeRow]]] = []
    for at, (adapter, run) in enumerate(runs):
        back = found and at + 1 < len(runs) and runs[at + 1][0] == found[-1][0]
        if found and (adapter == found[-1][0] or (len(run) <= TRIAL_RUN and back)):
            found[-1][1].extend(run)
        else:
            found.append((adapter, run))
    return [Cycle(number, adapter, tuple(run)) for number, (adapter, run) in enumerate(found)]


def judged(row: EpisodeRow) -> bool | None:
    """Whether the policy succeeded by itself; None where nobody knows.

    Where somebody had to help it did not. Left out, such episodes would make the others look better than the policy
    is: help comes where it fails.
    """
    if row.outcome == "success" and row.interventions:
        return False
    return {"success": True, "failure": False}.get(row.outcome)


def success(rows: Sequence[EpisodeRow]) -> dict[str, Any]:
    """`judged`, `successes`, and `success_rate` with its 95 % Wilson interval `ci95`; None and [None, None] of none."""
    told = [outcome for row in rows if (outcome := judged(row)) is not None]
    rate, low, high = wilson(sum(told), len(told)) if told else (None, None, None)
    return {"judged": len(told), "successes": sum(told), "success_rate": rate, "ci95": [low, high]}


def labels(rows: Sequence[EpisodeRow]) -> dict[str, int]:
    """Failures by label, the most frequent first; "none" where nobody told why."""
    return dict(Counter(row.label or "none" for row in rows if row.outcome == "failure").most_common())


def success_window(rows: Sequence[EpisodeRow], window: int, last: int | None = None) -> list[dict[str, Any]]:
    """`success` of the `window` judged episodes up to each of the `last` ones (None: all), with its number and id."""
    told = [row for row in rows if judged(row) is not None]
    ends = range(0 if last is None else max(0, len(told) - last), len(told))
    return [{"n": at + 1, "id": told[at].id, **success(told[max(0, at + 1 - window) : at + 1])} for at in ends]
