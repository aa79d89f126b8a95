"""`flexor bench engines`: bundles of weights and of graphs beside each other, each call in turn."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flexor.cli.report import JsonFile

if TYPE_CHECKING:
    from flexor.runtime.timing.engines import EngineTimes


SPEED = {
    "p50_ms": "p50 ms",
    "p95_ms": "p95 ms",
    "encode_p50_ms": "encode",
    "denoise_p50_ms": "denoise",
    "ratio": "of the first",
}
COSTS = {
    "carry_ratio": "with an adapter",
    "swap_ms": "swap ms",
    "load_ms": "load ms",
    "start_s": "start s",
    "memory_mb": "memory MB",
    "size_mb": "size MB",
}
"""Columns of two tables, by key of a row in the JSON."""


def engines(
    bundles: Annotated[list[str], typer.Argument(help="Bundles of one model: weights first, then graphs of them.")],
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of every engine.")] = 1,
    flow_steps: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Of weights and of graphs of one step, repeat for several; by default the bundle's."),
    ] = None,
    n: Annotated[int, typer.Option(min=1, help="Timed calls of every engine.")] = 300,
    swaps: Annotated[int, typer.Option(min=0, help="Swaps of adapters in every engine; 0 for none.")] = 50,
    image_size: Annotated[int, typer.Option(min=1, help="Pixels a side of the synthetic cameras.")] = 224,
    compiled: Annotated[
        bool, typer.Option("--compiled", help="Also the first bundle's model under torch.compile, which takes minutes.")
    ] = False,
    json: JsonFile = None,
) -> None:
    """Time encode and denoise of several engines in one run, on the same inputs, each call in turn.

    Each engine lives in a process of its own, whose memory and time to the first chunk are told, too. The ratio is of
    p50 to that of the first bundle. Then each in its turn swaps random adapters: told is a chunk with one to a chunk
    without, how much longer the first chunk after a swap takes, and what loading it takes, which any thread may do.

    Graphs with all flow steps in them are timed once; those of one step also with fewer steps that divide their own.
    How near their actions are is what flexor verify tells; flexor plot engines draws latency against success.

    Example: flexor bench engines pi05-nano runs/nano-fp32 runs/nano-int8 --json engines.json

    Example: flexor bench engines pi05-nano runs/nano-step --flow-steps 10 --flow-steps 5 --flow-steps 2
    """
    from flexor.cli.progress import Progress
    from flexor.cli.report import table, write_json
    from flexor.runtime.timing.engines import line_up, time_engines

    entrants = line_up(bundles, flow_steps or (), compiled)
    load = os.getloadavg()[0]
    with Progress() as progress:
        found = time_engines(entrants, threads, n, swaps, image_size, progress.update)
    first = found[0]
    told = [_figures(times, first) for times in found]
    names = [f"{row['engine']} {row['precision']}, {row['flow_steps']} steps" for row in told]
    titles = (f"engines, threads {threads}, load average {load:.2f}", "what they cost besides")
    for title, columns in zip(titles, (SPEED, COSTS), strict=True):
        rows = [(name, *(row[key] for key in columns)) for name, row in zip(names, told, strict=True)]
        table(title, ("", *columns.values()), rows)
    setting = {"threads": threads, "load_average": load, "n": n, "swaps": swaps}
    write_json(json, {**setting, "engines": told})


def _figures(times: EngineTimes, first: EngineTimes) -> dict[str, Any]:
    from flexor.runtime.timing.latency import Percentiles

    total = [encode + denoise for encode, denoise in zip(times.encode_ms, times.denoise_ms, strict=True)]
    reference = [encode + denoise for encode, denoise in zip(first.encode_ms, first.denoise_ms, strict=True)]
    whole, encode, denoise = (Percentiles.of(values) for values in (total, times.encode_ms, times.denoise_ms))
    facts = dict(times.facts)
    swap = facts.pop("engine_ms")
    return {
        **facts,
        "swap_ms": swap,
        **whole.to_dict(),
        "encode_p50_ms": encode.p50_ms,
        "denoise_p50_ms": denoise.p50_ms,
        "ratio": whole.p50_ms / Percentiles.of(reference).p50_ms,
    }
