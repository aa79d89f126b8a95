"""Which things of a stage stand at or on each other."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import mujoco
import numpy as np

from flexor.sim.libero.stage import Stage

Pairs = frozenset[tuple[int, int]]
"""Root bodies of two things each, the lower number first."""


def neighbours(stage: Stage, within: float) -> Pairs:
    """What is nearer to each other than `within` m, as far as it can be moved about; the simulator's state stays."""
    model = stage.model
    roots = model.body_rootid[model.geom_bodyid]
    movable = np.isin(roots, [stage.body(name) for name in stage.things])
    built = model.geom_margin.copy()
    model.geom_margin[movable] = within
    try:
        mujoco.mj_kinematics(model, stage.data)
        mujoco.mj_comPos(model, stage.data)
        mujoco.mj_collision(model, stage.data)
        near = stage.data.contact.geom[: stage.data.ncon]
    finally:
        model.geom_margin[:] = built
    pairs = np.sort(roots[near[movable[near].any(axis=1)]], axis=1)
    return frozenset((int(one), int(other)) for one, other in pairs if one != other)


def piles(stage: Stage, pairs: Pairs) -> list[list[str]]:
    """Things that are connected by pairs, as groups, in the order of the scene."""
    of = {stage.body(name): name for name in stage.things}
    pile = {name: [name] for name in stage.things}
    for one, other in sorted(pairs):
        if one in of and other in of and pile[of[one]] is not pile[of[other]]:
            joined = pile[of[one]] + pile[of[other]]
            pile.update(dict.fromkeys(joined, joined))
    return list({id(group): group for group in pile.values()}.values())
