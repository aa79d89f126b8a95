"""Wheel: one online loop from its first look at the base to its last, each stage done once whoever is killed meanwhile.

Server, robot and learner are three processes: the policy server and the learner are `flexor serve` and `flexor learn`,
the robot's side is this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from flexor.flywheel.online.learner_process import learn_adapter
from flexor.flywheel.online.loop_seeds import AFTER_SEED, MEASURE_SEED, RESERVE_SEED, LoopSeeds
from flexor.flywheel.online.loop_triggers import LoopTriggers
from flexor.flywheel.online.loop_world import LoopWorld
from flexor.flywheel.online.measuring import Measuring
from flexor.flywheel.online.offering import Offering
from flexor.flywheel.online.practice import practised_task
from flexor.flywheel.online.robot_side import RobotSide, counts, mended, told
from flexor.flywheel.online.settings import OnlineSettings
from flexor.flywheel.online.stage_clock import StageClock
from flexor.flywheel.online.stages import LEDGER, LoopStopped, Stage, stages
from flexor.flywheel.online.summary import FIGURES, refused_in_a_row, summarise
from flexor.flywheel.online.watcher import Watcher
from flexor.flywheel.row_file import Row, RowFile
from flexor.flywheel.server_process import ServerProcess
from flexor.runtime.adapters.store_state import StoreState
from flexor.runtime.driving.score_monitor import calibration_id
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.index_row import EpisodeRow
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.teleop.device import Device
from flexor.sim.collect import CollectSettings as RecordSettings
from flexor.sim.collect import Demonstration, collect
from flexor.sim.shift import NONE, Shift

EPISODES, ADAPTERS, RESERVOIR = "episodes", "adapters", "reserve"


class Wheel:
    """A context: while it is open, nobody else turns the same wheel.

    Args:
        run: folder of the run, all of whose work lies in it.
        cycles: how many; one that is done may be gone on with by more.
        seed: 0 to 2: which episodes are collected and offered, and what the learner draws. All are measured alike.
        settings: what works where, and how.
        watcher: who is told.
        stopped: asked all the time; the loop then ends between two episodes and can be gone on with.
        devices: of a person who says how episodes end and takes over. The simulator is then asked for nothing, and
            what it alone can do is left out: demonstrations, the gate, and measuring.

    Attributes:
        world: bundle_hash, sim, shift, seed, calibration and operator of the run; plain values.

    Raises:
        FlexorError: no such bundle, robot or shift, a calibration of something else, triggers that can never fire, or
            more cycles than there are seeds for.
        RowFileError: the run is another one, or somebody else's this moment.
    """

    def __init__(
        self,
        run: Path,
        cycles: int,
        seed: int,
        settings: OnlineSettings,
        watcher: Watcher,
        stopped: Callable[[], bool] = lambda: False,
        devices: Sequence[Device] = (),
    ) -> None:
        self._run, self._cycles, self._seed = run, cycles, seed
        self._watcher, self._stopped, self._devices = watcher, stopped, tuple(devices)
        # a person cannot say twenty times a second what they would do
        unadvised = {"collect": settings.collect.model_copy(update={"advise": False})} if devices else {}
        self._settings = settings = settings.model_copy(update=unadvised)
        self._seeds = LoopSeeds(seed, settings.collect.episodes, settings.offer.episodes)
        self._seeds.check(cycles)
        self._bundle = Bundle.open(settings.model.bundle)
        self._place = LoopWorld.of(settings, self._bundle)
        self._triggers = LoopTriggers(run, self._bundle, settings, cycles)
        self.world = {"bundle_hash": self._bundle.hash, **self._place.to_dict(), "seed": seed}
        self.world |= {"calibration": calibration_id(self._triggers.calibration), "operator": bool(devices)}
        conditions = {**self.world, "settings": settings.model_dump(mode="json")}
        self._ledger = RowFile(run / LEDGER, conditions, key=lambda row: (row["cycle"], row["verb"]))
        self._clock = StageClock(run)
        self._measuring = Measuring(
            run, run / ADAPTERS, self._bundle, self._place, settings.measure.workers, watcher.on_line, stopped
        )
        self._open = ExitStack()
        self._server: ServerProcess | None = None
        self._robot: RobotSide | None = None

    def __enter__(self) -> Wheel:
        self._open.enter_context(self._ledger)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._robot = self._server = None
        self._open.close()

    def turn(self) -> dict[str, Any]:
        """Do what is not done yet, and tell what the loop came to so far.

        Raises:
            FlexorError: a stage failed; those before it are kept.
        """
        done = {(row["cycle"], row["verb"]) for row in self._ledger.rows}
        for stage in self.stages():
            if (stage.cycle, stage.verb) in done:
                continue
            if self._stopped():
                break
            self._watcher.on_stage(stage)
            try:
                with self._clock.running(stage) as spent:
                    found = getattr(self, f"_{stage.verb}")(stage.cycle)
                    row = {"cycle": stage.cycle, "verb": stage.verb, "seconds": spent(), **found}
            except LoopStopped:
                break
            self._ledger.append(row)
            self._watcher.on_row(row)
        return summarise(self._ledger.rows)

    def stages(self) -> Iterator[Stage]:
        """What is done, in order; each is a method of its verb."""
        return stages(self._cycles, self._settings.learning, simulated=not self._devices)

    def _reserve(self, cycle: int) -> Row:
        """The base's own demonstrations, from before anything was shifted."""
        count = self._settings.reserve

        def on_demonstration(shown: Demonstration, total: int) -> None:
            if self._stopped():
                raise LoopStopped
            self._watcher.on_line(f"demonstration {shown.seed} {shown.task}: {shown.steps} steps, {total} to record")

        if count:
            place, workers = self._place, self._settings.measure.workers
            out = self._run / RESERVOIR
            settings = RecordSettings()
            collect(out, place.sim, count, RESERVE_SEED, workers, settings, on_demonstration, tasks=place.tasks)
        return {"episodes": count}

    def _collect(self, cycle: int) -> Row:
        """Episodes in real time, advised; while a trigger stands that asks for it, somebody corrects them."""
        self._robot_side()
        seeds = self._seeds.collect(cycle)
        recorded = self._recorded(seeds)
        if recorded:
            self._look()  # a process that was killed may not have looked after its last episode
        for seed in seeds:
            if seed not in recorded:
                correcting = self._settings.collect.correct and bool(self._triggers.standing(self._active()))
                task = self._practised(seed)
                self._play(self._robot_side(), seed, task, correcting, self._settings.collect.advise)
                self._look()
        return counts(self._recorded(seeds).values())

    def _decide(self, cycle: int) -> Row:
        """Whether there is something to learn: a trigger stands or fired in this cycle, or a period is over."""
        names = self._triggers.due(list(self._recorded(self._seeds.collect(cycle)).values()), self._active())
        refused = refused_in_a_row(self._ledger.rows)
        if refused >= self._settings.patience:
            why = f"the last {refused} adapters did not go into service: it does not improve, and publishes no more"
            self._watcher.on_line(why)
            return {"triggers": [name for name in names if name != "publish"], "learn": False, "why": why}
        return {"triggers": names, "learn": bool(names), "why": ", ".join(names) or "no trigger has fired"}

    def _learn(self, cycle: int) -> Row:
        """A new adapter, from a process of the learner that ends with it."""
        if not self._row(cycle, "decide")["learn"]:
            return {"adapter": None}
        server = self._robot_side().server  # in whose slack it is learned
        replay = self._run / RESERVOIR if self._settings.reserve and not self._devices else None
        known = {row["adapter"] for row in self._ledger.rows if row["verb"] == "learn"}
        how = (self._settings, self._seed, server.address, replay, known)
        return learn_adapter(self._run, self._bundle, *how, self._watcher.on_line, self._stopped)

    def _gate(self, cycle: int) -> Row:
        """Hold the adapter against its parent, shifted and not, before a robot plays it."""
        adapter, parent = self._row(cycle, "learn")["adapter"], self._active()
        if adapter is None:
            return {"passed": None}
        settings, found, passed = self._settings, {}, True
        for name, episodes, shift in (
            ("shifted", settings.gate.shifted, self._place.shift),
            ("unshifted", settings.gate.unshifted, NONE),
        ):
            if episodes:
                pair = self._measuring.pair(parent, adapter, episodes, MEASURE_SEED, shift)
                found[name] = pair.to_dict()
                passed &= pair.high >= 0.0 and 100 * pair.difference >= -settings.gate.margin
        return {"passed": passed, "parent": parent, **found}

    def _offer(self, cycle: int) -> Row:
        """Announce the adapter and play what the server wants to see of it, until it is active or refused."""
        adapter = self._row(cycle, "learn")["adapter"]
        if adapter is None:
            return {"adapter": None, "state": "NONE", "reason": None, "episodes": 0}
        if not self._devices and not self._row(cycle, "gate")["passed"]:
            return {"adapter": adapter, "state": "HELD_BACK", "reason": "gate", "episodes": 0}
        robot, seeds = self._robot_side(), self._seeds.offer(cycle)

        def task_of(seed: int) -> str:
            return self._place.task_of(seed, robot.tasks)

        offering = Offering(robot, self._settings.offer, task_of, self._watcher.on_line, self._stopped)
        found = offering.make(adapter, seeds)
        return {**found, "episodes": len(self._finished(seeds)), "teach": self._settings.replayed(0).successes}

    def _measure(self, cycle: int) -> Row:
        settings = self._settings.measure
        played = self._measuring.play(self._active(), settings.episodes, MEASURE_SEED, self._place.shift)
        return {"adapter": self._active(), **{name: played[name] for name in (*FIGURES, "failure_labels")}}

    def _after(self, cycle: int) -> Row:
        """Base and last adapter on fresh seeds of the shifted world."""
        return self._measuring.compared(self._active(), self._settings.measure.after, AFTER_SEED, self._place.shift)

    def _unshifted(self, cycle: int) -> Row:
        """The same where nothing is shifted."""
        return self._measuring.compared(self._active(), self._settings.measure.unshifted, AFTER_SEED, NONE)

    def _robot_side(self) -> RobotSide:
        """The robot in the changed world, opened when it is first needed."""
        if self._robot is None:
            self._robot = self._open.enter_context(self._robot_in(self._place.shift))
        return self._robot

    def _robot_in(self, shift: Shift) -> RobotSide:
        """A robot in some workplace, not open yet, beside the one server, which is started when it is first needed."""
        if self._server is None:
            adapters = self._run / ADAPTERS
            adapters.mkdir(parents=True, exist_ok=True)
            for line in mended(self._run / EPISODES):
                self._watcher.on_line(line)
            arguments = self._settings.serve_arguments(adapters)
            self._server = self._open.enter_context(ServerProcess(str(self._bundle.path), arguments))
        return RobotSide(
            self._place.sim,
            self._place.make_robot(shift),
            self._server,
            self._run / EPISODES,
            self._settings.daemon,
            self._stopped,
            self._triggers.calibration,
            self._devices,
            self._watcher.on_line,
        )

    def _practised(self, seed: int) -> str:
        """The task of an episode that is collected, by how the active policy did so far."""
        active, tasks = self._active(), self._place.asked(self._robot_side().tasks)
        rows = (row for row in self._rows() if row.adapter == active)
        return practised_task(tasks, rows, seed, self._settings.collect.practise)

    def _play(self, robot: RobotSide, seed: int, task: str, correcting: bool = False, advised: bool = False) -> None:
        """One episode, told."""
        result = None if self._stopped() else robot.play(seed, task, correcting, advised)
        if result is not None:
            self._watcher.on_line(told(result))
        if result is None or self._stopped():  # then the episode may be an abort
            raise LoopStopped

    def _look(self) -> None:
        """Let the triggers decide, and tell what they decided."""
        learned = sum(row.get("steps", 0) for row in self._ledger.rows if row["verb"] == "learn")
        for event in self._triggers.look(self._rows(), self._active(), learned):
            self._watcher.on_line(f"trigger {event.trigger} {event.kind}: {event.why}")

    def _active(self) -> str:
        return StoreState.read(self._run / ADAPTERS).active

    def _rows(self) -> list[EpisodeRow]:
        return EpisodeIndex(self._run / EPISODES).episodes()

    def _finished(self, seeds: range) -> list[EpisodeRow]:
        """Episodes of these seeds that came to their end, in the order in which they began."""
        rows = (row for row in self._rows() if int(row.seed) in seeds)
        return [row for row in rows if row.outcome != "abort" and not row.recovered]

    def _recorded(self, seeds: range) -> dict[int, EpisodeRow]:
        """The same by seed."""
        return {int(row.seed): row for row in self._finished(seeds)}

    def _row(self, cycle: int, verb: str) -> Row:
        return next(row for row in self._ledger.rows if (row["cycle"], row["verb"]) == (cycle, verb))
