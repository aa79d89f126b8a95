"""learn_adapter: `flexor learn` as a process that ends with one adapter, and goes on where a killed one was."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import yaml

from flexor.errors import FlexorError
from flexor.flywheel.campaign.child_command import run_command
from flexor.flywheel.online.settings import OnlineSettings
from flexor.flywheel.online.stages import LoopStopped
from flexor.learner.continual.learner_state import LearnerState
from flexor.learner.lora.episode_set import is_held_out
from flexor.learner.replay.online_pool import OnlinePool
from flexor.runtime.adapters.adapter_folder import AdapterFolder
from flexor.runtime.adapters.manifest import BASE
from flexor.runtime.adapters.store_state import StoreState
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.inference.bundle import Bundle

SETTINGS, WORK = "learn.yaml", "adapters.training"
MAX_BYTES = 2**31
NOTHING_NEW = "no success and no correction came since the last adapter was learned: there is nothing to learn from"


def learn_adapter(
    run: Path,
    bundle: Bundle,
    settings: OnlineSettings,
    seed: int,
    server: str,
    replay: Path | None,
    known: Collection[str],
    on_line: Callable[[str], None],
    stopped: Callable[[], bool],
) -> dict[str, Any]:
    """Learn one adapter from the episodes of a run, in the server's slack.

    One that a learner had finished when all were killed, before anybody noted it, is taken as it is.

    Args:
        run: with `episodes` and `adapters`.
        seed: of what it draws.
        server: beside which it is learned; it is told of the adapter by who called this.
        replay: the base's own demonstrations.
        known: the adapters that were learned before.
        on_line: told its progress.
        stopped: asked twice a second; ends the learner, which keeps a checkpoint.

    Returns:
        adapter, and the numbers of its manifest: loss_before, loss_after, steps, samples, minutes. Where no episode
        that teaches came since the last one: adapter None, and why.

    Raises:
        LoopStopped: it was stopped.
        FlexorError: it did not learn one in time; the words of the learner.
    """
    state = LearnerState.read(run / WORK)
    if state.plan is None and state.current not in (BASE, *known):
        return _told(run, state.current)
    if state.plan is None and not _something_new(run, settings, state):
        on_line(NOTHING_NEW)
        return {"adapter": None, "why": NOTHING_NEW}
    serving = StoreState.read(run / "adapters").active
    if state.plan is None and state.current != serving:  # what was refused is nothing to go on from
        state.model_copy(update={"current": serving, "before": serving}).write(run / WORK)
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
    return _told(run, ended.result["adapter"])


def _something_new(run: Path, settings: OnlineSettings, state: LearnerState) -> bool:
    """Whether an episode that teaches came since the last adapter was begun; a learner without one would only wait."""
    pools = OnlinePool.of(EpisodeIndex(run / "episodes").episodes(), settings.replayed(0)).weights.values()
    teaching = {one for pool in pools for one in pool}
    return bool(teaching - set(state.known)) and not all(is_held_out(one, settings.lora.held_out) for one in teaching)


def _told(run: Path, adapter: str) -> dict[str, Any]:
    """What the manifest of an adapter says of how it was learned."""
    manifest = AdapterFolder.read(run / "adapters" / adapter, MAX_BYTES).manifest
    return {"adapter": adapter, "learned_from": len(manifest.episodes), **manifest.metrics}
