"""Demo: one turn of the flywheel on one task, in minutes: success, a changed world, a drop, learning, success again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flexor.errors import FlexorError
from flexor.flywheel.online.loop_seeds import MEASURE_SEED
from flexor.flywheel.online.robot_side import counts
from flexor.flywheel.online.settings import OnlineSettings
from flexor.flywheel.online.stages import CYCLE, DECIDE, GATE, LEARN, MEASURE, OFFER, RESERVE, Stage
from flexor.flywheel.online.summary import FIGURES
from flexor.flywheel.online.watcher import Watcher
from flexor.flywheel.online.wheel import Wheel
from flexor.flywheel.report.run_page import write_run_report
from flexor.flywheel.row_file import Row
from flexor.flywheel.run_record import RunFolders, RunReader
from flexor.runtime.adapters.manifest import BASE
from flexor.settings import load_settings
from flexor.sim.shift import NONE

SETTINGS = (
    "task=tabletop",
    "tasks=[purple_block_on_yellow_block]",
    "domain_shift.current_level=medium",
    "reserve=20",
    "collect.episodes=16",
    "thresholds.consecutive_failures.trigger_threshold=2",
    "daemon.correct.stall_steps=20",
    "daemon.correct.turn_steps=80",
    *(f"lora.{said}" for said in ("profile=projector", "r=32", "lora_alpha=128", "trains=factors", "optimiser=adamw")),
    *(f"lora.{said}" for said in ("lr=0.001", "weight_decay=0", "warmup_steps=20", "final_lr=0.1", "ema=0.99")),
    *(f"lora.{said}" for said in ("batch=8", "draws=8", "encodings=8", "foresight=0", "threads=1", "steps=600")),
    "measure.episodes=20",
    "gate.shifted=20",
    "gate.unshifted=12",
    "offer.episodes=0",
)
"""Of the loop, so that a turn takes minutes: factors of expert and projector learn one task in less time than whole
weights do (docs/flywheel.md)."""

SHOWN_SEED, SHOWN, AGAIN = 4990, 2, 3
"""First seed and number of the episodes that are shown before anything changes; failures that are tried once more."""

SHOW, FAMILIAR, ONCE_MORE = "show", "familiar", "again"
STAGES = (
    Stage(0, SHOW),
    Stage(0, FAMILIAR),
    Stage(0, RESERVE),
    Stage(0, MEASURE),
    *(Stage(1, verb) for verb in CYCLE),
    Stage(1, ONCE_MORE),
)
REPORT_FOLDER = "report"
SURELY = 0.05  # McNemar's p below which a difference is no chance


class Demo(Wheel):
    """A wheel of one cycle that also shows the policy in the world it knows, and where it failed, once more.

    Args:
        run: folder of the run; one that was stopped or killed goes on where it was.
        bundle: whose policy it is, or None for the default.
        watcher: who is told.
        stopped: as Wheel has it.
        changes: of SETTINGS, a.b=c.

    Raises:
        FlexorError: as Wheel.
    """

    def __init__(
        self,
        run: Path,
        bundle: str | None,
        watcher: Watcher,
        stopped: Callable[[], bool] = lambda: False,
        changes: Sequence[str] = (),
    ) -> None:
        named = () if bundle is None else (f"model.bundle={bundle}",)
        settings = load_settings(OnlineSettings, None, [*SETTINGS, *named, *changes])
        super().__init__(run, 1, 0, settings, watcher, stopped)

    def stages(self) -> Iterator[Stage]:
        """See STAGES."""
        return iter(STAGES)

    def turn(self) -> dict[str, Any]:
        """Do what is not done yet, and tell what came of it.

        Returns:
            What a wheel tells, and: familiar (success where nothing is changed), helped, verdict, minutes, and the path
            of the report, None with its reason in report_trouble where it could not be written.

        Raises:
            FlexorError: as Wheel.turn.
        """
        result = super().turn()
        rows = {(row["cycle"], row["verb"]): row for row in self._ledger.rows}
        familiar = rows.get((0, FAMILIAR))
        helped, said = verdict(rows)
        return {
            **result,
            "familiar": None if familiar is None else {name: familiar[name] for name in FIGURES},
            "helped": helped,
            "verdict": said,
            "minutes": sum(row["seconds"] for row in self._ledger.rows) / 60,
            **self._report(),
        }

    def _show(self, cycle: int) -> Row:
        """Some episodes in real time where nothing is changed."""
        seeds = range(SHOWN_SEED, SHOWN_SEED + SHOWN)
        robot = self._open.enter_context(self._robot_in(NONE))  # kept: a closed renderer spoils the next one's frames
        for seed in seeds:
            if seed not in self._recorded(seeds):
                self._play(robot, seed, self._place.task_of(seed, robot.tasks))
        return counts(self._recorded(seeds).values())

    def _familiar(self, cycle: int) -> Row:
        """Success where nothing is changed."""
        played = self._measuring.play(BASE, self._settings.gate.unshifted, MEASURE_SEED, NONE)
        return {name: played[name] for name in FIGURES}

    def _again(self, cycle: int) -> Row:
        """The first failures in the changed world once more, by the adapter; nobody helps."""
        seeds, active = self._seeds.collect(cycle), self._active()
        rows = self._finished(seeds)
        failed = [row for row in rows if row.outcome == "failure" and row.adapter == BASE][:AGAIN]
        played = {int(row.seed) for row in rows if row.adapter == active}
        for row in failed if active != BASE else ():
            if int(row.seed) not in played:
                self._play(self._robot_side(), int(row.seed), row.task)
        tried = [row for row in self._finished(seeds) if row.adapter == active != BASE]
        return {"failed_before": len(failed), **counts(tried)}

    def _report(self) -> dict[str, Any]:
        """The page of the run; one that was stopped is not waited for."""
        if self._stopped():
            return {"report": None, "report_trouble": f"it was stopped; `flexor plot run {self._run}` makes one"}
        try:
            folders = RunFolders.find(self._run)
            written = write_run_report(RunReader(folders).read(), folders, self._run / REPORT_FOLDER)
        except FlexorError as error:
            return {"report": None, "report_trouble": str(error)}
        return {"report": written["report"], "report_trouble": None}


def verdict(rows: Mapping[tuple[int, str], Mapping[str, Any]]) -> tuple[bool | None, str]:
    """Whether what was learned helped, and that in words; None while it is not known.

    Args:
        rows: of the ledger, by cycle and verb.
    """
    before, after = rows.get((0, MEASURE)), rows.get((1, MEASURE))
    if before is None or after is None:
        return None, "it has not come to its end; give the same --out, and it goes on"
    if not rows[1, DECIDE]["learn"]:
        return False, f"nothing was learned: {rows[1, DECIDE]['why']}; it succeeds {_share(before)} as it is"
    if rows[1, LEARN]["adapter"] is None:
        return False, f"nothing was learned: {rows[1, LEARN]['why']}; it succeeds {_share(before)} as it is"
    offer, gate = rows[1, OFFER], rows[1, GATE]
    pair = gate["shifted"]
    (was, now), (knew, knows) = _shares(pair), _shares(gate["unshifted"])
    change = f"{was} before it learned, {now} with what it learned; where nothing is changed, {knew} and {knows}"
    more = pair["other_only"] > pair["reference_only"]
    if offer["state"] != "ACTIVE":
        why = "it helped, and was not taken" if more else "it did not help, and was not taken"
        return False, f"{why} ({offer['reason']}): {change}; the bundle alone is served"
    if not more:
        return False, f"it was taken, and it did not help: {change}"
    sure = "" if pair["p"] < SURELY else "; that may be chance"
    return True, f"success again: {change} (p {pair['p']:.2g}{sure})"


def _share(figures: Mapping[str, Any]) -> str:
    return f"{figures['successes']} of {figures['episodes']}"


def _shares(pair: Mapping[str, Any]) -> tuple[str, str]:
    """Of two arms on the same episodes, the parent first."""
    parent, adapter = pair["both"] + pair["reference_only"], pair["both"] + pair["other_only"]
    return f"{parent} of {pair['episodes']}", f"{adapter} of {pair['episodes']}"
