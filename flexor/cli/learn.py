"""`flexor learn`: adapters from episodes, one after the other, or one alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flexor.cli.report import JsonFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexor.cli.progress import Progress
    from flexor.learner.lora.trainer import LoraStanding

DAEMON_STEPS = 400  # of one adapter, when no budget is given
PUSH_TIMEOUT_S = 60.0


def learn(
    bundle: Annotated[
        str | None, typer.Option(help="Folder of a bundle, or the name of one that ships with flexor.")
    ] = None,
    episodes: Annotated[
        Path | None, typer.Option(help="Folder of episodes to learn from: what `flexor run --log` writes.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory of adapters; `flexor adapter merge` makes a bundle of one."),
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Learn one adapter from all successes, and end.")] = False,
    server: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Server to learn beside: in its slack, and it is told of each adapter."),
    ] = None,
    no_announce: Annotated[
        bool, typer.Option("--no-announce", help="Learn in the server's slack, and tell it nothing.")
    ] = False,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many adapters, without --once.")] = None,
    replay: Annotated[Path | None, typer.Option(help="The base's own demonstrations, against forgetting.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Wall budget of an adapter; 5 with --once.")] = None,
    steps: Annotated[int | None, typer.Option(help="Budget in optimiser steps, instead; 400 without --once.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings as YAML: configs/learn.yaml, with --once configs/lora.yaml.")
    ] = None,
    eight_bit: Annotated[
        bool, typer.Option("--8bit", help="Hold image tower and prefix in 8 bits, by bitsandbytes: less memory.")
    ] = False,
    mock: Annotated[
        bool,
        typer.Option("--mock", help="Show collect, learn, publish and swap in half a minute, with made-up numbers."),
    ] = False,
    json: JsonFile = None,
) -> None:
    """Learn adapters from what a robot records, and publish them, until Ctrl-C or SIGTERM.

    Looks for new episodes; when enough came (publish.every_episodes, and others), learns from those with the most to
    learn from, and from the base's demonstrations, and writes an adapter into OUT. What was stopped or killed goes on
    where it was when the same command is given again. OUT.training/ has audit.jsonl (every decision), and of each
    adapter curves.jsonl and tensorboard/. It runs at the lowest priority.

    Example: flexor learn --bundle pi05-nano --episodes logs --out adapters --server ipc:///tmp/policy.sock
    """
    from flexor.cli.progress import Progress
    from flexor.cli.report import table, write_json

    if mock:
        if any(given is not None for given in (bundle, episodes, out)):
            raise typer.BadParameter("makes all of its own; leave the others out", param_hint="--mock")
        result = _mock()
        table("a mock of the whole loop; none of its numbers means anything", ("", ""), result.items())
        write_json(json, result)
        return
    if bundle is None or episodes is None or out is None:
        raise typer.BadParameter("give all three, or --mock", param_hint="--bundle, --episodes, --out")
    if once and count is not None:
        raise typer.BadParameter("--once learns one", param_hint="--count")
    if no_announce and server is None:
        raise typer.BadParameter("give the --server that is not to be told", param_hint="--no-announce")
    told = None if no_announce else server
    given = [f"{key}={value}" for key, value in (("minutes", minutes), ("steps", steps)) if value is not None]
    given += [*(["load_in_8bit=true"] if eight_bit else []), *(overrides or [])]
    with Progress() as progress:
        if once:
            result = _learn_once(bundle, episodes, out, given, server, told, replay, config, progress)
        else:
            result = _learn_on(bundle, episodes, out, given, server, told, count, replay, config, progress)
    table("learned", ("", ""), result.items())
    write_json(json, result)


def _mock() -> dict[str, Any]:
    import tempfile

    from flexor.flywheel.mock_loop import run_mock

    with tempfile.TemporaryDirectory(prefix="flexor-mock-") as folder:
        return run_mock(Path(folder), _say)


def _learn_once(
    bundle: str,
    episodes: Path,
    out: Path,
    given: list[str],
    server: str | None,
    told: str | None,
    replay: Path | None,
    config: Path | None,
    progress: Progress,
) -> dict[str, Any]:
    from contextlib import ExitStack

    from flexor.learner.lora.learn import LearnWatcher
    from flexor.learner.lora.learn import learn as learn_adapter
    from flexor.learner.lora.settings import LoraSettings
    from flexor.learner.lora.trainer import never_pause
    from flexor.learner.lowest_priority import give_way
    from flexor.learner.slack import ServerSlack
    from flexor.runtime.environment import peak_memory_mb
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.serving.control import ServerControl
    from flexor.settings import load_settings

    settings = load_settings(LoraSettings, config, _with_budget(given, config, "minutes=5"), section="lora")
    opened = Bundle.open(bundle)
    watcher = LearnWatcher(_on_episode(progress), _on_step(progress))
    with ExitStack() as stack:
        pause = never_pause
        if server is not None:
            give_way()
            pause = stack.enter_context(ServerSlack(server, _say))
        result = learn_adapter(opened, episodes, out, settings, watcher, replay, pause)
    result["host_memory_mb"] = peak_memory_mb()
    if told is not None and "adapter" in result:
        with ServerControl(told, PUSH_TIMEOUT_S) as control:
            result["state"] = control.order("push", Path(result["adapter"]).name)["state"]
    return result


def _learn_on(
    bundle: str,
    episodes: Path,
    out: Path,
    given: list[str],
    server: str | None,
    told: str | None,
    count: int | None,
    replay: Path | None,
    config: Path | None,
    progress: Progress,
) -> dict[str, Any]:
    from contextlib import ExitStack

    from flexor.learner.continual.daemon import DaemonWatcher, LearnerDaemon
    from flexor.learner.continual.settings import ContinualSettings
    from flexor.learner.lora.trainer import never_pause
    from flexor.learner.lowest_priority import give_way
    from flexor.learner.slack import ServerSlack
    from flexor.runtime.driving.stop_signal import StopSignal
    from flexor.runtime.inference.bundle import Bundle
    from flexor.settings import load_settings

    settings = load_settings(ContinualSettings, config, _with_budget(given, config, f"steps={DAEMON_STEPS}"))
    opened = Bundle.open(bundle)
    give_way()

    def on_event(event: str, numbers: dict[str, Any]) -> None:
        _say(f"{event}  " + "  ".join(f"{key}={value}" for key, value in numbers.items()))

    with StopSignal() as stopped, ExitStack() as stack:
        pause = never_pause
        if server is not None:
            pause = stack.enter_context(ServerSlack(server, _say, stop=stopped))
        watcher = DaemonWatcher(on_event, _on_episode(progress), _on_step(progress))
        daemon = LearnerDaemon(
            opened,
            episodes,
            out,
            settings,
            watcher,
            replay=replay,
            server=told,
            count=count,
            pause=pause,
            stop=stopped,
        )
        return daemon.run()


def _with_budget(given: list[str], config: Path | None, budget: str) -> list[str]:
    if config is None and not any(setting.startswith(("minutes=", "steps=")) for setting in given):
        return [*given, budget]
    return given


def _on_episode(progress: Progress) -> Callable[[int, int], None]:
    return lambda done, total: progress.update("reading episodes", done, total, f"{done} of {total}")


def _on_step(progress: Progress) -> Callable[[LoraStanding], None]:
    return lambda standing: progress.update(
        "learning", standing.spent, 1.0, f"step {standing.step}  loss {standing.loss:.3f}"
    )


def _say(text: str) -> None:
    from flexor.cli.report import progress_console

    progress_console.print(text, highlight=False, markup=False, soft_wrap=True)
