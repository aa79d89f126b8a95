"""Beginnings of our own for demonstrations: LIBERO's scenes with everything moved, never the official states."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from flexor.runtime.robot import RobotFault
from flexor.sim.libero.fixtures import Fixtures
from flexor.sim.libero.oracle.shapes import Shapes
from flexor.sim.libero.stage import Stage

SHIFT_ON_TABLE, SHIFT_ON_FIXTURE = 0.030, 0.012  # m that things are moved by, at most, from where LIBERO draws them
JOINT_SPREAD = 0.05  # rad, standard deviation of each arm joint
SETTLE_STEPS = 20  # control steps until things have come to rest
MOST_MOVED = (0.015, 0.15)  # m and rad that a thing may move while it settles
MOST_NESTLED = (0.050, 0.60)  # the same of what stands on another object: a bowl leans in the ramekin that carries it
DROP = 0.002  # m over what carries it that a thing is let fall from
FOOT = 0.025  # m about its middle that has to be carried
FLOOR = 0.0  # m, the height of the plane that everything stands on where there is no table
ATTEMPTS = 50


class StartError(RobotFault):
    """No placement was found in which everything stands, so that the episode of this seed cannot be played."""


@dataclass(frozen=True, slots=True)
class Start:
    """A beginning, as `Stage.reset` takes it.

    Attributes:
        state: float64 [1 + nq + nv].
        fixtures: where the fixtures stand.
    """

    state: NDArray[np.float64]
    fixtures: Fixtures


def draw_start(stage: Stage, seed: int) -> Start:
    """A placement drawn with a seed, settled and with nothing in anything else; the same seed gives the same one.

    LIBERO's own samplers place things and fixtures, then each thing (with what stands on it) is moved, and the arm's
    joints are spread. What the simulator is doing is lost.

    Raises:
        StartError: nothing stands in ATTEMPTS draws.
    """
    rng = np.random.default_rng([seed, stage.task.index, *stage.task.suite.encode()])
    for _ in range(ATTEMPTS):
        fixtures = stage.draw_scene(int(rng.integers(2**32)))
        _move(stage, rng)
        start = Start(_with_arm(stage, rng), fixtures)
        stage.reset(start.state, fixtures)
        placed = _poses(stage)
        stage.wait(SETTLE_STEPS)
        if _stands(stage, placed):
            return Start(_settled(stage, start.state), fixtures)
    raise StartError(
        f"nothing stands in {ATTEMPTS} placements of {stage.task.name} drawn with seed {seed}; take another seed"
    )


def _carriers(stage: Stage) -> dict[str, str]:
    """What each object stands on or in at the beginning, by LIBERO's task file: an object, a region or a fixture."""
    states = stage.env.parsed_problem["initial_state"]
    objects = stage.env.objects_dict
    return {state[1]: state[2] for state in states if state[0] in ("on", "in") and state[1] in objects}


def _move(stage: Stage, rng: np.random.Generator) -> None:
    """Move every object from where it has been drawn, with what it carries, and set it down where it would float."""
    carriers = _carriers(stage)
    shifts: dict[str, NDArray[np.float64]] = {}
    for name, carrier in carriers.items():
        if carrier in carriers:
            continue  # it goes where the object that carries it goes
        regions = stage.env.object_sites_dict
        on_fixture = carrier in regions and regions[carrier].parent_name is not None
        most = SHIFT_ON_FIXTURE if on_fixture else SHIFT_ON_TABLE
        shifts[name] = np.append(rng.uniform(-most, most, 2), 0.0)
    for name, carrier in carriers.items():
        _qpos(stage, name)[:3] += shifts[name] if name in shifts else shifts[carrier]
    shapes = Shapes(stage)
    for name in sorted(carriers, key=lambda name: carriers[name] in carriers):  # what carries comes down first
        mujoco.mj_forward(stage.model, stage.data)
        bottom = float(shapes.box(name)[0][2])
        here = stage.position(name)
        top = max(FLOOR, shapes.top_between(here, here, FOOT, (name,)))
        _qpos(stage, name)[2] -= max(0.0, bottom - DROP - top)
    mujoco.mj_forward(stage.model, stage.data)


def _with_arm(stage: Stage, rng: np.random.Generator) -> NDArray[np.float64]:
    """The present state with the arm's joints spread about their nominal angles."""
    robot = stage.env.robots[0]
    joints = stage.data.qpos[robot._ref_joint_pos_indexes]
    stage.data.qpos[robot._ref_joint_pos_indexes] = joints + rng.normal(0.0, JOINT_SPREAD, joints.shape)
    return stage.start()


def _settled(stage: Stage, begun: NDArray[np.float64]) -> NDArray[np.float64]:
    """The objects where they have come to rest, the arm and its fingers where they were, nothing in motion."""
    state = stage.start()
    end = 1 + stage.model.nq
    robot = stage.env.robots[0]
    arm = [*robot._ref_joint_pos_indexes, *robot._ref_gripper_joint_pos_indexes]
    for place in arm:
        state[1 + place] = begun[1 + place]
    state[0], state[end:] = 0.0, 0.0
    return state


def _poses(stage: Stage) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    return {name: (stage.position(name), stage.rotation(name)) for name in stage.env.objects_dict}


def _stands(stage: Stage, placed: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> bool:
    """Whether every object is still where and how it was put, but for how high."""
    carriers = _carriers(stage)
    for name, (position, rotation) in placed.items():
        far, much = MOST_NESTLED if carriers.get(name) in carriers else MOST_MOVED
        rolled = float(np.hypot(*(stage.position(name) - position)[:2]))
        turned = float(np.arccos(np.clip((np.trace(stage.rotation(name) @ rotation.T) - 1.0) / 2.0, -1.0, 1.0)))
        if rolled > far or turned > much:
            return False
    return not stage.is_done()


def _qpos(stage: Stage, name: str) -> NDArray[np.float64]:
    """Where an object's position and quaternion are kept, a view [7]."""
    return stage.data.joint(stage.env.objects_dict[name].joints[-1]).qpos
