"""Where what has no joint stands in an episode: LIBERO draws it anew at each reset, and no simulator state holds it."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

OFFICIAL_SEED = 7  # of openpi's evaluation, given once before a task's first trial


@dataclass(frozen=True, slots=True)
class Fixtures:
    """The fixtures of one episode.

    Attributes:
        poses: position and quaternion (w first) of each in its parent, float64 [n, 7].
        warmstart: what the solver remembers of the reset, float64 [nv]: nothing physical, but the last bits of an
            episode follow from it.
    """

    poses: NDArray[np.float64]
    warmstart: NDArray[np.float64]


class FixtureDraws:
    """Draws fixtures as LIBERO does, without building the scene again (which is what takes its reset a second)."""

    def __init__(self, env: Any) -> None:
        """
        Args:
            env: robosuite environment, built and not reset since: every reset lengthens its list of initializers.
        """
        self._env = env
        self._model, self._data = env.sim.model._model, env.sim.data._data
        self._bodies = [env.obj_body_id[name] for name in env.fixtures_dict]
        self._built = self._poses(mujoco.MjModel.from_xml_string(env.model.get_xml()))
        self._initializers = list(env.object_property_initializers)
        self._drawn: dict[int, list[Fixtures]] = {}
        self._generators: dict[int, Any] = {}  # where numpy's generator stood after the last of them

    def official(self, trial: int, seed: int = OFFICIAL_SEED) -> Fixtures:
        """Those of the trial-th episode (from 0) of an evaluation that seeds once with `seed` and resets once a trial.

        What the simulator is doing is lost.
        """
        known = self._drawn.setdefault(seed, [])
        if trial >= len(known):
            before = np.random.get_state()  # numpy's global generator is the one that LIBERO draws from
            np.random.set_state(self._generators.get(seed) or np.random.RandomState(seed).get_state())
            known.extend(self._draw(k) for k in range(len(known), trial + 1))
            self._generators[seed] = np.random.get_state()
            np.random.set_state(before)
        return known[trial]

    def sampled(self, seed: int) -> Fixtures:
        """Place the whole scene as LIBERO does after seeding with `seed` (below 2**32), and leave it so."""
        before = np.random.get_state()
        np.random.seed(seed)
        try:
            return self._draw(0)
        finally:
            np.random.set_state(before)

    def place(self, fixtures: Fixtures) -> None:
        """Put them there, and give the solver its memory of it; the data's derived values are not refreshed."""
        self._model.body_pos[self._bodies] = fixtures.poses[:, :3]
        self._model.body_quat[self._bodies] = fixtures.poses[:, 3:]
        self._data.qacc_warmstart[:] = fixtures.warmstart

    def now(self) -> Fixtures:
        """As they stand."""
        return Fixtures(self._poses(self._model), self._data.qacc_warmstart.copy())

    def _poses(self, model: Any) -> NDArray[np.float64]:
        return np.concatenate([model.body_pos[self._bodies], model.body_quat[self._bodies]], axis=1)

    def _draw(self, trial: int) -> Fixtures:
        """The next draw of the running generator."""
        from robosuite.utils.errors import RandomizationError

        env = self._env
        env.object_property_initializers = self._initializers * (trial + 2)  # one more copy at each of its resets
        while True:
            self._model.body_pos[self._bodies] = self._built[:, :3]
            self._model.body_quat[self._bodies] = self._built[:, 3:]
            mujoco.mj_resetData(self._model, self._data)
            mujoco.mj_forward(self._model, self._data)
            try:
                env._reset_internal()
                break
            except RandomizationError:  # LIBERO begins again too
                continue
        mujoco.mj_forward(self._model, self._data)
        return self.now()
