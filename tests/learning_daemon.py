"""A daemon that learns, small and quick: in this process, stopping by itself, with all that it told; or in its own."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from random_adapters import ALPHA, RANK

from flexor.learner.continual.daemon import DaemonWatcher, LearnerDaemon
from flexor.learner.continual.settings import ContinualSettings
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.inference.bundle import Bundle

LIMIT_S = 150.0
SMALL = {"batch": 2, "accumulation": 2, "draws": 2, "precision": "fp32", "held_out": 0.2, "steps": 12, "lr": 5e-3}
SMALL |= {"r": RANK, "lora_alpha": ALPHA, "log_steps": 1, "checkpoint_s": 0}


def settings(**changes: Any) -> ContinualSettings:
    publish = {"every_episodes": 6, "min_episodes": 3, **changes.pop("publish", {})}
    return ContinualSettings.model_validate({**SMALL, "learner": {"poll_s": 0.01}, "publish": publish, **changes})


class Learner:
    """A daemon in this process, which stops by itself, and all that it told."""

    def __init__(self, base: Bundle, data: Path, out: Path, chosen: ContinualSettings, **more: Any) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.steps: list[tuple[int, float]] = []
        self._until: Callable[[], bool] = lambda: True
        watcher = DaemonWatcher(
            lambda event, told: self.events.append((event, told)),
            lambda done, total: None,
            lambda standing: self.steps.append((standing.step, standing.loss)),
        )
        self._daemon = LearnerDaemon(base, data, out, chosen, watcher, stop=self._over, **more)

    def run(self, until: Callable[[], bool]) -> dict[str, Any]:
        self._until, self._deadline = until, time.monotonic() + LIMIT_S
        return self._daemon.run()

    def told(self, event: str) -> list[dict[str, Any]]:
        return [told for name, told in self.events if name == event]

    def _over(self) -> bool:
        assert time.monotonic() < self._deadline, self.events[-3:]
        return self._until()


def publish(base: Bundle, data: Path, out: Path, chosen: ContinualSettings, **more: Any) -> tuple[Learner, Path]:
    """The learner after it wrote one adapter, and the adapter."""
    learner = Learner(base, data, out, chosen, count=1, **more)
    learner.run(lambda: False)
    return learner, out / learner.told("adapter.written")[0]["adapter"]


def start_learner(
    base: Bundle, data: Path, replay: Path, out: Path, *more: str, file_limit: int | None = None
) -> subprocess.Popen[str]:
    """`flexor learn` with the same settings as a process; file_limit: bytes that a file may have, as on a full disk."""
    chosen = {**SMALL, "learner.poll_s": 0.05, "publish.every_episodes": 6, "publish.min_episodes": 3}
    command = [sys.executable, "-m", "flexor", "learn", "--bundle", base.path, "--episodes", data, "--out", out]
    options = ["--replay", replay, *(f"{key}={value}" for key, value in chosen.items()), *more]

    def fill_the_disk() -> None:
        if file_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    return subprocess.Popen(
        [*map(str, [*command, *options])], stderr=subprocess.PIPE, text=True, preexec_fn=fill_the_disk
    )


def wait_until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def unused(data: Path, folder: Path) -> Path:
    """A folder with the same episodes, from which nobody has learned."""
    folder.mkdir()
    (folder / "episodes").symlink_to(data / "episodes")
    (folder / "sentences.json").write_bytes((data / "sentences.json").read_bytes())
    for path in sorted((folder / "episodes").glob("*.mcap")):
        EpisodeIndex(folder).add(path)
    return folder
