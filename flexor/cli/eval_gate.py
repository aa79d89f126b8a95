"""`flexor eval --gate`: success in a precision beside float32 on the same episodes, kept as a part of its gate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

EPISODES = 200
CONDITIONS = ("sim", "seed", "delay", "protocol", "starts", "render")
"""Of an evaluation, what a gate says of its episodes."""


def play_gate(
    bundle: str, play: Callable[..., dict[str, Any]], precision: str, planned: int, json: Path | None
) -> bool:
    """Play both arms, tell them, keep the verdict in the bundle; whether it did not fail.

    Args:
        play: flexor.flywheel.evaluate.evaluate, all settled but bundle, watcher and precision.
        precision: by its full name.
        planned: episodes of each arm.

    Raises:
        FlexorError: a bundle of graphs, one that changed meanwhile or cannot be written, workers that keep dying.
    """
    from flexor.cli.eval_view import print_evaluation
    from flexor.cli.progress import Progress
    from flexor.cli.report import console, write_json
    from flexor.errors import FlexorError
    from flexor.flywheel.success_gate import SuccessPair
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.gates import write_gate

    if Bundle.open(bundle).config.graphs is not None:
        raise FlexorError(
            f"{bundle} holds exported graphs, which compute in {precision} alone, and --gate plays float32 beside it;"
            " name the bundle of weights that they were exported from"
        )
    arms = []
    with Progress() as progress:
        for arm in ("fp32", precision):
            played: list[bool] = []

            def on_episode(row: dict[str, Any], arm: str = arm, played: list[bool] = played) -> None:
                played.append(row["success"])
                progress.update(f"playing in {arm}", len(played), planned, f"{sum(played)} succeeded")

            arms.append(play(bundle, watch=on_episode, precision=arm))
    reference, other = arms
    pair = SuccessPair.of(reference, other)
    opened = Bundle.open(bundle)
    if opened.hash != other["bundle_hash"]:
        raise FlexorError(f"{bundle} changed while it was evaluated; start again")
    measured = {**pair.to_dict(), **{key: other[key] for key in CONDITIONS if key in other}}
    path = write_gate(opened, precision, "success", pair.passed, pair.told, measured)
    print_evaluation(reference)
    print_evaluation(other)
    verdict = {True: "passed", False: "FAILED", None: "undecided, play more episodes"}[pair.passed]
    console.print(
        f"{verdict}: {pair.told}, McNemar p {pair.p:.3f}: {path}", highlight=False, markup=False, soft_wrap=True
    )
    write_json(
        json, {**other, "reference": reference, **measured, "told": pair.told, "passed": pair.passed, "gate": path}
    )
    return pair.passed is not False
