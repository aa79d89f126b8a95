"""`flexor verify`: whether a bundle computes the same in another precision."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile


def verify(
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle, or the name of one that ships with flexor.")],
    episodes: Annotated[Path, typer.Option(help="Folder of recorded episodes, whose observations are asked.")],
    precision: Annotated[str, typer.Option(help="fp32, bf16, int8, or prefix and expert: int8+fp32.")] = "int8",
    n: Annotated[int, typer.Option(min=1, help="Observations, spread over the episodes.")] = 200,
    json: JsonFile = None,
) -> None:
    """Compare a precision with float32 on recorded observations, and keep the verdict in the bundle.

    Both are asked the same with the same noise. A precision that fails is not served any more, unless forced; the
    verdict lies in BUNDLE/gates/PRECISION.json. Exit code 3 when it fails.

    Example: flexor verify runs/pi05-nano --precision int8 --episodes data/tabletop
    """
    from flexor.cli.progress import Progress
    from flexor.cli.report import console, table, write_json
    from flexor.export.parity import compare_policies
    from flexor.export.recorded_observations import recorded_observations
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.engine import open_engine
    from flexor.runtime.inference.gates import LEAST_MEAN, LEAST_WORST, is_close_enough, write_gate
    from flexor.runtime.inference.policy import Policy

    opened = Bundle.open(bundle)
    reference = Policy(opened, open_engine(opened))
    other = Policy(opened, open_engine(opened, precision=precision, force=True))
    observations = recorded_observations(episodes, opened.config.cameras, n)
    with Progress() as progress:
        parity = compare_policies(
            reference,
            other,
            observations,
            lambda done: progress.update("comparing", done, len(observations), f"{done} of {len(observations)}"),
        )
    passed = is_close_enough(parity.cos_mean, parity.cos_min)
    told = other.engine.precision
    figures = f"cosine {parity.cos_mean:.5f} on average, {parity.cos_min:.3f} at worst"
    figures += f" (at least {LEAST_MEAN:g} and {LEAST_WORST:g})"
    path = write_gate(opened, told, "parity", passed, figures, parity.to_dict())
    rows = [
        ("cosine, mean", parity.cos_mean, LEAST_MEAN),
        ("cosine, worst", parity.cos_min, LEAST_WORST),
        ("difference, mean", parity.mean_abs, ""),
        ("difference, largest", parity.max_abs, ""),
    ]
    table(f"{opened.id} in {told} beside fp32, {parity.n} observations", ("normalised actions", "", "at least"), rows)
    console.print(f"{'passed' if passed else 'FAILED'}: {path}", highlight=False, markup=False, soft_wrap=True)
    setting = {"bundle": opened.id, "hash": opened.hash, "precision": told, "episodes": episodes}
    write_json(json, {**setting, **parity.to_dict(), "passed": passed, "gate": path})
    if not passed:
        raise typer.Exit(3)
