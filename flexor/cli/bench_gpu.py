"""`flexor bench gpu`: everything that is worth measuring of a full-size model on a GPU, in one go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def gpu(
    out: Annotated[Path, typer.Argument(help="File of JSON lines; it is appended to.")],
    preset: Annotated[str, typer.Option(help="Sizes: pi05, pi05-nano or pi05-micro. Weights are random.")] = "pi05",
    n: Annotated[int, typer.Option(min=1, help="Timed calls of each.")] = 50,
) -> None:
    """Time a model with random weights by CUDA graphs, eager and compiled, and swap adapters in it.

    Precisions, cameras, horizons, samples and adapters vary; weights are drawn once. Each line is written when it is
    known, the most telling first, so that a machine that is lent for some minutes leaves what it had time for.

    Example: flexor bench gpu docs/results/gpu/roofline.jsonl
    """
    import torch

    from flexor.cli.progress import Progress
    from flexor.cli.report import table
    from flexor.errors import FlexorError
    from flexor.runtime.timing.torch_sweep import gpu_questions, measure_sweep

    if not torch.cuda.is_available():
        raise FlexorError("PyTorch sees no GPU here; on a CPU: flexor bench roofline, flexor bench swap")
    out.parent.mkdir(parents=True, exist_ok=True)
    with Progress() as progress:
        lines = measure_sweep(gpu_questions(preset), out, n, lambda what, done, of: progress.update(what, done, of))
    rows = []
    for line in lines:
        what = f"{line['mode']} {line['prefix']}+{line['expert']}, {line['views']} views, H {line['horizon']}, "
        what += f"N {line['samples']}, {line['tokens']} tokens, {line['steps']} steps" + ", adapter" * line["adapter"]
        if "swap" in line:
            swap = line["swap"]
            told = f"swap {swap['engine_ms']:.2f} ms, carry {swap['carry_ratio']:.3f}, lost {swap['lost']}"
            rows.append((f"{what}: {told}, recorded {swap['recaptures']}", "", "", ""))
        elif "error" in line:
            rows.append((f"{what}: {line['error']}", "", "", ""))
        else:
            rows.append((what, line["p50_ms"], line["ratio"], line["cosine"]))
    table(f"{preset} on {lines[0]['env']['gpu']}", ("", "p50, ms", "to the floor", "cosine to eager"), rows)
    if any("error" in line for line in lines):
        raise typer.Exit(3)
