"""Physics steps of our own episodes: half of what robosuite computes is the same thing again.

Before each physics step robosuite brings the simulator up to date twice, and MuJoCo's step does so itself once more.
Here the first call begins the step, the second finds it begun, and the third ends it: the same physics, not the same
bits, as the solver's warm start was solved again in between. The benchmark's own episodes are left as they are.
"""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import mujoco


@contextlib.contextmanager
def computed_once(sim: Any) -> Iterator[None]:
    """Within it, `forward` and `step` of robosuite's `sim` compute each physics step once."""
    model, data, begun = sim.model._model, sim.data._data, False

    def forward() -> None:
        nonlocal begun
        if not begun:
            mujoco.mj_step1(model, data)
            begun = True

    def step(with_udd: bool = True) -> None:
        nonlocal begun
        forward()
        mujoco.mj_step2(model, data)
        begun = False

    sim.forward, sim.step = forward, step
    try:
        yield
    finally:
        del sim.forward, sim.step
