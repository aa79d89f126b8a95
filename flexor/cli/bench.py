"""`flexor bench`: measurements of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flexor.cli.bench_bundle import bundle as random_bundle
from flexor.cli.bench_capacity import capacity
from flexor.cli.bench_engines import engines
from flexor.cli.bench_gpu import gpu
from flexor.cli.bench_learn import learn
from flexor.cli.bench_memory import memory
from flexor.cli.bench_precisions import precisions
from flexor.cli.bench_roofline import roofline
from flexor.cli.bench_sim import sim
from flexor.cli.bench_slack import slack
from flexor.cli.bench_swap import swap
from flexor.cli.bench_wire import wire
from flexor.cli.report import JsonFile
from flexor.runtime.inference.precisions import CHOICES

if TYPE_CHECKING:
    from flexor.cli.progress import Progress
    from flexor.runtime.inference.policy import Policy
    from flexor.runtime.observation import Observation

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)
ROUNDS = 3  # of replies with the slack entropy on and off in turn, so that a drift of the machine meets both
REPLIES = 12  # a round and setting


@app.callback(epilog="Example: flexor bench latency pi05-nano")
def bench() -> None:
    """Measure latency, what the wire takes of it, and how fast a simulator runs.

    Example: flexor bench latency pi05-nano
    """


@app.command()
def latency(
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle, or the name of one that ships with flexor.")],
    engine: Annotated[str | None, typer.Option(help="torch, or the format of graphs; the one that fits.")] = None,
    precision: Annotated[str | None, typer.Option(help=CHOICES)] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the engine.")] = 1,
    flow_steps: Annotated[int | None, typer.Option(min=1, help="Flow steps; by default the bundle's own.")] = None,
    n: Annotated[int, typer.Option(min=1, help="Timed calls, for each condition.")] = 200,
    busy: Annotated[
        list[int] | None, typer.Option(min=1, help="Measure also beside this many busy processes; may be repeated.")
    ] = None,
    image_size: Annotated[int, typer.Option(min=1, help="Pixels a side of the synthetic cameras.")] = 224,
    json: JsonFile = None,
) -> None:
    """Time a chunk: the engine alone, the whole policy call, and the reply as a client of a real server sees it.

    Engine and policy are called back to back. Replies are asked for at the daemon's pace, with the slack entropy on
    and off in turn; overhead is a reply less its engine time.

    Example: flexor bench latency pi05-nano --busy 1 --busy 2 --json latency.json
    """
    import os

    # Before torch is imported: two spinning OpenMP threads on two busy cores make every layer wait.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from flexor.cli.progress import Progress
    from flexor.cli.report import console, table, write_json
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.engine import open_engine
    from flexor.runtime.inference.policy import Policy
    from flexor.runtime.timing.busy_processes import BusyProcesses
    from flexor.runtime.timing.reply_timer import synthetic_observations

    load = os.getloadavg()[0]
    opened = Bundle.open(bundle)
    policy = Policy(opened, open_engine(opened, engine, precision, threads, flow_steps, force=True))
    policy.warm_up()
    observations = synthetic_observations(opened.config.cameras, opened.config.state_dim, image_size)
    conditions: dict[int, dict[str, Any]] = {}
    with Progress() as progress:
        for count in dict.fromkeys((0, *(busy or ()))):
            with BusyProcesses(count):
                conditions[count] = _measure(policy, observations, image_size, n, _title(count), progress)
    idle = conditions.pop(0)
    setting = {**policy.describe(), "threads": threads, "image_size": image_size, "load_average": load}
    beside = [{"processes": count, **found} for count, found in conditions.items()]
    result = {**setting, **idle["engine"], "idle": idle, "busy": beside}
    result["entropy_reply_ratio"] = idle["entropy_reply_ratio"]
    title = (
        f"{result['bundle']}: {result['engine']} {result['precision']} on {result['provider']}, threads {threads},"
        f" flow steps {result['flow_steps']}, load average {load:.2f}"
    )
    table(title, ("", "p50 ms", "p95 ms", "p99 ms", "n"), _rows({0: idle, **conditions}))
    for count, found in {0: idle, **conditions}.items():
        console.print(f"reply with the slack entropy on, to off, {_title(count)}: {found['entropy_reply_ratio']:.3f}")
    write_json(json, result)


app.command()(capacity)
app.command()(engines)
app.command()(wire)
app.command()(precisions)
app.command()(roofline)
app.command()(swap)
app.command()(learn)
app.command()(memory)
app.command("bundle")(random_bundle)
app.command()(slack)
app.command()(gpu)
app.command()(sim)


def _measure(
    policy: Policy, observations: Sequence[Observation], image_size: int, n: int, title: str, progress: Progress
) -> dict[str, Any]:
    """Percentiles of engine, policy, reply and overhead (a reply less its engine time) as the machine is now."""
    import itertools

    from flexor.runtime.timing.latency import Percentiles, ReplyTimes, time_calls, time_replies

    done = itertools.count(1)
    calls = time_calls(policy, observations, n, lambda: progress.update(f"calls, {title}", next(done), n))
    replies = {"entropy_on": ReplyTimes([], []), "entropy_off": ReplyTimes([], [])}
    period_s = policy.bundle.config.replan / policy.bundle.config.hz
    steps = itertools.count(1)
    for _ in range(ROUNDS):
        for setting, found in replies.items():
            timed = time_replies(policy, image_size, REPLIES, setting == "entropy_on", period_s)
            progress.update(f"replies of a server, {title}", next(steps), 2 * ROUNDS)
            found.reply.extend(timed.reply)
            found.overhead.extend(timed.overhead)
    reply = {setting: Percentiles.of(found.reply) for setting, found in replies.items()}
    return {
        "engine": Percentiles.of(calls.engine).to_dict(),
        "policy": Percentiles.of(calls.policy).to_dict(),
        "reply": {setting: found.to_dict() for setting, found in reply.items()},
        "overhead": {setting: Percentiles.of(found.overhead).to_dict() for setting, found in replies.items()},
        "entropy_reply_ratio": reply["entropy_on"].p50_ms / reply["entropy_off"].p50_ms,
    }


def _title(busy: int) -> str:
    return f"beside {busy} busy" if busy else "alone"


def _rows(conditions: dict[int, dict[str, Any]]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for count, found in conditions.items():
        measured = [("engine", found["engine"]), ("policy", found["policy"])]
        for name, what in (("reply", "reply"), ("overhead", "reply less engine")):
            measured += [(f"{what}, {key.replace('_', ' ')}", found[name][key]) for key in found[name]]
        for name, times in measured:
            rows.append((f"{name}, {_title(count)}", times["p50_ms"], times["p95_ms"], times["p99_ms"], times["n"]))
    return rows
