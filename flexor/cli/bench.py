"""`flexor bench`: measurements of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flexor.cli.report import JsonFile

if TYPE_CHECKING:
    from flexor.runtime.timing.latency import CallTimes, ReplyTimes

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)
ROUNDS = 3  # of replies with the slack entropy on and off in turn, so that a drift of the machine meets both
REPLIES = 12  # a round and setting


@app.callback(epilog="Example: flexor bench latency pi05-nano")
def bench() -> None:
    """Measure latency.

    Example: flexor bench latency pi05-nano
    """


@app.command()
def latency(
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle, or the name of one that ships with flexor.")],
    engine: Annotated[str, typer.Option(help="What runs the bundle: torch.")] = "torch",
    precision: Annotated[str, typer.Option(help="What the engine computes in: fp32, bf16.")] = "fp32",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the engine.")] = 1,
    flow_steps: Annotated[int | None, typer.Option(min=1, help="Flow steps; by default the bundle's own.")] = None,
    n: Annotated[int, typer.Option(min=1, help="Timed calls, for each condition.")] = 200,
    busy: Annotated[int, typer.Option(min=0, help="Measure also beside this many busy processes.")] = 0,
    image_size: Annotated[int, typer.Option(min=1, help="Pixels a side of the synthetic cameras.")] = 224,
    json: JsonFile = None,
) -> None:
    """Time a chunk: the engine alone, the whole policy call, and the reply as a client of a real server sees it.

    Engine and policy are called back to back. Replies are asked for at the daemon's pace, with the slack entropy on
    and off in turn; overhead is a reply less its engine time.

    Example: flexor bench latency pi05-nano --threads 1 --n 200 --busy 1 --json latency.json
    """
    import itertools
    import os
    from collections.abc import Callable

    # Before torch is imported: two spinning OpenMP threads on two busy cores make every layer wait.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from flexor.cli.progress import Progress
    from flexor.cli.report import write_json
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.engine import open_engine
    from flexor.runtime.inference.policy import Policy
    from flexor.runtime.timing.busy_processes import BusyProcesses
    from flexor.runtime.timing.latency import ReplyTimes, time_calls, time_replies
    from flexor.runtime.timing.reply_timer import synthetic_observations

    load = os.getloadavg()[0]
    opened = Bundle.open(bundle)
    config = opened.config
    policy = Policy(opened, open_engine(opened, engine, precision, threads, flow_steps))
    policy.warm_up()
    observations = synthetic_observations(config.cameras, config.state_dim, image_size)
    beside: CallTimes | None = None
    replies = {True: ReplyTimes([], []), False: ReplyTimes([], [])}
    with Progress() as progress:

        def counter(what: str) -> Callable[[], None]:
            done = itertools.count(1)
            return lambda: progress.update(what, next(done), n)

        alone = time_calls(policy, observations, n, counter("calls, alone"))
        if busy:
            with BusyProcesses(busy):
                beside = time_calls(policy, observations, n, counter(f"calls beside {busy} busy"))
        for number in range(ROUNDS):
            for slack_entropy in replies:
                period_s = config.replan / config.hz
                timed = time_replies(policy, image_size, REPLIES, slack_entropy, period_s)
                progress.update("replies of a server", 2 * number + 2 - slack_entropy, 2 * ROUNDS)
                replies[slack_entropy].reply.extend(timed.reply)
                replies[slack_entropy].overhead.extend(timed.overhead)
    setting = {**policy.describe(), "threads": threads, "image_size": image_size, "load_average": load}
    result = {**setting, **_result(alone, beside, busy, replies)}
    _print(result)
    write_json(json, result)


def _result(alone: CallTimes, beside: CallTimes | None, busy: int, replies: dict[bool, ReplyTimes]) -> dict[str, Any]:
    from flexor.runtime.timing.latency import Percentiles

    def summary(times: CallTimes) -> dict[str, Any]:
        return {"engine": Percentiles.of(times.engine).to_dict(), "policy": Percentiles.of(times.policy).to_dict()}

    on, off = (Percentiles.of(replies[slack_entropy].reply) for slack_entropy in (True, False))
    idle = summary(alone)
    return {
        **idle["engine"],
        "idle": idle,
        "busy": None if beside is None else {"processes": busy, **summary(beside)},
        "reply": {"entropy_on": on.to_dict(), "entropy_off": off.to_dict()},
        "overhead": {
            "entropy_on": Percentiles.of(replies[True].overhead).to_dict(),
            "entropy_off": Percentiles.of(replies[False].overhead).to_dict(),
        },
        "entropy_reply_ratio": on.p50_ms / off.p50_ms,
    }


def _print(result: dict[str, Any]) -> None:
    from flexor.cli.report import console, table

    measured = [("engine, alone", result["idle"]["engine"]), ("policy, alone", result["idle"]["policy"])]
    if result["busy"] is not None:
        beside = f"beside {result['busy']['processes']} busy"
        measured += [(f"engine, {beside}", result["busy"]["engine"]), (f"policy, {beside}", result["busy"]["policy"])]
    measured += [
        ("reply, entropy on", result["reply"]["entropy_on"]),
        ("reply, entropy off", result["reply"]["entropy_off"]),
        ("reply less engine, entropy on", result["overhead"]["entropy_on"]),
        ("reply less engine, entropy off", result["overhead"]["entropy_off"]),
    ]
    title = (
        f"{result['bundle']}: {result['engine']} {result['precision']} on {result['provider']}, threads"
        f" {result['threads']}, flow steps {result['flow_steps']}, load average {result['load_average']:.2f}"
    )
    rows = [(name, times["p50_ms"], times["p95_ms"], times["p99_ms"], times["n"]) for name, times in measured]
    table(title, ("", "p50 ms", "p95 ms", "p99 ms", "n"), rows)
    console.print(f"reply with the slack entropy on, to off: {result['entropy_reply_ratio']:.3f}")
