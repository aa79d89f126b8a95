"""Which int8 graph: of what two ways of quantising gave and the float32 graph, the quickest that is near enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.export.exporter import PLAIN
from flexor.export.onnx.quantise import METHODS, Feeds, quantise
from flexor.export.onnx.questions import Question, ask_expert, ask_prefix
from flexor.export.parity import compare_actions
from flexor.runtime.inference.gates import is_close_enough
from flexor.runtime.inference.onnx_session import open_session

WORTH = 0.9  # of the time in float32: 8 bits that save less than a tenth are not worth their rounding


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to have a graph: how near its actions are to those of float32 graphs, and its speed.

    `ms` is of its quickest call, which a busy machine disturbs least.
    """

    graph: str
    method: str
    cos_mean: float
    cos_min: float
    ms: float
    passed: bool

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def choose_graphs(
    plain: Mapping[str, Path],
    questions: Sequence[Question],
    calibrate: int,
    steps: int,
    told: Callable[[str], None],
) -> tuple[dict[str, Path], list[Candidate]]:
    """Quantise both graphs in every way, measure on one CPU thread, and take the best of each.

    Args:
        plain: float32 files of "prefix" and "expert"; others are written beside them.
        questions: the first `calibrate` are for the scales, the others are compared.
        steps: calls of the expert that a chunk takes.
        told: is told what is being done.

    Returns:
        The file of each graph, and what was measured.
    """
    sessions = {graph: open_session(path, 1, "cpu") for graph, path in plain.items()}
    caches = ask_prefix(sessions["prefix"], questions)[0]
    learned, held_out = questions[:calibrate], questions[calibrate:]
    recorded: dict[str, list[Feeds]] = {
        "prefix": [question.prefix for question in learned],
        "expert": [
            {**cache, **question.expert, **({"step": np.array([place % steps])} if steps > 1 else {})}
            for place, (question, cache) in enumerate(zip(learned, caches, strict=False))
        ],
    }
    chosen, measured = {}, []
    for graph, path in plain.items():
        files = {PLAIN: path}
        for method in METHODS:
            told(f"{graph}: {method}")
            files[method] = path.with_name(f"{graph}.{method}.onnx")
            quantise(path, files[method], method, recorded[graph])
        told(f"{graph}: measuring")
        candidates = {method: open_session(file, 1, "cpu") for method, file in files.items()}
        actions: dict[str, NDArray[np.float32]] = {}
        seconds: dict[str, list[float]] = {method: [] for method in files}
        for method, session in candidates.items():
            if graph == "prefix":
                theirs = ask_prefix(session, held_out)[0]
                actions[method] = ask_expert(sessions["expert"], held_out, theirs, steps)[0]
            else:
                actions[method] = ask_expert(session, held_out, caches[calibrate:], steps)[0]
        for question, cache in zip(held_out, caches[calibrate:], strict=True):
            for method, session in candidates.items():
                if graph == "prefix":
                    seconds[method] += ask_prefix(session, [question])[1]
                else:
                    seconds[method] += ask_expert(session, [question], [cache], steps)[1]
        found = []
        for method in files:
            parity = compare_actions(np.stack((actions[PLAIN], actions[method]), axis=1).astype(np.float64))
            passed = is_close_enough(parity.cos_mean, parity.cos_min)
            ms = 1000 * min(seconds[method])
            found.append(Candidate(graph, method, parity.cos_mean, parity.cos_min, ms, passed))
        best = _best(found)
        chosen[graph] = files[best.method]
        measured += found
    return chosen, measured


def _best(found: Sequence[Candidate]) -> Candidate:
    """Of the candidates for one graph, float32 among them."""
    plain = next(candidate for candidate in found if candidate.method == PLAIN)
    worth = [candidate for candidate in found if candidate.passed and candidate.ms <= WORTH * plain.ms]
    return min(worth, key=lambda candidate: candidate.ms, default=plain)
