"""Wheel: one online loop from its first look at the base to its last, each stage done once whoever is killed meanwhile.

Server, robot and learner are three processes: the policy server and the learner are `flexor serve` and `flexor learn`,
the robot's side is this one.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from flexor.errors import FlexorError
from flexor.flywheel.evaluate import open_simulation
from flexor.flywheel.online.learner_process import learn_adapter
from flexor.flywheel.online.measuring import Measuring
from flexor.flywheel.online.offering import Offering
from flexor.flywheel.online.robot_side import RobotSide, counts, told
from flexor.flywheel.online.settings import OnlineSettings
from flexor.flywheel.online.stages import Stage, stages
from flexor.flywheel.online.summary import FIGURES, summarise
from flexor.flywheel.row_file import Row, RowFile
from flexor.flywheel.server_process import ServerProcess
from flexor.flywheel.triggers.triggers import Triggers
from flexor.runtime.adapters.store_state import StoreState
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.index_row import EpisodeRow
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.teleop.device import Device
from flexor.sim.collect import CollectSettings as RecordSettings
from flexor.sim.collect import Demonstration, collect
from flexor.sim.robots import EMBEDDED, LIBERO, sim_robot
from flexor.sim.shift import NONE, Shift

RESERVE_SEED, COLLECT_SEED, OFFER_SEED, MEASURE_SEED, AFTER_SEED = 1000, 2000, 2500, 5000, 6000
"""Of the first episode of each kind: what is learned from is never measured on, and the other way round."""

SEED_STEP = 1000
"""By how much the collected and offered episodes of one loop differ from those of the next."""

LEDGER, EPISODES, ADAPTERS, RESERVOIR = "ledger.jsonl", "episodes", "adapters", "reserve"


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who is told how it goes: the stage that begins, in words what happens in it, and what a stage came to."""

    on_stage: Callable[[Stage], None]
    on_line: Callable[[str], None]
    on_row: Callable[[Mapping[str, Any]], None]


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
        world: bundle_hash, sim, shift, seed and operator of the run; plain values.

    Raises:
        FlexorError: no such bundle, robot or shift, or more cycles than there are seeds for.
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
        self._settings, self._watcher, self._stopped = settings, watcher, stopped
        self._devices = tuple(devices)
        _check_seeds(cycles, seed, settings)
        changed = settings.domain_shift
        self._sim = sim_robot(settings.task, (*EMBEDDED, *LIBERO))
        self._shift = Shift.parse(changed.current_level, changed.axes, settings.task)
        self._bundle = Bundle.open(settings.model.bundle)
        self.world = {"bundle_hash": self._bundle.hash, "sim": self._sim, "shift": self._shift.to_dict(), "seed": seed}
        self.world |= {"operator": bool(devices)}
        conditions = {**self.world, "settings": settings.model_dump(mode="json")}
        self._ledger = RowFile(run / LEDGER, conditions, key=lambda row: (row["cycle"], row["verb"]))
        self._measuring = Measuring(
            run, run / ADAPTERS, self._bundle, self._sim, settings.measure.workers, watcher.on_line
        )
        self._open = ExitStack()
        self._robot: RobotSide | None = None

    def __enter__(self) -> Wheel:
        self._open.enter_context(self._ledger)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._robot = None
        self._open.close()

    def turn(self) -> dict[str, Any]:
        """Do what is not done yet, and tell what the loop came to so far.

        Raises:
            FlexorError: a stage failed; those before it are kept.
        """
        done = {(row["cycle"], row["verb"]) for row in self._ledger.rows}
        for stage in stages(self._cycles, self._settings.learning, simulated=not self._devices):
            if (stage.cycle, stage.verb) in done:
                continue
            if self._stopped():
                break
            self._watcher.on_stage(stage)
            began = time.monotonic()
            found = getattr(self, f"_{stage.verb}")(stage.cycle)
            if found is None:  # stopped in the middle; what it has done so far is on disk
                break
            row = {"cycle": stage.cycle, "verb": stage.verb, "seconds": time.monotonic() - began, **found}
            self._ledger.append(row)
            self._watcher.on_row(row)
        return summarise(self._ledger.rows)

    def _reserve(self, cycle: int) -> Row:
        """The base's own demonstrations, from before anything was shifted."""
        count = self._settings.reserve

        def on_demonstration(shown: Demonstration, total: int) -> None:
            self._watcher.on_line(f"demonstration {shown.seed} {shown.task}: {shown.steps} steps, {total} to record")

        if count:
            workers = self._settings.measure.workers
            out = self._run / RESERVOIR
            collect(out, self._sim, count, RESERVE_SEED, workers, RecordSettings(), on_demonstration)
        return {"episodes": count}

    def _collect(self, cycle: int) -> Row | None:
        """Episodes in real time; while a trigger stands that asks for it, somebody corrects them."""
        settings, robot = self._settings, self._robot_side()
        seeds = self._seeds(cycle)
        triggers = Triggers(self._run, settings)
        recorded = self._recorded(seeds)
        for seed in seeds:
            if seed in recorded:
                continue
            if self._stopped():
                return None
            policy = (self._bundle.id, self._active())
            correcting = settings.collect.correct and bool(triggers.standing(*policy))
            self._watcher.on_line(told(robot.play(seed, correcting)))
            rows = self._rows()
            for event in triggers.look(rows, datetime.now(UTC), bundle=policy[0], adapter=policy[1]):
                self._watcher.on_line(f"trigger {event.trigger} {event.kind}: {event.why}")
        return counts(self._recorded(seeds).values())

    def _decide(self, cycle: int) -> Row:
        """Whether there is something to learn: a trigger stands, or a period is over."""
        triggers = Triggers(self._run, self._settings)
        standing = triggers.standing(self._bundle.id, self._active())
        rows = [row.started for row in self._recorded(self._seeds(cycle)).values()]
        due = triggers.fired_since("publish", min(rows, default=datetime.now(UTC).isoformat()))
        refused = self._refused_in_a_row()
        if refused >= self._settings.patience:
            why = f"the last {refused} adapters did not go into service: it does not improve, and publishes no more"
            self._watcher.on_line(why)
            return {"triggers": sorted(standing), "learn": False, "why": why}
        names = sorted({*standing, *(("publish",) if due else ())})
        return {"triggers": names, "learn": bool(names), "why": ", ".join(names) or "no trigger stands"}

    def _learn(self, cycle: int) -> Row:
        """A new adapter, from a process of the learner that ends with it."""
        if not self._row(cycle, "decide")["learn"]:
            return {"adapter": None}
        server = self._robot_side().server
        replay = self._run / RESERVOIR if self._settings.reserve and not self._devices else None
        return learn_adapter(
            self._run, self._bundle, self._settings, self._seed, server.address, replay, self._watcher.on_line
        )

    def _gate(self, cycle: int) -> Row:
        """Hold the adapter against its parent, shifted and not, before a robot plays it."""
        adapter, parent = self._row(cycle, "learn")["adapter"], self._active()
        if adapter is None:
            return {"passed": None}
        settings, found, passed = self._settings, {}, True
        for name, episodes, shift in (
            ("shifted", settings.measure.episodes, self._shift),
            ("unshifted", settings.gate.unshifted, NONE),
        ):
            if episodes:
                pair = self._measuring.pair(parent, adapter, episodes, MEASURE_SEED, shift)
                found[name] = pair.to_dict()
                passed &= pair.high >= 0.0 and 100 * pair.difference >= -settings.gate.margin
        return {"passed": passed, "parent": parent, **found}

    def _offer(self, cycle: int) -> Row | None:
        """Announce the adapter and play what the server wants to see of it, until it is active or refused."""
        adapter = self._row(cycle, "learn")["adapter"]
        if adapter is None:
            return {"adapter": None, "state": "NONE", "reason": None, "episodes": 0}
        if not self._devices and not self._row(cycle, "gate")["passed"]:
            return {"adapter": adapter, "state": "HELD_BACK", "reason": "gate", "episodes": 0}
        offering = Offering(self._robot_side(), self._settings.offer, self._watcher.on_line, self._stopped)
        return offering.make(adapter, OFFER_SEED + self._seed * SEED_STEP + cycle * self._settings.offer.episodes)

    def _measure(self, cycle: int) -> Row:
        played = self._measuring.play(self._active(), self._settings.measure.episodes, MEASURE_SEED, self._shift)
        return {"adapter": self._active(), **{name: played[name] for name in (*FIGURES, "failure_labels")}}

    def _after(self, cycle: int) -> Row:
        """Base and last adapter on fresh seeds of the shifted world."""
        return self._measuring.compared(self._active(), self._settings.measure.after, AFTER_SEED, self._shift)

    def _unshifted(self, cycle: int) -> Row:
        """The same where nothing is shifted."""
        return self._measuring.compared(self._active(), self._settings.measure.unshifted, AFTER_SEED, NONE)

    def _robot_side(self) -> RobotSide:
        """The robot and its server, started when they are first needed."""
        if self._robot is None:
            settings = self._settings
            (self._run / ADAPTERS).mkdir(parents=True, exist_ok=True)
            offer = settings.offer
            trial = (f"adapters.canary_episodes={offer.episodes}", f"adapters.canary_velocity={offer.velocity:g}")
            eight_bit = ("--8bit",) if settings.model.load_in_8bit else ()
            server = self._open.enter_context(
                ServerProcess(str(self._bundle.path), ("--adapters", str(self._run / ADAPTERS), *eight_bit, *trial))
            )
            make_robot = functools.partial(open_simulation, shift=self._shift)
            self._robot = self._open.enter_context(
                RobotSide(
                    self._sim,
                    make_robot,
                    server,
                    self._run / EPISODES,
                    settings.daemon,
                    self._stopped,
                    self._devices,
                    self._watcher.on_line,
                )
            )
        return self._robot

    def _active(self) -> str:
        return StoreState.read(self._run / ADAPTERS).active

    def _seeds(self, cycle: int) -> range:
        """Of the episodes that a cycle collects."""
        count = self._settings.collect.episodes
        first = COLLECT_SEED + self._seed * SEED_STEP + (cycle - 1) * count
        return range(first, first + count)

    def _rows(self) -> list[EpisodeRow]:
        return EpisodeIndex(self._run / EPISODES).episodes()

    def _recorded(self, seeds: range) -> dict[int, EpisodeRow]:
        """Finished episodes by seed."""
        return {int(row.seed): row for row in self._rows() if int(row.seed) in seeds and row.outcome != "abort"}

    def _row(self, cycle: int, verb: str) -> Row:
        return next(row for row in self._ledger.rows if (row["cycle"], row["verb"]) == (cycle, verb))

    def _refused_in_a_row(self) -> int:
        offers = [row for row in self._ledger.rows if row["verb"] == "offer" and row["state"] != "NONE"]
        refused = 0
        for row in reversed(offers):
            if row["state"] == "ACTIVE":
                break
            refused += 1
        return refused


def _check_seeds(cycles: int, seed: int, settings: OnlineSettings) -> None:
    """What is collected, what is offered and what is measured must stay apart.

    Raises:
        FlexorError: they would not.
    """
    room = OFFER_SEED - COLLECT_SEED
    collected, offered = cycles * settings.collect.episodes, (cycles + 1) * settings.offer.episodes
    if max(collected, offered) > room or COLLECT_SEED + (seed + 1) * SEED_STEP > MEASURE_SEED:
        raise FlexorError(
            f"{cycles} cycles of {settings.collect.episodes} collected and {settings.offer.episodes} offered episodes "
            f"with seed {seed} need more than the {room} seeds that each kind has; fewer, and a seed of 0 to 2, fit"
        )
