"""CanaryTest: whether a candidate is no worse than its parent by ten points, decided while episodes come in pairs.

Each pair is one episode of the candidate and one of the parent; d = (candidate succeeded) - (parent succeeded) is -1, 0
or 1. Testing by betting (Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", arXiv
2010.09686): against the claim that E[d] is at most -MARGIN one bets a part x of one's money on every pair, which
becomes money * (1 + x (d + MARGIN)). While the claim holds, money grows in no expectation, so it hardly ever becomes
BAR; once it does, the candidate is promoted. It holds for pairs that share their seed and for pairs that do not, for
every success rate of the parent, and whenever one looks. Money is spread over several x, so that none has to be chosen.

Ville's inequality allows 1 / ALPHA = 20 as the bar for ever. In at most PAIRS pairs money has less time to grow by
chance: with BAR the worst case of all success rates, counted exactly (`worst_case`), is 4.8 %.

Likewise one bets against the claim that the candidate is as good as its parent, and rejects it when that pays. What is
neither is "insufficient": the parent stays. Two policies that hardly ever fail cannot be told apart in 20 pairs (were
the parent at 100 % and the candidate at 90 %, 20 successes in a row would still come in 12 % of trials): then a person
may order the swap, or allow more pairs. Near to it is STEP (Snyder et al., arXiv 2503.10966), a little sharper for a
number of pairs that is fixed beforehand, and only for pairs of independent outcomes.

No I/O, no clock, no randomness.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Verdict = Literal["promote", "reject", "insufficient"]

MARGIN = 0.10
"""Of success rates: how much worse than its parent a candidate must not be."""

ALPHA = 0.05
"""Of all candidates that are worse by MARGIN or more, at most this part is promoted; of all that are as good as their
parent, at most this part is rejected."""

PAIRS = 20
"""So many pairs, 40 episodes, and no more."""

BAR = 12.0
"""Money at which a candidate is promoted within PAIRS pairs; beyond them it has to be 1 / ALPHA."""

STAKES = (0.4, 0.7, 1.0)
"""Parts of the money that are bet on every pair, against the claim that the candidate is worse."""

STAKES_AGAINST = (0.3, 0.6, 0.9)
"""The same, against the claim that it is as good."""


class CanaryTest:
    """One trial of one candidate.

    Attributes:
        pairs: seen so far.
        wins: pairs in which the candidate alone succeeded; losses: the parent alone.
        verdict: None while it is open; the trial is over with the first one.
    """

    def __init__(self, max_pairs: int = PAIRS) -> None:
        """
        Args:
            max_pairs: 1 or more; above PAIRS the bar is higher.

        Raises:
            ValueError: it is less.
        """
        if max_pairs < 1:
            raise ValueError(f"max_pairs is {max_pairs}; expected 1 or more")
        self.max_pairs = max_pairs
        self.bar = BAR if max_pairs <= PAIRS else 1.0 / ALPHA
        self.pairs = self.wins = self.losses = 0
        self.verdict: Verdict | None = None

    @property
    def money_for(self) -> float:
        """Of who bets that the candidate is not worse by MARGIN."""
        return money_for(self.pairs, self.wins, self.losses)

    @property
    def money_against(self) -> float:
        """Of who bets that it is worse than its parent."""
        return money_against(self.wins, self.losses)

    def observe(self, candidate: bool, parent: bool) -> Verdict | None:
        """Take one pair: whether each succeeded; the verdict, if there is one now.

        Raises:
            ValueError: the trial is over.
        """
        if self.verdict is not None:
            raise ValueError(f"the trial ended with {self.verdict!r} after {self.pairs} pairs; begin another one")
        self.pairs += 1
        self.wins += candidate and not parent
        self.losses += parent and not candidate
        self.verdict = self._decide()
        return self.verdict

    def give_up(self) -> Verdict:
        """End the trial without more pairs."""
        self.verdict = self.verdict or "insufficient"
        return self.verdict

    def _decide(self) -> Verdict | None:
        if self.money_against >= 1.0 / ALPHA:
            return "reject"
        if self.money_for >= self.bar:
            return "promote"
        left = self.max_pairs - self.pairs
        if money_for(self.pairs + left, self.wins + left, self.losses) < self.bar:
            return "insufficient"  # also when the candidate wins all that is left
        return None


def money_for(pairs: int, wins: int, losses: int) -> float:
    """What 1 has become that was bet on the candidate."""
    ties = pairs - wins - losses
    grown = (
        (1 + x * (1 + MARGIN)) ** wins * (1 - x * (1 - MARGIN)) ** losses * (1 + x * MARGIN) ** ties for x in STAKES
    )
    return sum(grown) / len(STAKES)


def money_against(wins: int, losses: int) -> float:
    """What 1 has become that was bet on its parent."""
    return sum((1 - x) ** wins * (1 + x) ** losses for x in STAKES_AGAINST) / len(STAKES_AGAINST)


def probabilities(win: float, loss: float, max_pairs: int = PAIRS) -> tuple[dict[Verdict, float], float]:
    """How a trial ends, counted over everything that can happen, and its expected number of pairs.

    Args:
        win, loss: probabilities that in a pair the candidate alone succeeds, and the parent alone.
    """
    ends: dict[Verdict, float] = {"promote": 0.0, "reject": 0.0, "insufficient": 0.0}
    open_, expected = {(0, 0): 1.0}, 0.0
    for pair in range(1, max_pairs + 1):
        expected += sum(open_.values())
        after: dict[tuple[int, int], float] = {}
        for (wins, losses), chance in open_.items():
            for more_wins, more_losses, step in ((1, 0, win), (0, 1, loss), (0, 0, 1.0 - win - loss)):
                key = (wins + more_wins, losses + more_losses)
                after[key] = after.get(key, 0.0) + chance * step
        open_ = {}
        for (wins, losses), chance in after.items():
            trial = CanaryTest(max_pairs)
            trial.pairs, trial.wins, trial.losses = pair, wins, losses
            verdict = trial._decide()
            if verdict is None:
                open_[(wins, losses)] = chance
            else:
                ends[verdict] += chance
    return ends, expected


def worst_case(difference: float, verdict: Verdict, losses: Sequence[float], max_pairs: int = PAIRS) -> float:
    """The largest probability of a verdict, where the candidate's success rate is the parent's + `difference`.

    Args:
        losses: probabilities of a loss that are tried; a win has that + `difference`.
    """
    chances = [(loss + difference, loss) for loss in losses if loss + difference >= 0 and 2 * loss + difference <= 1]
    return max(probabilities(win, loss, max_pairs)[0][verdict] for win, loss in chances)
