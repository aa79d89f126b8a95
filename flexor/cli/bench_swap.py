"""`flexor bench swap`: what carrying and swapping an adapter costs an engine."""

from __future__ import annotations

from typing import Annotated

import typer

from flexor.cli.report import JsonFile
from flexor.runtime.inference.precisions import CHOICES


def swap(
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle, or the name of one that ships with flexor.")],
    engine: Annotated[str | None, typer.Option(help="torch, or the format of graphs; the one that fits.")] = None,
    precision: Annotated[str | None, typer.Option(help=CHOICES)] = None,
    samples: Annotated[int, typer.Option(min=1, help="Chunks on one prefix, as the entropy draws them.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the engine.")] = 1,
    n: Annotated[int, typer.Option(min=1, help="Swaps.")] = 100,
    json: JsonFile = None,
) -> None:
    """Swap random adapters in an engine: what it costs, whether a chunk is harmed, and what carrying one costs.

    No server takes part: a chunk is the engine's encode and denoise. A chunk counts as lost when, while another thread
    loads, it is neither the old adapter's nor the new one's, bit for bit.

    Example: flexor bench swap pi05-nano --json swap.json
    """
    import os

    from flexor.cli.progress import Progress
    from flexor.cli.report import console, table, write_json
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.engine import open_engine
    from flexor.runtime.timing.swap import measure_swap
    from flexor.runtime.timing.swap_engine import AskedEngine

    load = os.getloadavg()[0]
    opened = Bundle.open(bundle)

    def carrier() -> AskedEngine:
        return AskedEngine(open_engine(opened, engine, precision, threads, force=True), opened, samples)

    carried = carrier()
    with Progress() as progress:
        result = measure_swap(carried, carrier, opened.model_config, n, progress.update)
    measured = carried.engine
    ran = f"{measured.name} {measured.precision} on {measured.provider}"
    title = f"{opened.id}: {ran}, N {samples}, load average {load:.2f}"
    rows = [
        ("a chunk, no adapter, p50, ms", result["base_p50_ms"]),
        ("a chunk with one, p50, ms", result["carry_p50_ms"]),
        ("ratio", result["carry_ratio"]),
        ("a swap takes of the engine, ms", result["engine_ms"]),
        ("loading a slot, on any thread, p50, ms", result["load_ms"]),
        ("largest difference to a cold load", result["max_diff_cold"]),
    ]
    table(title, ("what", "measured"), rows)
    console.print(
        f"{result['lost']} of {result['chunks']} chunks lost while another thread swapped {n} times, "
        f"{result['recaptures']} graphs recorded"
    )
    setting = {"bundle": opened.id, "hash": opened.hash, "engine": measured.name, "precision": measured.precision}
    setting |= {"provider": measured.provider, "samples": samples, "threads": threads, "load_average": load}
    write_json(json, {**setting, **result})
