"""What a run through either model leaves, on disk and against another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pi05.parity.cases import Case, find_cases

Record = dict[str, NDArray]
"""tokens int64 [T]; keys, values float32 [layers, real tokens, head_dim]; velocities [steps, H, A]; actions [H, A]."""

DATA = Path(__file__).parent / "data"
_STRIDES = {"small": 3, "wide": 37, "deep": 37, "full": 37}


def save(record: Record, case: Case, folder: Path) -> None:
    """Write `<folder>/<case>.npz`."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{case.name}.npz", **record)  # type: ignore[arg-type]


def load(case: Case, folder: Path = DATA) -> Record:
    """Read `<folder>/<case>.npz`."""
    with np.load(folder / f"{case.name}.npz", allow_pickle=False) as stored:
        return dict(stored)


def thin(record: Record, case: Case) -> Record:
    """Every third (or 37th) token of keys and values: what is small enough to be kept beside the tests.

    Attention mixes all tokens in every layer, so what is wrong with one soon shows in these.
    """
    stride = _STRIDES[case.config]
    return {name: value[:, ::stride] if name in ("keys", "values") else value for name, value in record.items()}


def kept_cases(config: str, precision: str) -> list[Case]:
    """The cases that have a file in `data`: all small ones in float32, otherwise those with the state."""
    cases = [case for case in find_cases(config) if case.precision == precision]
    return cases if (config, precision) == ("small", "fp32") else [case for case in cases if case.with_state]


def largest(ours: NDArray, theirs: NDArray) -> float:
    """Largest difference as a part of the largest number."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def relative(ours: NDArray, theirs: NDArray) -> float:
    """Length of the difference as a part of the length."""
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def cosine(ours: NDArray, theirs: NDArray) -> float:
    """Of the angle between two results, flattened."""
    a, b = ours.ravel().astype(np.float64), theirs.ravel().astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
