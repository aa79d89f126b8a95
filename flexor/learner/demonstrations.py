"""Recorded episodes -> training arrays: frames at the model's size in a memory map, chunks of the expert's actions."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.learner.elsewhere import Elsewhere, read_elsewhere
from flexor.learner.sentences import Sentences, read_sentences
from flexor.pi05.images import resize_with_pad
from flexor.runtime.draft_folder import draft_folder, sweep_drafts
from flexor.runtime.episodes.corrections import corrections_file
from flexor.runtime.episodes.episode import Episode, read_episode

CACHE = "cache-v5-"
"""How the names of caches begin; those of other versions are removed, for nothing reads them."""

EACH = {"spoken": "spoken", "origins": "origin"}
"""What a cache says of each episode, and its name among that episode's samples."""

LEAVE_OUT = "leave it out: remove the file, or call it no success (flexor episodes label DIR ID --outcome unknown)"


class DemonstrationError(FlexorError):
    """The recorded episodes cannot be trained on."""


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """One sample for every recorded frame of every successful episode.

    Attributes:
        images: uint8 [n, V, S, S, 3], a read-only memory map, cameras in the order asked for.
        states: float32 [n, state_dim], robot units.
        actions: float32 [n, H, A], robot units: what the expert would do from that step on.
        played: the same for what the arm was made to do, disturbances included; what the expert would do where it
            planned ahead and left the arm to the policy.
        tasks: int64 [n], index into task_names.
        episodes: int64 [n], which episode it came from, numbered by (task, file name).
        task_names: sorted.
        sentences: of each task, in the order of task_names; empty where the recordings came without sentences.json.
        reach: int64 [n], of how many of a chunk's first actions the expert's own plan is told (flexor.learner.lora.
            advice_reach): all H of a demonstration.
        spoken: what the robot was told, one sentence an episode, by its number.
        elsewhere: what else could have been asked for in each episode; nothing where the recordings came without
            elsewhere.json.
        hz: control rate of the recordings.
        render: how their frames were drawn, where the simulator has several ways (flexor.sim.libero); None elsewhere.
        digest: names the content, for the identity of a training run.
    """

    images: NDArray[np.uint8]
    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    played: NDArray[np.float32]
    tasks: NDArray[np.int64]
    episodes: NDArray[np.int64]
    task_names: tuple[str, ...]
    sentences: tuple[Sentences, ...]
    reach: NDArray[np.int64]
    spoken: tuple[str, ...]
    elsewhere: Elsewhere
    hz: float
    render: str | None
    digest: str

    def split(self, held_out: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sample indices to train on and to hold out: whole episodes, one in every 1 / held_out, of all tasks alike.

        Raises:
            DemonstrationError: too few episodes for one to be held out.
        """
        every = max(2, round(1 / held_out))
        kept_back = self.episodes % every == every // 2
        if not kept_back.any():
            raise DemonstrationError(
                f"of {len(set(self.episodes.tolist()))} successful episodes none is held out at held_out={held_out:g}; "
                f"record at least {every // 2 + 1}, or set a larger held_out"
            )
        return np.flatnonzero(~kept_back), np.flatnonzero(kept_back)

    def number(self, row: int) -> int:
        """The sample's own number, which its variations are drawn by."""
        return row


def episode_identity(file: Path) -> list[str | int]:
    """What a cache depends on of an episode's file: corrections may make a success of a failure, or the other way."""
    labels = corrections_file(file)
    said = [hashlib.sha256(labels.read_bytes()).hexdigest()[:16]] if labels.exists() else []
    return [file.name, file.stat().st_size, *said]


def load_demonstrations(
    root: Path,
    cameras: Sequence[str],
    image_size: int,
    horizon: int,
    on_episode: Callable[[int, int], None] | None = None,
) -> Demonstrations:
    """Read `root/episodes/*.mcap`, by way of `root/cache-v5-<hash>` when that was done before, and what lies beside
    them: sentences.json and elsewhere.json.

    What a process that was killed in here left of a cache is removed first, and caches of other versions.

    Args:
        on_episode: called with (episodes read, episodes in all) while the cache is made.

    Raises:
        DemonstrationError: no successful episode, a camera that was not recorded, episodes of several robots or
            rates, numbers that are not finite, tasks that sentences.json lacks, or the disk refuses the cache.
    """
    path = root / "sentences.json"
    sentences = read_sentences(path) if path.exists() else None
    files = sorted((root / "episodes").glob("*.mcap"))
    if not files:
        raise DemonstrationError(f"no episodes in {root / 'episodes'}; record some: flexor collect --out {root}")
    recipe = [list(cameras), image_size, horizon, [episode_identity(file) for file in files]]
    digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]
    cache = root / f"{CACHE}{digest}"
    try:
        if os.access(root, os.W_OK):
            sweep_drafts(root, "cache-*")
            for old in root.glob("cache-*"):
                if not old.name.startswith(CACHE):
                    shutil.rmtree(old)
        if not cache.exists():
            _write_cache(cache, files, tuple(cameras), image_size, horizon, on_episode)
    except OSError as error:
        raise DemonstrationError(f"cannot write the training cache {cache}: {error}; free the disk") from error
    meta = json.loads((cache / "meta.json").read_text())
    arrays = {name: np.load(cache / f"{name}.npy") for name in ("states", "actions", "played", "tasks", "episodes")}
    if sentences is not None and (missing := sorted(set(meta["task_names"]) - sentences.keys())):
        raise DemonstrationError(f"{path} lacks the tasks {missing}; add them, or collect again")
    return Demonstrations(
        images=np.load(cache / "images.npy", mmap_mode="r"),
        reach=np.full(len(arrays["states"]), horizon),
        task_names=tuple(meta["task_names"]),
        sentences=() if sentences is None else tuple(sentences[name] for name in meta["task_names"]),
        spoken=tuple(meta["spoken"]),
        elsewhere=read_elsewhere(root / "elsewhere.json", meta["origins"], meta["task_names"]),
        hz=meta["hz"],
        render=meta["render"],
        digest=digest,
        **arrays,
    )


