"""`flexor eval --gate`: success in a precision, or of graphs, beside float32 on the same episodes, kept as a gate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

EPISODES = 200
CONDITIONS = ("sim", "seed", "delay", "replan", "flow_steps", "noise_scale", "protocol", "starts", "render")
"""Of an evaluation, what a gate says of its episodes."""


def gated_precision(bundle: str, precision: str | None) -> str:
    """What is compared with float32, by its full name: a precision of weights, or exported graphs in their own.

    Raises:
        typer.BadParameter: weights in float32, or graphs in another precision than theirs.
        FlexorError: no such bundle or precision.
    """
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.precisions import full_name

    opened = Bundle.open(bundle)
    if opened.config.graphs is not None:
        if precision not in (None, opened.precision):
            raise typer.BadParameter(f"the graphs are in {opened.precision}; leave it out", param_hint="--precision")
        return opened.precision
    named = full_name(precision or opened.precision)
    if named == "fp32":
        raise typer.BadParameter("compares with fp32; name another with --precision", param_hint="--gate")
    return named


def play_gate(
    bundle: str,
    play: Callable[..., dict[str, Any]],
    precision: str,
    planned: int,
    json: Path | None,
    source: str | None = None,
) -> bool:
    """Play both arms, tell them, keep the verdict in the bundle; whether it did not fail.

    Args:
        bundle: of weights, which are also played in float32; or of exported graphs, whose source is played beside.
        play: flexor.flywheel.evaluate.evaluate, all settled but bundle, watcher and precision.
        precision: by its full name; that of the graphs.
        planned: episodes of each arm.
        source: of graphs, the bundle that they are of, where none of the graphs' name ships with flexor.

    Raises:
        FlexorError: another source than the graphs are of, a bundle that changed meanwhile or cannot be written,
            workers that keep dying.
    """
    from flexor.cli.eval_view import print_evaluation
    from flexor.cli.progress import Progress
    from flexor.cli.report import console, write_json
    from flexor.errors import FlexorError
    from flexor.flywheel.success_gate import SuccessPair
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.gates import write_gate

    graphs = Bundle.open(bundle).config.graphs
    reference_bundle = bundle if graphs is None else source or Bundle.open(bundle).name
    if graphs is not None and (found := Bundle.open(reference_bundle)).hash != graphs.source:
        raise FlexorError(
            f"{bundle} was not exported from {found.id}; name the bundle of weights that it is of with --source"
        )
    arms = []
    with Progress() as progress:
        for name, computed in ((reference_bundle, "fp32"), (bundle, precision)):
            played: list[bool] = []
            label = f"playing {name} in {computed}"

            def on_episode(row: dict[str, Any], label: str = label, played: list[bool] = played) -> None:
                played.append(row["success"])
                progress.update(label, len(played), planned, f"{sum(played)} succeeded")

            arms.append(play(name, watch=on_episode, precision=computed))
    reference, other = arms
    pair = SuccessPair.of(reference, other, None if graphs is None else graphs.source)
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
