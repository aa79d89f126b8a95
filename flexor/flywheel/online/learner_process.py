"""learn_adapter: `flexor learn` as a process that ends with one adapter, and goes on where a killed one was."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from flexor.errors import FlexorError
from flexor.flywheel.campaign.child_command import run_command
from flexor.flywheel.online.settings import OnlineSettings
from flexor.flywheel.online.stages import LoopStopped
from flexor.runtime.adapters.adapter_folder import AdapterFolder
from flexor.runtime.inference.bundle import Bundle

SETTINGS = "learn.yaml"
MAX_BYTES = 2**31


def learn_adapter(
    run: Path,
    bundle: Bundle,
    settings: OnlineSettings,
    seed: int,
    server: str,
    replay: Path | None,
    on_line: Callable[[str], None],
    stopped: Callable[[], bool],
) -> dict[str, Any]:
    """Learn one adapter from the episodes of a run, in the server's slack.

    Args:
        run: with `episodes` and `adapters`.
        seed: of what it draws.
        server: beside which it is learned; it is told of the adapter by who called this.
        replay: the base's own demonstrations.
        on_line: told its progress.
        stopped: asked twice a second; ends the learner, which keeps a checkpoint.

    Returns:
        adapter, and the numbers of its manifest: loss_before, loss_after, steps, samples, minutes.

    Raises:
        LoopStopped: it was stopped.
        FlexorError: it did not learn one in time; the words of the learner.
    """
    file = run / SETTINGS
    file.write_text(yaml.safe_dump(settings.continual(seed).model_dump(mode="json"), sort_keys=False))
    arguments = ["learn", "--bundle", str(bundle.path), "--episodes", str(run / "episodes")]
    arguments += [
        "--out",
        str(run / "adapters"),
        "--config",
        str(file),
        "--server",
        server,
        "--count",
        "1",
        "--no-announce",
    ]
    arguments += [] if replay is None else ["--replay", str(replay)]
    said = ""

    def watch(line: str) -> None:
        nonlocal said
        if stopped():
            raise LoopStopped
        if line != said:  # it is asked twice a second
            said = line
            on_line(line)

    ended = run_command(arguments, time.monotonic() + settings.learn_timeout_s, watch)
    if ended.result is None:
        raise FlexorError(f"the learner gave no adapter: {ended.error}")
    adapter = ended.result["adapter"]
    manifest = AdapterFolder.read(run / "adapters" / adapter, MAX_BYTES).manifest
    return {"adapter": adapter, "learned_from": len(manifest.episodes), **manifest.metrics}