def action_chunks(labels: NDArray[np.float32], starts: NDArray[np.int64], horizon: int) -> NDArray[np.float32]:
    """The next `horizon` of labels [T, A] from each start -> [n, H, A]; past the end: no motion, the last gripper."""
    rest = np.zeros((horizon, labels.shape[1]), np.float32)
    rest[:, -1] = labels[-1, -1]
    padded = np.concatenate([labels, rest])
    return padded[starts[:, None] + np.arange(horizon)]


def _write_cache(
    cache: Path,
    files: Sequence[Path],
    cameras: tuple[str, ...],
    size: int,
    horizon: int,
    on_episode: Callable[[int, int], None] | None,
) -> None:
    rows: list[dict[str, Any]] = []
    rates: set[float] = set()
    renders: set[str | None] = set()
    sizes: dict[tuple[int, int], Path] = {}
    with draft_folder(cache) as draft:
        with (draft / "images.raw").open("wb") as pixels:
            for number, file in enumerate(files):
                episode = read_episode(file)
                if episode.outcome == "success":
                    rows.append(read_samples(file, episode, cameras, size, horizon, pixels))
                    _refuse_not_finite(file, rows[-1])
                    sizes.setdefault((rows[-1]["states"].shape[1], rows[-1]["actions"].shape[2]), file)
                    rates.add(float(episode.meta.hz))
                    renders.add(episode.meta.extra.get("render"))
                if on_episode is not None:
                    on_episode(number + 1, len(files))
        if not rows or len(rates) != 1:
            raise DemonstrationError(
                f"{cache.parent / 'episodes'} holds {len(rows)} successful episodes of {len(files)}, at control rates "
                f"{sorted(rates)}; expected some, at one rate; collect them with one `flexor collect`"
            )
        if len(sizes) != 1:
            told = "; ".join(f"{state} and {action} in {file.name}" for (state, action), file in sorted(sizes.items()))
            raise DemonstrationError(
                f"{cache.parent / 'episodes'} holds states and actions of several sizes ({told}); expected those of one"
                f" robot: {LEAVE_OUT}"
            )
        if len(renders) != 1:
            told = ", ".join(sorted(str(render) for render in renders))
            raise DemonstrationError(
                f"{cache.parent / 'episodes'} holds frames that were drawn in several ways ({told}); expected one: a "
                "policy is shown what it was trained on"
            )
        _finish(draft, rows, len(cameras), size, {"hz": rates.pop(), "render": renders.pop()})


