"""Plays action chunks: which action of which chunk belongs to the present control step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class ChunkPlayer:
    """Holds the chunk that is being played.

    A chunk is anchored at the control step whose observation it answers: its action for step k is
    actions[k - anchor]. A newer chunk replaces the older one at once, in the middle of it if need be, so the index
    is never shifted and an action is never played later or earlier than the policy meant it. Knows nothing of time,
    sockets or robots.
    """

    def __init__(self, action_dim: int) -> None:
        self._action_dim = action_dim
        self._anchor: int | None = None
        self._actions = np.empty((0, action_dim), np.float32)
        self._stale = 0

    @property
    def anchor(self) -> int | None:
        """The step of the observation that the present chunk answers; None before the first chunk."""
        return self._anchor

    @property
    def stale(self) -> int:
        """How many chunks were dropped because they came too late, since this player was made."""
        return self._stale

    def reset(self) -> None:
        """Forget the chunk (a new episode); the count of stale chunks stays."""
        self._anchor = None
        self._actions = np.empty((0, self._action_dim), np.float32)

    def splice(self, anchor: int, actions: NDArray[np.float32], step: int) -> bool:
        """Take a chunk over from control step `step` on.

        Args:
            anchor: the step of the observation that it answers.
            actions: float32 [H, A].
            step: the next step that will be played.

        Returns:
            False when the chunk is stale and was dropped: it has no action left for `step`, or a chunk with the same
            or a newer anchor is already playing.

        Raises:
            ValueError: actions of another shape, or an anchor in the future.
        """
        if actions.ndim != 2 or actions.shape[1] != self._action_dim:
            raise ValueError(f"a chunk has shape {actions.shape}; expected [horizon, {self._action_dim}]")
        if anchor > step:
            raise ValueError(f"a chunk is anchored at step {anchor}, which is after the present step {step}")
        if step - anchor >= len(actions) or (self._anchor is not None and anchor <= self._anchor):
            self._stale += 1
            return False
        self._anchor, self._actions = anchor, actions
        return True

    def action(self, step: int) -> NDArray[np.float32] | None:
        """The action float32 [A] for `step`, or None when the present chunk has none."""
        ahead = self.committed(step, 1)
        return ahead[0] if len(ahead) else None

    def committed(self, step: int, count: int) -> NDArray[np.float32]:
        """The actions for the steps `step` .. `step + count - 1`, float32 [n, A]; n < count where the chunk ends."""
        if self._anchor is None or step < self._anchor:
            return self._actions[:0]
        first = step - self._anchor
        return self._actions[first : first + count]
