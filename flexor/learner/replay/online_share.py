"""OnlineShare: how much of what a task is learned from is the robot's own, driven by where the losses stand.

After SOP (arXiv 2601.03044): share = exp(alpha * l_on) / (exp(alpha * l_on) + exp(l_off)), clipped, where l are the
mean losses of the last `window` samples of each pool and alpha > 1, so that what the policy is bad at on the robot
comes first. SOP clips to [0.2, 0.8] and takes 200 samples; its alpha is not published.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from flexor.learner.replay.replay_error import ReplayError

START = 0.5  # before there are losses of both pools


class OnlineShare:
    """The shares of all tasks.

    Args:
        alpha: weight of the online loss, above 1.
        window: losses of each task and pool that count.
        low, high: what the share is clipped to.
    """

    def __init__(self, alpha: float, window: int, low: float, high: float) -> None:
        self._alpha, self._window, self._low, self._high = alpha, window, low, high
        self._losses: dict[str, dict[bool, deque[float]]] = {}

    def note(self, task: str, online: bool, loss: float) -> None:
        """A sample of the task, from the robot's own episodes or from the reservoir, had this loss.

        Raises:
            ReplayError: it is not finite.
        """
        if not math.isfinite(loss):
            raise ReplayError(f"a sample of {task} had the loss {loss}; expected a finite number: stop that training")
        pools = self._losses.setdefault(task, {pool: deque(maxlen=self._window) for pool in (True, False)})
        pools[online].append(float(loss))

    def share(self, task: str) -> float:
        """The share of the robot's own episodes in what the task is learned from next."""
        losses = self._losses.get(task, {})
        share = START
        if losses and all(losses.values()):
            on, off = (sum(losses[pool]) / len(losses[pool]) for pool in (True, False))
            share = _sigmoid(self._alpha * on - off)
        return min(max(share, self._low), self._high)

    def state(self) -> dict[str, Any]:
        """The losses, as JSON has them."""
        return {task: {"online": list(p[True]), "replay": list(p[False])} for task, p in self._losses.items()}

    def restore(self, state: Mapping[str, Mapping[str, list[float]]]) -> None:
        """Go on from an earlier state()."""
        self._losses = {
            task: {
                pool: deque(pools[name], maxlen=self._window) for pool, name in ((True, "online"), (False, "replay"))
            }
            for task, pools in state.items()
        }


def _sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), the share as one function of alpha * l_on - l_off; no loss is too large for it."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
