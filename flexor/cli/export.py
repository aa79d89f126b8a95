"""`flexor export`: a bundle of weights -> a bundle of graphs for another runtime."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile
from flexor.runtime.inference.graphs import GRAPH_FILES


def export(
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle, or the name of one that ships with flexor.")],
    out: Annotated[Path, typer.Option(help="Folder to become the bundle of graphs.")],
    format_: Annotated[str, typer.Option("--format", help=f"Of the graphs: {', '.join(GRAPH_FILES)}.")] = "onnx",
    precision: Annotated[
        str, typer.Option(help="fp32; for onnx also fp16 and int8; for tensorrt also fp16, bf16, int8 and fp8.")
    ] = "fp32",
    episodes: Annotated[
        Path | None, typer.Option(help="Recorded episodes: for scales of 8 bits, and for what is measured on them.")
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
    targets: Annotated[
        str | None,
        typer.Option(help="tensorrt: GPUs to build for, none of them needed here: sm86,sm89,sm120; or current."),
    ] = None,
    most_samples: Annotated[int, typer.Option(min=1, help="tensorrt: samples of one call at the most.")] = 8,
    timing_cache: Annotated[
        Path | None, typer.Option(help="tensorrt, the full one: file that keeps what was timed, for quicker builds.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Export a bundle to graphs that compute the same, adapters included, and are served by the same command.

    Two graphs: the prefix, and the expert with all its flow steps, which takes an adapter's tensors as inputs. int8
    quantises each in two ways and takes the quickest that is near enough and worth it, or leaves it in fp32.

    A model of more than 2 GB in float32 is exported to onnx layer by layer, and is never in memory as a whole.

    tensorrt builds engines for GPUs that need not be here, with a report in engines.json and engines.md.

    Example: flexor export pi05-nano --format onnx --precision int8 --episodes data/tabletop --out runs/nano-int8
    """
    from flexor.cli.report import console, progress_console, table, write_json
    from flexor.export.exporter import Wish, export_graphs
    from flexor.export.recorded_observations import recorded_observations
    from flexor.runtime.environment import peak_memory_mb
    from flexor.runtime.inference.bundle import Bundle

    names = tuple(name for name in (targets or "").replace(" ", "").split(",") if name)
    wish = Wish(format_, precision, rank, flow_steps, prompt_tokens, one_step, names, most_samples, timing_cache)
    opened = Bundle.open(bundle)
    if precision in ("int8", "fp8") and episodes is None:
        raise typer.BadParameter("needs recorded episodes; give --episodes DIR", param_hint=f"--precision {precision}")
    found = [] if episodes is None else recorded_observations(episodes, opened.config.cameras, n)
    began = time.monotonic()
    with progress_console.status("exporting", spinner="line") as status:
        exported = export_graphs(opened, out, wish, found, status.update)
    seconds, memory_mb = time.monotonic() - began, peak_memory_mb()
    made = exported.bundle
    graphs = made.config.graphs
    assert graphs is not None
    if exported.measured:
        title = "engines" if format_ == "tensorrt" else "graphs to choose from"
        table(title, tuple(exported.measured[0]), [tuple(row.values()) for row in exported.measured])
    sizes = {file.name: file.stat().st_size for file in sorted(out.iterdir())}
    rows = [(name, size / 1e6) for name, size in sizes.items()]
    table(f"{made.id}: {graphs.format}, {graphs.precision}, rank {graphs.rank}", ("file", "MB"), rows)
    console.print(f"made in {seconds:.0f} s with {memory_mb:.0f} MB of memory at most")
    console.print(f"next: flexor verify {out} --episodes DIR", highlight=False, markup=False, soft_wrap=True)
    write_json(
        json,
        {
            "bundle": made.id,
            "hash": made.hash,
            "path": out,
            **graphs.to_dict(),
            "flow_steps": made.config.flow_steps,
            "candidates": list(exported.measured),
            "bytes": sizes,
            "seconds": seconds,
            "host_memory_mb": memory_mb,
        },
    )
