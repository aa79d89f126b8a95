"""`flexor bench roofline`: a call of any size beside what this machine could do at best."""

from __future__ import annotations

from typing import Annotated

import typer

from flexor.cli.report import JsonFile
from flexor.runtime.inference.precisions import CHOICES


def roofline(
    preset: Annotated[str, typer.Argument(help="Sizes: pi05, pi05-nano or pi05-micro. Weights are random.")] = "pi05",
    precision: Annotated[str, typer.Option(help=CHOICES)] = "bf16",
    views: Annotated[int, typer.Option(min=1, help="Cameras.")] = 2,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of the prompt.")] = 24,
    horizon: Annotated[int, typer.Option(min=1, help="Actions of a chunk.")] = 10,
    flow_steps: Annotated[int, typer.Option(min=1, help="Flow steps.")] = 10,
    samples: Annotated[int, typer.Option(min=1, help="Chunks on one prefix, as the entropy draws them.")] = 1,
    mode: Annotated[
        str | None,
        typer.Option(
            help="eager, graph or compiled (graphs of a compiled expert); by default graph where there is a GPU."
        ),
    ] = None,
    adapter: Annotated[bool, typer.Option("--adapter", help="Carry a random adapter of rank 8.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    n: Annotated[int, typer.Option(min=1, help="Timed calls.")] = 5,
    json: JsonFile = None,
) -> None:
    """Time a model with random weights, and tell how far it is from the floor of this machine.

    The floor: operations at the rate of a large product, or bytes at the rate of a large copy, whichever takes longer,
    phase by phase. Both rates are measured first. pi05 needs 8 GB of memory in bf16, 14 in fp32.

    Example: flexor bench roofline pi05 --precision int8 --threads 2 --n 3 --json roofline.json
    """
    import os

    # Before torch is imported: two spinning OpenMP threads on two busy cores make every layer wait.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from flexor.cli.progress import Progress
    from flexor.cli.report import console, table, write_json
    from flexor.runtime.inference.precisions import parts
    from flexor.runtime.timing.torch_roofline import measure_roofline
    from flexor.runtime.timing.torch_runner import Question

    torch.set_num_threads(threads)
    load = os.getloadavg()[0]
    prefix, expert = parts(precision)
    mode = mode or ("graph" if torch.cuda.is_available() else "eager")
    question = Question(preset, prefix, expert, views, tokens, horizon, flow_steps, samples, mode, adapter)
    with Progress() as progress:
        result = measure_roofline(question, n, lambda what, done, of: progress.update(what, done, of))
    rows = [
        (name, phase["flops"] / 1e9, phase["bytes"] / 1e6, phase["floor_ms"])
        for name, phase in result["phases"].items()
    ]
    title = f"{preset}, {precision} on {result['provider']}, {mode}, threads {threads}, load average before {load:.2f}"
    table(title, ("phase", "GFLOP", "MB", "floor, ms"), [*rows, ("all", "", "", result["floor_ms"])])
    rates = ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in result["gflops"].items())
    console.print(f"this machine: copies {result['copy_gb_s']:.1f} GB/s, multiplies {rates}")
    console.print(
        f"a call: p50 {result['p50_ms']:.2f} ms, p99 {result['p99_ms']:.2f} ms, {result['ratio']:.2f} times the floor"
    )
    setting = {"preset": preset, "precision": precision, "views": views, "tokens": tokens, "horizon": horizon}
    setting |= {
        "flow_steps": flow_steps,
        "samples": samples,
        "mode": mode,
        "adapter": adapter,
        "threads": threads,
        "load_average": load,
    }
    write_json(json, {**setting, **result})
