"""`flexor bench engines`: bundles of weights and of graphs beside each other, each call in turn."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flexor.cli.report import JsonFile

if TYPE_CHECKING:
    from flexor.runtime.timing.engines import EngineTimes


def engines(
    bundles: Annotated[list[str], typer.Argument(help="Bundles of one model: weights first, then graphs of them.")],
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of every engine.")] = 1,
    flow_steps: Annotated[
        int | None, typer.Option(min=1, help="Of bundles of weights; graphs have their own. By default the bundle's.")
    ] = None,
    n: Annotated[int, typer.Option(min=1, help="Timed calls of every engine.")] = 300,
    image_size: Annotated[int, typer.Option(min=1, help="Pixels a side of the synthetic cameras.")] = 224,
    compiled: Annotated[
        bool, typer.Option("--compiled", help="Also the first bundle's model under torch.compile, which takes minutes.")
    ] = False,
    json: JsonFile = None,
) -> None:
    """Time encode and denoise of several engines in one run, on the same inputs, each call in turn.

    Each engine lives in a process of its own, whose memory and time to the first chunk are told, too. The ratio is of
    p50 to that of the first bundle. How near their actions are is what flexor verify tells; flexor plot engines draws
    latency against success.

    Example: flexor bench engines pi05-nano runs/nano-fp32 runs/nano-int8 --json engines.json
    """
    from flexor.cli.progress import Progress
    from flexor.cli.report import table, write_json
    from flexor.runtime.timing.engines import Entrant, time_engines

    entrants = [Entrant(bundle) for bundle in bundles]
    if compiled:
        entrants.insert(1, Entrant(bundles[0], compiled=True))
    load = os.getloadavg()[0]
    with Progress() as progress:
        found = time_engines(
            entrants, threads, flow_steps, n, image_size, lambda done: progress.update("calls", done, n)
        )
    first = found[0]
    rows: list[tuple[object, ...]] = []
    told: list[dict[str, Any]] = []
    for times in found:
        figures = _figures(times, first)
        told.append(figures)
        rows.append(
            (
                f"{figures['engine']} {figures['precision']}, {figures['flow_steps']} steps",
                *(figures[key] for key in ("p50_ms", "p95_ms", "encode_p50_ms", "denoise_p50_ms", "ratio")),
                *(figures[key] for key in ("start_s", "memory_mb", "size_mb")),
            )
        )
    columns = ("", "p50 ms", "p95 ms", "encode", "denoise", "of the first", "start s", "memory MB", "size MB")
    table(f"engines, threads {threads}, load average {load:.2f}", columns, rows)
    write_json(json, {"threads": threads, "load_average": load, "n": n, "engines": told})


def _figures(times: EngineTimes, first: EngineTimes) -> dict[str, Any]:
    from flexor.runtime.timing.latency import Percentiles

    total = [encode + denoise for encode, denoise in zip(times.encode_ms, times.denoise_ms, strict=True)]
    reference = [encode + denoise for encode, denoise in zip(first.encode_ms, first.denoise_ms, strict=True)]
    whole, encode, denoise = (Percentiles.of(values) for values in (total, times.encode_ms, times.denoise_ms))
    return {
        **times.facts,
        **whole.to_dict(),
        "encode_p50_ms": encode.p50_ms,
        "denoise_p50_ms": denoise.p50_ms,
        "ratio": whole.p50_ms / Percentiles.of(reference).p50_ms,
    }