def _refuse_not_finite(file: Path, row: dict[str, Any]) -> None:
    for name in ("states", "actions", "played"):
        if not np.isfinite(row[name]).all():
            value = row[name][~np.isfinite(row[name])][0]
            raise DemonstrationError(f"{file} holds {value} in its {name}; expected finite numbers: {LEAVE_OUT}")


def read_samples(
    file: Path, episode: Episode, cameras: tuple[str, ...], size: int, horizon: int, pixels: BinaryIO
) -> dict[str, Any]:
    """The arrays of one episode; its frames go straight to `pixels`, for they would not fit into memory together.

    Raises:
        DemonstrationError: it has no frames, not those of a camera, or skips steps, or begins as the benchmark does.
    """
    if episode.meta.extra.get("starts") == "official":  # seeds 0 to 49 are what LIBERO's numbers are measured on
        raise DemonstrationError(
            f'{file} has starts "official", expected "sampled": official initial states are for measuring alone; '
            f"record from sampled ones (flexor collect, flexor run without --official), and {LEAVE_OUT}"
        )
    absent = [camera for camera in cameras if camera not in episode.frames]
    if absent:
        held = sorted(episode.frames)
        raise DemonstrationError(f"{file} has no frames of {absent}; it holds {held}; set cameras=[...]")
    recorded = [set(episode.frames[camera]) for camera in cameras]
    common = set.intersection(*recorded).intersection(episode.steps.tolist())
    steps = np.array(sorted(common), np.int64)
    starts = np.searchsorted(episode.steps, steps)
    if not np.array_equal(np.diff(episode.steps), np.ones(len(episode.steps) - 1)) or len(steps) == 0:
        raise DemonstrationError(f"{file} skips control steps or has no frames; leave it out: remove the file")
    for step in steps.tolist():
        for camera in cameras:
            pixels.write(resize_with_pad(episode.frames[camera][step], size).tobytes())
    actions, played = (action_chunks(rows, starts, horizon) for rows in (episode.labels, episode.actions))
    for row, step in enumerate(steps.tolist()):
        plan = episode.plans.get(step)
        if plan is not None and len(plan) >= horizon:  # what is committed of a plan are its own first actions
            actions[row] = played[row] = plan[:horizon]
    return {
        "key": (episode.meta.task, file.name),
        "spoken": episode.meta.prompt,
        "origin": (episode.meta.robot, episode.meta.task, str(episode.meta.seed)),
        "intervened": episode.interventions[starts],
        "states": episode.states[starts],
        "actions": actions,
        "played": played,
    }


def _finish(draft: Path, rows: list[dict[str, Any]], views: int, size: int, told: dict[str, Any]) -> None:
    """Number the episodes by (task, name), write the arrays, and give the raw frames the header of an .npy file."""
    order = sorted(row["key"] for row in rows)
    task_names = sorted({task for task, _ in order})
    counts = [len(row["states"]) for row in rows]
    for name in ("states", "actions", "played"):
        np.save(draft / f"{name}.npy", np.concatenate([row[name] for row in rows]).astype(np.float32))
    np.save(draft / "tasks.npy", np.repeat([task_names.index(row["key"][0]) for row in rows], counts))
    np.save(draft / "episodes.npy", np.repeat([order.index(row["key"]) for row in rows], counts))
    shape = (sum(counts), views, size, size, 3)
    # Written, not mapped: a mapped file that finds the disk full kills the process instead of raising an error.
    with (draft / "images.raw").open("rb") as raw, (draft / "images.npy").open("wb") as images:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(images, header)
        shutil.copyfileobj(raw, images, 2**20)
    (draft / "images.raw").unlink()
    told |= {name: [row[one] for row in sorted(rows, key=lambda row: row["key"])] for name, one in EACH.items()}
    (draft / "meta.json").write_text(json.dumps({"task_names": task_names, **told}))
