"""SampleStore: samples of recorded episodes on disk, one file an episode, read from the recording once.

`load_demonstrations` reads a folder that is complete; here episodes come one by one, and go.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from flexor.learner.demonstrations import DemonstrationError, episode_identity, read_samples
from flexor.learner.elsewhere import Elsewhere
from flexor.learner.lora.advice_reach import advice_reach
from flexor.learner.lora.episode_set import EpisodeSet
from flexor.learner.lora.recording_form import RecordingForm
from flexor.learner.lora.served_prompts import ServedPrompts
from flexor.learner.sentences import Sentences, read_sentences
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.inference.bundle import Bundle

VERSION = 3
SUFFIX, DRAFT = ".safetensors", ".draft-"


class SampleStore:
    """What is in it can always be made again from the recordings: nothing of it is synced, and a torn file is a miss.

    Args:
        folder: made when it is not there; one process uses it at a time.
        bundle: that is taught; what was taken for one is not found for another.

    Raises:
        BundleError: the bundle's tokenizer cannot be used.
        OSError: the disk refuses.
    """

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        self._folder, self._bundle = folder, bundle
        self._form, self._prompts = RecordingForm(bundle), ServedPrompts(bundle)
        folder.mkdir(parents=True, exist_ok=True)
        for draft in folder.glob(f"{DRAFT}*"):  # of a process that was killed
            draft.unlink()

    def digest(self, root: Path, episode: str) -> str:
        """Names the samples of an episode in a folder of episodes, as its file and its corrections are now.

        Raises:
            OSError: there is no such episode.
        """
        told = [VERSION, self._bundle.hash, episode_identity(_recording(root, episode))]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]

    def take(self, root: Path, episode: str) -> None:
        """Read an episode, unless that was done before.

        Every recorded frame is a sample of a success, and of a failure in which somebody advised; of anything else
        those at which somebody intervened.

        Raises:
            DemonstrationError: it has no sample, or is not in the bundle's RecordingForm, or was told a sentence that
                the bundle does not take.
            EpisodeError: it does not read.
            OSError: there is no such episode, or the disk refuses.
        """
        path = self._path(root, episode)
        if _opens(path):
            return
        file = _recording(root, episode)
        cameras, model = self._bundle.cameras, self._bundle.model_config
        size = model.vision.image_size
        recorded, pixels = read_episode(file), io.BytesIO()
        self._form.check_rate(file, recorded.meta.hz)
        self._prompts.check(file, recorded.meta.prompt)
        read = read_samples(file, recorded, cameras, size, model.horizon, pixels)
        shape = (len(read["states"]), len(cameras), size, size, 3)
        advised = bool(recorded.advised.any())
        whole = recorded.outcome == "success" or (recorded.outcome == "failure" and advised)
        chosen = np.full(len(read["states"]), True) if whole else read["intervened"]
        if not chosen.any():
            raise DemonstrationError(
                f"{file} ended as {recorded.outcome} and shows no frame at which somebody intervened"
            )
        arrays = {name: np.ascontiguousarray(read[name][chosen]) for name in ("states", "actions", "played")}
        self._form.check(file, arrays)
        scale = self._bundle.config.action_space.metres_per_unit
        plans = np.full(len(read["states"]), model.horizon)
        reach = advice_reach(read["actions"], read["played"], scale) if advised else plans
        arrays["reach"] = np.ascontiguousarray(reach[chosen])
        arrays["images"] = np.frombuffer(pixels.getvalue(), np.uint8).reshape(shape)[chosen]
        told = {"task": recorded.meta.task, "spoken": recorded.meta.prompt, "hz": repr(float(recorded.meta.hz))}
        draft = self._folder / f"{DRAFT}{episode}{SUFFIX}"
        save_file(arrays, draft, told)
        os.replace(draft, path)

    def gather(self, root: Path, episodes: Iterable[str]) -> EpisodeSet:
        """Episodes that were taken, as one set, with the sentences of `root`/sentences.json where there are any.

        Raises:
            FlexorError: sentences that do not read.
        """
        found = {one: self._path(root, one) for one in episodes}
        heads = {one: _head(path) for one, path in found.items()}
        ids = tuple(sorted(found, key=lambda one: (heads[one][0], one)))
        parts = [_arrays(found[one]) for one in ids]
        counts = [len(part["states"]) for part in parts]
        tasks = sorted({heads[one][0] for one in ids})
        path = root / "sentences.json"
        known = read_sentences(path) if path.exists() else {}
        told = json.dumps([[one, self.digest(root, one)] for one in ids])
        return EpisodeSet(
            # It is asked for single frames alone, as an array would be.
            images=cast("NDArray[np.uint8]", _StoredFrames([found[one] for one in ids], counts)),
            states=np.concatenate([part["states"] for part in parts]).astype(np.float32),
            actions=np.concatenate([part["actions"] for part in parts]).astype(np.float32),
            played=np.concatenate([part["played"] for part in parts]).astype(np.float32),
            tasks=np.repeat([tasks.index(heads[one][0]) for one in ids], counts),
            episodes=np.repeat(np.arange(len(ids)), counts),
            task_names=tuple(tasks),
            sentences=tuple(known.get(task, Sentences((), ())) for task in tasks),
            spoken=tuple(heads[one][1] for one in ids),
            reach=np.concatenate([part["reach"] for part in parts]),
            elsewhere=Elsewhere.nothing(len(ids)),
            hz=heads[ids[0]][2],
            render=None,
            digest=hashlib.sha256(told.encode()).hexdigest()[:16],
            ids=ids,
        )

    def keep(self, digests: Iterable[str]) -> None:
        """Throw away all but these."""
        wanted = {f"{digest}{SUFFIX}" for digest in digests}
        for path in self._folder.glob(f"*{SUFFIX}"):
            if path.name not in wanted:
                path.unlink(missing_ok=True)

    def _path(self, root: Path, episode: str) -> Path:
        return self._folder / f"{self.digest(root, episode)}{SUFFIX}"


class _StoredFrames:
    """frames[row] uint8 [V, S, S, 3], and frames[row : row + 1], of many files; each is opened when it is asked for."""

    def __init__(self, paths: Sequence[Path], counts: Sequence[int]) -> None:
        self._paths, self._ends = list(paths), np.cumsum(counts)

    def __getitem__(self, asked: int | slice) -> NDArray[np.uint8]:
        row = asked.start if isinstance(asked, slice) else int(asked)
        file = int(np.searchsorted(self._ends, row, side="right"))
        first = row - (int(self._ends[file - 1]) if file else 0)
        with safe_open(str(self._paths[file]), framework="np") as stored:
            frame = stored.get_slice("images")[first : first + 1]
        return frame if isinstance(asked, slice) else frame[0]


def _recording(root: Path, episode: str) -> Path:
    return root / "episodes" / f"{episode}.mcap"


def _opens(path: Path) -> bool:
    try:
        with safe_open(str(path), framework="np"):
            return True
    except (FileNotFoundError, SafetensorError):
        return False


def _head(path: Path) -> tuple[str, str, float]:
    with safe_open(str(path), framework="np") as stored:
        told = stored.metadata()
    return told["task"], told["spoken"], float(told["hz"])


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with safe_open(str(path), framework="np") as stored:
        return {name: stored.get_tensor(name) for name in ("states", "actions", "played", "reach")}
