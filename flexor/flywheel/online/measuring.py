"""Measuring: success of the base and of adapters in lockstep, on seeds that nothing is learned from."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flexor.flywheel.evaluate import evaluate, open_policy
from flexor.flywheel.online.loop_world import LoopWorld
from flexor.flywheel.online.stages import LoopStopped
from flexor.flywheel.online.summary import FIGURES
from flexor.flywheel.row_file import Row
from flexor.flywheel.success_gate import SuccessPair
from flexor.runtime.adapters.manifest import BASE
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.torch_merge import merge_adapter
from flexor.sim.shift import Shift

MEASURED, MERGED = "measured", "merged"
LINE_EVERY = 20  # episodes


class Measuring:
    """Episodes that were played once are kept in the run and not played again.

    Args:
        run: folder of the run.
        adapters: the directory of adapters.
        bundle: that they are of.
        world: where they play.
        workers: processes.
        on_line: told what is measured.
        stopped: asked after each episode; ends it by LoopStopped.
    """

    def __init__(
        self,
        run: Path,
        adapters: Path,
        bundle: Bundle,
        world: LoopWorld,
        workers: int,
        on_line: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> None:
        self._run, self._adapters, self._bundle, self._world = run, adapters, bundle, world
        self._workers, self._on_line, self._stopped = workers, on_line, stopped

    def play(self, adapter: str, episodes: int, seed: int, shift: Shift) -> dict[str, Any]:
        """What `evaluate` returns of an adapter, `base` for none, in a shifted world."""
        played = 0

        def watch(row: Row) -> None:
            nonlocal played
            if self._stopped():
                raise LoopStopped
            played += 1
            if played % LINE_EVERY == 0:
                self._on_line(f"measuring {adapter}, shift {shift.level}: {played} of {episodes}")

        return evaluate(
            str(self._merged(adapter)),
            self._world.sim,
            self._world.tasks,
            episodes,
            seed,
            self._workers,
            entropy=False,
            keep=self._run / MEASURED,
            watch=watch,
            make_robot=self._world.make_robot(shift),
            make_policy=functools.partial(open_policy, precision=None),
        )

    def pair(self, first: str, second: str, episodes: int, seed: int, shift: Shift) -> SuccessPair:
        """Two adapters on the same episodes; whose weights they are is what differs."""
        reference, other = (
            self.play(adapter, episodes, seed, shift) | {"bundle_hash": ""} for adapter in (first, second)
        )
        return SuccessPair.of(reference, other)

    def compared(self, last: str, episodes: int, seed: int, shift: Shift) -> dict[str, Any]:
        """The base and the last adapter on the same episodes.

        Returns:
            base, last (figures of each), adapter (the last one), points between them with their interval ci95 and
            mcnemar_p, and rows: seed, task and success of each episode of the last one.
        """
        if episodes == 0:
            nothing: dict[str, Any] = {"base": None, "last": None, "adapter": last, "points": None, "mcnemar_p": None}
            return nothing | {"ci95": [None, None], "rows": []}
        pair = self.pair(BASE, last, episodes, seed, shift)
        arms = {name: self.play(adapter, episodes, seed, shift) for name, adapter in (("base", BASE), ("last", last))}
        return {
            **{name: {key: arm[key] for key in FIGURES} for name, arm in arms.items()},
            "adapter": last,
            "points": 100 * pair.difference,
            "ci95": [100 * pair.low, 100 * pair.high],
            "mcnemar_p": pair.p,
            "rows": [{key: row[key] for key in ("seed", "task", "success")} for row in arms["last"]["rows"]],
        }

    def _merged(self, adapter: str) -> Path:
        """A bundle that plays like an adapter in its slot."""
        if adapter == BASE:
            return self._bundle.path
        out = self._run / MERGED / adapter
        if not out.exists():
            merge_adapter(self._bundle, self._adapters / adapter, out)
        return out
