"""EvaluationWorker: in a worker process, one robot and one policy for all the episodes that come its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import cast

from flexor.flywheel.counterfactual import JudgingRobot, Witness
from flexor.flywheel.lockstep import Delay, Lockstep, Manner, PlayedPolicy
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.inference.calibration import Calibration
from flexor.runtime.robot import Robot
from flexor.runtime.worker_pool import Alive, Job, Result


@dataclass(frozen=True, slots=True)
class Setup:
    """What every worker of an evaluation is told; `flexor.flywheel.evaluate.evaluate` says what it means."""

    bundle: str
    sim: str
    make_robot: Callable[[str], Robot]
    make_policy: Callable[[str], PlayedPolicy]
    log_dir: str | None = None
    entropy: bool = True
    delay: Delay = field(default_factory=Delay)
    counterfactual: bool = False
    calibration: Calibration | None = None
    manner: Manner = field(default_factory=Manner)


class EvaluationWorker:
    """Plays jobs of an episode number, a task, a seed and, for a counterfactual, the original task."""

    def __init__(self, setup: Setup) -> None:
        policy, robot = setup.make_policy(setup.bundle), setup.make_robot(setup.sim)
        self._hash = policy.describe()["hash"]
        self._witness = Witness(cast(JudgingRobot, robot)) if setup.counterfactual else None
        recorder = None if setup.log_dir is None else EpisodeRecorder(setup.log_dir)
        self._lockstep = Lockstep(
            self._witness or robot, policy, recorder, setup.entropy, setup.delay, setup.calibration, setup.manner
        )

    def play(self, job: Job, alive: Alive) -> Result:
        """The row of one episode, with the hash of the bundle that played it; `alive` is called at each chunk."""
        played = {"episode": job["episode"], "bundle_hash": self._hash}
        if self._witness is None:
            return {**played, **asdict(self._lockstep.play(job["task"], job["seed"], alive))}
        self._witness.watch(job["original"])
        row = {**played, "original": job["original"], **asdict(self._lockstep.play(job["task"], job["seed"], alive))}
        return row | {"original_success": self._witness.original_solved}


def make_player(setup: Setup) -> Callable[[Job, Alive], Result]:
    """For a worker pool."""
    return EvaluationWorker(setup).play
