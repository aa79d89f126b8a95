"""`flexor export`: a bundle of weights -> a bundle of graphs for another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from flexor.cli.report import JsonFile


def export(
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle, or the name of one that ships with flexor.")],
    out: Annotated[Path, typer.Option(help="Folder to become the bundle of graphs.")],
    format_: Annotated[Literal["onnx"], typer.Option("--format", help="Of the graphs.")] = "onnx",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8.")] = "fp32",
    episodes: Annotated[
        Path | None, typer.Option(help="Folder of recorded episodes; int8 finds scales and chooses graphs on them.")
    ] = None,
    n: Annotated[int, typer.Option(min=1, help="Observations, spread over the episodes.")] = 128,
    rank: Annotated[int, typer.Option(min=1, help="Of the adapters that the graphs take; smaller ones fit.")] = 8,
    flow_steps: Annotated[int | None, typer.Option(min=1, help="Flow steps; by default the bundle's own.")] = None,
    prompt_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest prompt; by default the bundle's own. Shorter is quicker.")
    ] = None,
    one_step: Annotated[
        bool, typer.Option("--one-step", help="A call of the expert makes one flow step, and the engine all of them.")
    ] = False,
    json: JsonFile = None,
) -> None:
    """Export a bundle to graphs that compute the same, adapters included, and are served by the same command.

    Two graphs: the prefix, and the expert with all its flow steps, which takes an adapter's tensors as inputs. int8
    quantises each in two ways and takes the quickest that is near enough and worth it, or leaves it in fp32.

    Example: flexor export pi05-nano --format onnx --precision int8 --episodes data/tabletop --out runs/nano-int8
    """
    from flexor.cli.report import console, progress_console, table, write_json
    from flexor.export.onnx.exporter import Wish, export_onnx
    from flexor.export.recorded_observations import recorded_observations
    from flexor.runtime.inference.bundle import Bundle

    opened = Bundle.open(bundle)
    if precision == "int8" and episodes is None:
        raise typer.BadParameter("needs recorded episodes; give --episodes DIR", param_hint="--precision int8")
    wish = Wish(precision, rank, flow_steps, prompt_tokens, one_step)
    found = [] if episodes is None else recorded_observations(episodes, opened.config.cameras, n)
    with progress_console.status("exporting", spinner="line") as status:
        exported = export_onnx(opened, out, wish, found, status.update)
    made = exported.bundle
    graphs = made.config.graphs
    assert graphs is not None
    if exported.candidates:
        rows = [
            (candidate.graph, candidate.method, candidate.ms, candidate.cos_mean, candidate.cos_min, candidate.passed)
            for candidate in exported.candidates
        ]
        table("graphs to choose from", ("graph", "products", "ms", "cosine, mean", "worst", "near enough"), rows)
    sizes = {file.name: file.stat().st_size for file in sorted(out.iterdir())}
    rows = [(name, size / 1e6) for name, size in sizes.items()]
    table(f"{made.id}: {graphs.format}, {graphs.precision}, rank {graphs.rank}", ("file", "MB"), rows)
    console.print(f"next: flexor verify {out} --episodes DIR", highlight=False, markup=False, soft_wrap=True)
    write_json(
        json,
        {
            "bundle": made.id,
            "hash": made.hash,
            "path": out,
            **graphs.to_dict(),
            "flow_steps": made.config.flow_steps,
            "candidates": [candidate.to_dict() for candidate in exported.candidates],
            "bytes": sizes,
        },
    )
