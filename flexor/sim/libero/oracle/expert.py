"""The scripted expert: looks at the state, takes up the next unfinished part of the goal, and knows the next action."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from flexor.sim.libero.goal import Goal, Part
from flexor.sim.libero.oracle import drawer, knob, microwave, plate, rack
from flexor.sim.libero.oracle.grasps import kind
from flexor.sim.libero.oracle.holding import carry, grasp_for, is_at, is_held, is_let_go, leave, retreat
from flexor.sim.libero.oracle.places import place_for
from flexor.sim.libero.oracle.reach import reach
from flexor.sim.libero.oracle.shapes import Shapes
from flexor.sim.libero.stage import Stage

Turn = Callable[[Stage, Shapes, str], NDArray[np.float32]]
ORDER = {"open": 0, "turnon": 0, "turnoff": 0, "on": 1, "in": 1, "close": 2}
"""What is done first: nothing is put into what is shut. What has nothing to take is shut before anything else."""


class Expert:
    """Solves a goal on a stage in closed loop; its action depends on the present state alone.

    Attributes:
        phase: what the last action was about, in words.
        closes_at: where the gripper will close on an object, [3] m, while that is what the last action was about.
    """

    def __init__(self, stage: Stage, goal: Goal | None = None) -> None:
        self.stage, self.goal = stage, goal or stage.goal
        self.phase = ""
        self.closes_at: NDArray[np.float64] | None = None
        self._shapes = Shapes(stage)
        self._parts = sorted(self.goal.parts, key=self._order)

    def _order(self, part: Part) -> int:
        body = self.stage.body
        filled = {body(other.place) for other in self.goal.parts if other.predicate == "in"}
        return -1 if part.predicate == "close" and body(part.thing) not in filled else ORDER[part.predicate]

    def act(self) -> NDArray[np.float32]:
        """The next action, float32 [7] in [-1, 1], for the stage as it is now."""
        self.closes_at = None
        held = [part for part in self._parts if self._in_hand(part)]
        for part in held or self._parts:
            action = self._work(part)
            if action is not None:
                return action
        self.phase = "retreat"
        return retreat(self.stage)

    def _in_hand(self, part: Part) -> bool:
        return (
            part.predicate in ("on", "in")
            and kind(part.thing) != plate.KIND
            and is_held(self.stage, self._shapes, part.thing)
        )

    def _work(self, part: Part) -> NDArray[np.float32] | None:
        """The next action for one part; None when it is done and out of the hand."""
        return getattr(self, f"_{part.predicate}")(part)

    def _on(self, part: Part) -> NDArray[np.float32] | None:
        stage, shapes = self.stage, self._shapes
        if plate.is_pushed(stage, part):
            return self._push(part)
        if rack.is_rack(stage, part.place):
            opening = stage.fingers_touching(part.thing) > 0 and rack.lies(stage, shapes, part)
            if opening or is_held(stage, shapes, part.thing):
                return self._in_phase("lay", part.thing, rack.lay(stage, shapes, part))
            if not part.holds(stage):
                return self._in_phase("grasp", part.thing, rack.grasp_bottle(stage, shapes, part))
        sharing = [other for other in self.goal.parts if other.place == part.place]
        place = place_for(stage, shapes, part, sharing.index(part), len(sharing))
        if is_held(stage, shapes, part.thing) or is_let_go(stage, shapes, part.thing, place):
            return self._in_phase("carry", part.thing, carry(stage, shapes, part, place))
        if part.holds(stage):
            return self._leave(part.thing)
        hold = grasp_for(stage, shapes, part.thing, place)
        self.closes_at = hold.point
        return self._in_phase("grasp", part.thing, reach(stage, shapes, hold, part.thing))

    def _leave(self, name: str) -> NDArray[np.float32] | None:
        """The next action away from an object that lies well; None when it is out of the hand."""
        stage = self.stage
        return self._in_phase("leave", name, leave(stage, name)) if is_at(stage, self._shapes, name) else None

    def _push(self, part: Part) -> NDArray[np.float32] | None:
        stage = self.stage
        if part.holds(stage) and (plate.is_there(stage, part) or not plate.is_pinched(stage, part)):
            return self._leave(part.thing)
        return self._in_phase("push", part.thing, plate.push(stage, self._shapes, part))

    def _in(self, part: Part) -> NDArray[np.float32] | None:
        stage, shapes = self.stage, self._shapes
        if microwave.is_microwave(stage, part.place):
            opening = stage.fingers_touching(part.thing) > 0 and microwave.is_seated(stage, shapes, part)
            if opening or is_held(stage, shapes, part.thing):
                return self._in_phase("insert", part.thing, microwave.insert(stage, shapes, part))
            if not part.holds(stage):
                return self._in_phase("grasp", part.thing, microwave.grasp_handle(stage, shapes, part))
        if drawer.is_drawer(stage, part.place) and not part.holds(stage):
            opening = self._pull(part.place, drawer.WIDE_ENOUGH)
            if opening is not None:
                return opening
        return self._on(part)

    def _open(self, part: Part) -> NDArray[np.float32] | None:
        return self._pull(part.thing, drawer.OPEN)

    def _pull(self, region: str, enough: float) -> NDArray[np.float32] | None:
        """The next action for a drawer that is to be open by `enough`, m; in the hand it is pulled a little beyond."""
        stage = self.stage
        wanted = enough - drawer.BEYOND * drawer.holds_handle(stage, region)
        if stage.opening(region)[0] > wanted:
            return self._in_phase("pull", region, drawer.pull(stage, self._shapes, region))
        if drawer.at_handle(stage, region):
            return self._in_phase("let go", region, drawer.let_go(stage))
        return None

    def _close(self, part: Part) -> NDArray[np.float32] | None:
        stage, region = self.stage, part.thing
        if part.holds(stage):
            return None
        if not drawer.is_drawer(stage, region):
            return self._in_phase("shut", region, microwave.close_door(stage, self._shapes, region))
        return self._in_phase("push", region, drawer.push(stage, self._shapes, region))

    def _turnon(self, part: Part) -> NDArray[np.float32] | None:
        return self._turn(part, self.stage.opening(part.thing)[0] > knob.TURNED_ON, knob.turn_on)

    def _turnoff(self, part: Part) -> NDArray[np.float32] | None:
        return self._turn(part, self.stage.opening(part.thing)[0] < knob.TURNED_OFF, knob.turn_off)

    def _turn(self, part: Part, far: bool, turn: Turn) -> NDArray[np.float32] | None:
        """The next action for a knob; in the hand it is turned a little beyond, until it is `far` enough."""
        stage = self.stage
        if part.holds(stage) and (far or not knob.holds_knob(stage, part.thing)):
            return self._in_phase("let go", part.thing, retreat(stage)) if knob.at_knob(stage, part.thing) else None
        return self._in_phase("turn", part.thing, turn(stage, self._shapes, part.thing))

    def _in_phase(self, verb: str, name: str, action: NDArray[np.float32]) -> NDArray[np.float32]:
        self.phase = f"{verb} {name}"
        return action
