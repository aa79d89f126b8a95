"""Offering: an adapter is announced to the server, which tries it on episodes that are played for it, in pairs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from flexor.errors import FlexorError
from flexor.flywheel.online.robot_side import RobotSide, told
from flexor.flywheel.online.settings import OfferSettings
from flexor.flywheel.online.stages import LoopStopped
from flexor.learner.continual.announcer import TRY_AGAIN
from flexor.runtime.adapters.store_state import UNDER_WAY
from flexor.runtime.serving.channel import ServerRefused
from flexor.runtime.serving.control import ServerControl

ORDER_TIMEOUT_S = 60.0  # an order ends when the adapter is verified and loaded
SHADOW_EPISODES = 12  # that the server may take to see enough live requests; they are no part of the trial


class Offering:
    """Args:
    robot: that plays the episodes, nobody correcting it.
    settings: how it is tried.
    task_of: which task the episode of a seed is.
    on_line: told every episode in words.
    stopped: whether to end.
    """

    def __init__(
        self,
        robot: RobotSide,
        settings: OfferSettings,
        task_of: Callable[[int], str],
        on_line: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> None:
        self._robot, self._settings, self._task_of = robot, settings, task_of
        self._on_line, self._stopped = on_line, stopped

    def make(self, adapter: str, seeds: range) -> dict[str, Any]:
        """Push an adapter, unless it is known, and play until it is decided, each seed twice once the trial has begun.

        Returns:
            adapter, state, reason and told.

        Raises:
            LoopStopped: it was stopped.
            FlexorError: the server never decides, or cannot take it now; the same command goes on.
        """
        row = self._announced(adapter)
        played, began, seed, shown = 0, time.monotonic(), seeds[0], 0
        most = self._settings.episodes + SHADOW_EPISODES
        while row["state"] in UNDER_WAY:
            if played >= most and time.monotonic() - began > self._settings.timeout_s:
                raise FlexorError(
                    f"{adapter} is still {row['state']} after {played} episodes; `flexor adapter list` tells what it "
                    "waits for"
                )
            if not row["half_a_pair"]:  # the two of a pair see the same scene
                seed, shown = seeds[shown % len(seeds)], shown + 1
            result = None if self._stopped() else self._robot.play(seed, self._task_of(seed), correcting=False)
            if result is None:
                raise LoopStopped
            self._on_line(told(result))
            played += 1
            row = self._row(adapter)
        return {"adapter": adapter, **{key: row[key] for key in ("state", "reason", "told")}}

    def _announced(self, adapter: str) -> dict[str, Any]:
        row = self._row(adapter)
        if row["state"] != "UNANNOUNCED":
            return row
        with ServerControl(self._robot.server.address, ORDER_TIMEOUT_S) as control:
            try:
                control.order("push", adapter)
            except ServerRefused as error:
                if error.code in TRY_AGAIN:
                    raise FlexorError(f"{adapter} cannot be announced: {error}; give the command again") from error
                self._on_line(str(error))
        return self._row(adapter)

    def _row(self, adapter: str) -> dict[str, Any]:
        """How the server lists an adapter, and whether a pair of the trial waits for its second episode."""
        with ServerControl(self._robot.server.address) as control:
            standing = control.adapters()
        listed = {row["id"]: row for row in standing["adapters"]}
        if adapter not in listed:
            raise FlexorError(f"the server knows no adapter {adapter}; was its folder removed?")
        trial = standing["trial"]
        return {**listed[adapter], "half_a_pair": trial is not None and trial["begun"] % 2 == 1}
