"""Plays a success matrix: every stage of it on every task, stage after stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from flexor.flywheel.row_file import Row
from flexor.flywheel.success_matrix import SuccessMatrix

_OF_A_STAGE = (
    "success_rate", "episodes", "successes", "ci95", "entropy_bits_mean", "failure_labels", "bundle", "bundle_hash",
    "tasks", "faults", "worker_deaths", "rows", "rows_file",
)  # fmt: skip


class Play(Protocol):
    """`flexor.flywheel.evaluate.evaluate` of one bundle, all else settled: the matrix's trials of each of its tasks."""

    def __call__(self, bundle: str, *, watch: Callable[[Row], None]) -> dict[str, Any]:
        """The result; `watch` is told every row."""
        ...


def evaluate_matrix(
    matrix: SuccessMatrix,
    play: Play,
    watch: Callable[[int, Row], None] = lambda stage, row: None,
    finished: Callable[[Mapping[str, Any]], None] = lambda result: None,
) -> dict[str, Any]:
    """Fill an empty matrix. Whatever ends it, `matrix` holds the episodes that were played by then.

    Args:
        matrix: its cells are counted up as episodes finish, its stages get their hashes.
        play: how a bundle is evaluated; what it keeps of finished episodes is not played again.
        watch: told the stage's number and each row.
        finished: told the result so far after each stage.

    Returns:
        the file form of the matrix, the conditions of its episodes (sim, seed, protocol, ...), and for each stage
        faults, worker_deaths and rows_file, as in the result of an evaluation.

    Raises:
        FlexorError: as `evaluate` does.
    """
    conditions: dict[str, Any] = {}
    runs: list[dict[str, Any]] = []
    for number, stage in enumerate(matrix.stages):

        def count(row: Row, number: int = number) -> None:
            matrix.add(number, row["task"], row["success"])
            watch(number, row)

        result = play(stage.bundle, watch=count)
        matrix.stages[number] = stage.model_copy(update={"bundle_hash": result["bundle_hash"]})
        conditions = {key: value for key, value in result.items() if key not in _OF_A_STAGE}
        runs.append({key: result[key] for key in ("faults", "worker_deaths", "rows_file")})
        finished({**matrix.to_dict(), **conditions, "runs": runs})
    return {**matrix.to_dict(), **conditions, "runs": runs}
