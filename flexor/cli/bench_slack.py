"""`flexor bench slack`: a server's replies beside a learner, in its slack and without, and alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile

DEMONSTRATIONS = 12


def slack(
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle, or the name of one that ships with flexor.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings of the learner.")
    ] = None,
    episodes: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Episodes to learn from; by default some are recorded.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the server.")] = 1,
    n: Annotated[int, typer.Option(min=6, help="Requests beside each kind of learner.")] = 400,
    hz: Annotated[
        float | None, typer.Option(min=0.1, help="Requests a second; by default as often as a robot asks.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Time a server's replies, in turns: alone, beside a learner in its slack, and beside one that asks nobody.

    Server, asking robot and learner are three processes; an episode is open all the time. The learner has one thread
    and the lowest priority either way, so that what differs is the slack alone.

    Example: flexor bench slack pi05-nano --json slack.json
    """
    import os
    import tempfile

    from flexor.cli.bench_episodes import episodes_to_learn
    from flexor.cli.progress import Progress
    from flexor.cli.report import console, table, write_json
    from flexor.flywheel.timing.learner_beside import measure_learner_beside
    from flexor.learner.lora.settings import LoraSettings
    from flexor.runtime.inference.bundle import Bundle
    from flexor.settings import load_settings

    settings = load_settings(LoraSettings, None, ["steps=1", "batch=8", "accumulation=1", *(overrides or [])])
    opened = Bundle.open(bundle)
    rate = opened.config.hz / opened.config.replan if hz is None else hz
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="flexor-bench-") as folder, Progress() as progress:
        source = episodes_to_learn(episodes, Path(folder), DEMONSTRATIONS, progress)
        chosen, arguments = settings.model_dump(mode="json"), ["--threads", str(threads)]
        told = measure_learner_beside(opened, arguments, source, Path(folder), chosen, n, rate, progress.update)
    title = f"{opened.id}: replies, {rate:g} requests a second, threads {threads}, load average {load:.2f}"
    names = {"alone": "alone", "slack": "beside a learner in its slack", "free": "beside one that asks nobody"}
    numbers = ("p50_ms", "p95_ms", "p99_ms", "n", "micro_batches_per_s")
    rows = [(names[pace], *(told[pace][number] for number in numbers)) for pace in names]
    table(title, ("", "p50 ms", "p95 ms", "p99 ms", "n", "micro-batches a second"), rows)
    console.print(
        f"in the slack, to alone: p50 {told['p50_ratio']:.3f}, p99 {told['p99_ratio']:.3f}; without: p50 "
        f"{told['free_p50_ratio']:.3f}, p99 {told['free_p99_ratio']:.3f}; {told['lost']} of {told['requests']} lost"
    )
    setting = {"bundle": opened.id, "hash": opened.hash, "threads": threads, "load_average": load, "settings": chosen}
    write_json(json, {**setting, **told})
