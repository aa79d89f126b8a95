"""`flexor bench memory`: what a learner takes, and what each knob saves of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile

DEMONSTRATIONS = 3
GENEROUS = ("r=16", "lora_alpha=64", "precision=fp32", "batch=8", "accumulation=1", "encodings=1")


def memory(
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle, or the name of one that ships with flexor.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings.")] = None,
    episodes: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Episodes to learn from; by default some are recorded.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of each learner.")] = 2,
    json: JsonFile = None,
) -> None:
    """Learn with generous settings, then with one that saves memory after the other, and tell the peak of each.

    The order is the one in which a learner that is out of memory names them; each learner is a process of its own.
    It begins with rank 16, fp32 and micro-batches of eight.

    Example: flexor bench memory pi05-nano --json memory.json
    """
    import tempfile

    from flexor.cli.bench_episodes import episodes_to_learn
    from flexor.cli.progress import Progress
    from flexor.cli.report import table, write_json
    from flexor.flywheel.timing.learner_memory import measure_learner_memory
    from flexor.learner.lora.settings import LoraSettings
    from flexor.runtime.inference.bundle import Bundle
    from flexor.settings import load_settings

    opened = Bundle.open(bundle)
    settings = load_settings(LoraSettings, None, [*GENEROUS, f"steps={steps}", "held_out=0.4", *(overrides or [])])
    with tempfile.TemporaryDirectory(prefix="flexor-bench-") as folder, Progress() as progress:
        source = episodes_to_learn(episodes, Path(folder), DEMONSTRATIONS, progress)
        rows = measure_learner_memory(
            opened.path, source, settings, Path(folder, "learned"), lambda *told: progress.update(*told)
        )
    shown = [
        (row["knob"], row["peak_mb"], "" if row["saved"] is None else f"{row['saved']:.1%}", row["samples_per_s"])
        for row in rows
    ]
    table(f"{opened.id}: a learner's peak memory", ("set besides", "MB", "saved", "samples a second"), shown)
    write_json(json, {"bundle": opened.id, "settings": settings.model_dump(mode="json"), "rows": rows})
