"""`flexor verify`: whether a bundle computes the same in another precision, or as exported graphs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flexor.cli.report import JsonFile
from flexor.cli.verify_graphs import verify_graphs
from flexor.runtime.inference.precisions import CHOICES

if TYPE_CHECKING:
    from flexor.cli.progress import Progress
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.observation import Observation

CALIBRATED_ON = 16  # observations, besides those that are compared


def verify(
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle, or the name of one that ships with flexor.")],
    episodes: Annotated[Path, typer.Option(help="Folder of recorded episodes, whose observations are asked.")],
    precision: Annotated[str | None, typer.Option(help=f"int8 if not given; for weights: {CHOICES}")] = None,
    n: Annotated[int, typer.Option(min=1, help="Observations, spread over the episodes.")] = 200,
    reference: Annotated[
        str, typer.Option(help="What is compared with; bf16 where float32 does not fit into memory.")
    ] = "fp32",
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="fp8: find the scales of activations anew; done by itself without any.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    source: Annotated[
        str | None,
        typer.Option(help="Exported graphs: the bundle that they are of, where it does not ship with flexor."),
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Exported graphs: where they run, cpu or cuda.")] = None,
    json: JsonFile = None,
) -> None:
    """Compare a precision with float32 on recorded observations, and keep the verdict in the bundle.

    Both are asked the same with the same noise. A precision that fails is not served any more, unless forced; the
    verdict lies in BUNDLE/gates/PRECISION.json. Exit code 3 when it fails.

    fp8 needs the scales of its activations, which come from other observations of the same episodes and lie in
    BUNDLE/gates/fp8.scales.json. Where no GPU multiplies fp8, the same numbers are computed in float32.

    Exported graphs are compared with the weights that they were made from, without an adapter and with random ones that
    move the actions; the whole report lies in BUNDLE/parity.json.

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
    from flexor.runtime.inference.precisions import full_name, parts

    if reference not in ("fp32", "bf16"):
        raise typer.BadParameter(f"{reference!r} is neither fp32 nor bf16", param_hint="--reference")
    opened = Bundle.open(bundle)
    if opened.config.graphs is not None:
        if precision is not None or reference != "fp32" or calibrate:
            raise typer.BadParameter(f"{opened.id} holds graphs: their precision is fixed, and their source in fp32")
        return verify_graphs(opened, source, episodes, n, threads, provider, json)
    if source is not None or provider is not None:
        raise typer.BadParameter(f"--source and --provider are for exported graphs, and {opened.id} holds weights")
    precision = precision or "int8"
    told = full_name(precision)
    if told == reference:
        raise typer.BadParameter(f"{told} beside itself says nothing", param_hint="--precision")
    eight = "fp8" in parts(precision)
    if calibrate and not eight:
        raise typer.BadParameter(f"is for fp8, and this is {told}", param_hint="--calibrate")
    observations = recorded_observations(episodes, opened.config.cameras, n + CALIBRATED_ON * eight)
    with Progress() as progress:
        if eight:
            observations = _calibrated(opened, observations, calibrate, threads, progress)
        exact = Policy(opened, open_engine(opened, precision=reference, threads=threads))
        other = Policy(opened, open_engine(opened, precision=precision, threads=threads, force=True))
        parity = compare_policies(
            exact,
            other,
            observations,
            lambda done: progress.update("comparing", done, len(observations), f"{done} of {len(observations)}"),
        )
    passed = is_close_enough(parity.cos_mean, parity.cos_min)
    figures = f"cosine to {reference} {parity.cos_mean:.5f} on average, {parity.cos_min:.3f} at worst"
    figures += f" (at least {LEAST_MEAN:g} and {LEAST_WORST:g})"
    setting = {"reference": reference, "provider": other.engine.provider}
    path = write_gate(opened, told, "parity", passed, figures, {**setting, **parity.to_dict()})
    rows = [
        ("cosine, mean", parity.cos_mean, LEAST_MEAN),
        ("cosine, worst", parity.cos_min, LEAST_WORST),
        ("difference, mean", parity.mean_abs, ""),
        ("difference, largest", parity.max_abs, ""),
    ]
    title = f"{opened.id} in {told} beside {reference}, {parity.n} observations"
    table(title, ("normalised actions", "", "at least"), rows)
    console.print(f"{'passed' if passed else 'FAILED'}: {path}", highlight=False, markup=False, soft_wrap=True)
    setting |= {"bundle": opened.id, "hash": opened.hash, "precision": told, "episodes": str(episodes)}
    write_json(json, {**setting, **parity.to_dict(), "passed": passed, "gate": path})
    if not passed:
        raise typer.Exit(3)


def _calibrated(
    bundle: Bundle, observations: list[Observation], anew: bool, threads: int, progress: Progress
) -> list[Observation]:
    """Find the scales where there are none, on observations spread over all; those that are left."""
    from flexor.errors import FlexorError
    from flexor.export.fp8_calibration import calibrate_fp8
    from flexor.runtime.inference.fp8_scales import ScalesError, read_scales

    if len(observations) <= CALIBRATED_ON:
        raise FlexorError(
            f"fp8 needs {CALIBRATED_ON} observations beside those compared, and all are"
            f" {len(observations)}; record more: flexor collect"
        )
    places = {k * len(observations) // CALIBRATED_ON for k in range(CALIBRATED_ON)}
    try:
        found = None if anew else read_scales(bundle)
    except ScalesError:
        found = None
    if found is None:
        chosen = [observations[place] for place in sorted(places)]
        calibrate_fp8(bundle, chosen, threads, lambda done: progress.update("finding the scales", done, CALIBRATED_ON))
    return [observation for place, observation in enumerate(observations) if place not in places]
