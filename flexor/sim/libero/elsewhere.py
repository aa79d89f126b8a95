"""Elsewhere: where the gripper would close first for each thing that could have been asked for in a recorded scene.

A recording shows one answer to what it sees, and a small model takes long to learn from that alone that the words
choose among several (flexor.learner.foresight). The beginning of a demonstration is a function of its task and seed, so
it is drawn again, nothing is rendered, and the expert is asked once for each task of the scene.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.worker_pool import Alive, Job, Result, WorkerPool
from flexor.sim.libero.alternatives import Asked, alternatives
from flexor.sim.libero.goal import read_goal
from flexor.sim.libero.oracle.expert import Expert
from flexor.sim.libero.stage import Stage
from flexor.sim.libero.starts import draw_start
from flexor.sim.libero.suites import find_suite

ELSEWHERE_FILE = "elsewhere.json"
Places = dict[str, list[float]]
"""[x, y, z] in m by the name of what is asked for, as `find_asked` takes it."""

SCENE_LIMIT_S = 120.0
SAVE_EVERY = 100  # scenes: what a stopped command has done is not done again
SIM = "sim:libero_"


def note_elsewhere(data: Path, workers: int, told: Callable[[int, int], None]) -> dict[str, dict[str, Places]]:
    """Write `data`/elsewhere.json: robot -> "layout task:seed" -> Places; scenes that it holds already are kept.

    Args:
        data: folder of demonstrations (`flexor collect`); those that succeeded are asked about.
        workers: processes; each has its own simulator.
        told: hears of (scenes done, scenes in all).

    Returns:
        What the file holds now.

    Raises:
        EpisodeError: no demonstration of LIBERO that succeeded.
        FlexorError: one that did not begin as its task and seed draw it: in a shifted world, or from an official state.
    """
    rows = [row for row in EpisodeIndex(data).episodes(outcome="success") if row.robot.startswith(SIM)]
    if not rows:
        raise EpisodeError(f"{data} holds no successful demonstration of LIBERO; record some: flexor collect --sim")
    path = data / ELSEWHERE_FILE
    noted: dict[str, dict[str, Places]] = json.loads(path.read_text()) if path.exists() else {}
    scenes = {(row.robot, row.task.rpartition("@")[2], row.seed): str(data / row.file) for row in rows}
    missing = sorted(scene for scene in scenes if f"{scene[1]}:{scene[2]}" not in noted.get(scene[0], {}))
    jobs = [
        {"robot": robot, "scene": scene, "seed": int(seed), "file": scenes[robot, scene, seed]}
        for robot, scene, seed in missing
    ]
    with WorkerPool(_worker, (), workers, SCENE_LIMIT_S) as pool:
        for done, row in enumerate(pool.results(jobs, kind="scene"), 1):
            noted.setdefault(row["robot"], {})[f"{row['scene']}:{row['seed']}"] = row["places"]
            if done % SAVE_EVERY == 0 or done == len(jobs):
                draft = path.with_suffix(".part")
                draft.write_text(json.dumps(noted))
                draft.replace(path)
            told(done, len(jobs))
    return noted


def grasps_elsewhere(stage: Stage) -> Places:
    """Where the expert would close the gripper first, for each task that can be asked for in the scene as it is now.

    What does not begin with plainly taking hold of an object is not among them: drawers, knobs, a plate to push, what
    is laid on a rack or put into the microwave.
    """
    task = stage.task
    asked = {task.name: read_goal(task)}
    asked |= {Asked(task, other).name: other.goal for other in alternatives(task).values()}
    places = {}
    for name, goal in asked.items():
        expert = Expert(stage, goal)
        expert.act()
        if expert.closes_at is not None:
            places[name] = expert.closes_at.round(4).tolist()
    return places


def _check_begins_as_drawn(file: Path) -> None:
    extra = read_episode(file).meta.extra
    shift, starts = extra.get("shift", {}).get("level", "none"), extra.get("starts", "sampled")
    if shift != "none" or starts != "sampled":
        raise EpisodeError(
            f"{file} has shift {shift} and {starts} starts; expected shift none and sampled starts, which task "
            "and seed draw again: keep such episodes in a folder of their own"
        )


def _worker() -> Callable[[Job, Alive], Result]:
    """In a worker: the stage of the scene at hand, built anew when the next job is of another."""
    held: dict[tuple[str, str], Stage] = {}

    def work(job: Job, alive: Alive) -> Result:
        _check_begins_as_drawn(Path(job["file"]))
        key = (job["robot"], job["scene"])
        if key not in held:
            for stage in held.values():
                stage.env.close()
            held.clear()
            held[key] = Stage(find_suite(job["robot"].removeprefix("sim:")).find(job["scene"]))
        stage = held[key]
        start = draw_start(stage, job["seed"])
        stage.reset(start.state, start.fixtures)
        stage.wait()
        return {**job, "places": grasps_elsewhere(stage)}

    return work
