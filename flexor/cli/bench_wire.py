"""`flexor bench wire`: what a request costs before and after the engine, beside the wires of others."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from flexor.cli.report import JsonFile

CAMERAS = ("base", "wrist")
STATE_DIM = 8


def wire(
    n: Annotated[int, typer.Option(min=1, help="Timed requests over each wire.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which the wires take turns.")] = 10,
    hz: Annotated[float, typer.Option(min=0.0, help="Requests a second; 0 asks when the last reply is there.")] = 0.0,
    image_size: Annotated[int, typer.Option(min=1, help="Pixels a side of the two synthetic cameras.")] = 224,
    json: JsonFile = None,
) -> None:
    """Time a request whose engine does nothing: two cameras, state and prompt to a server process, a chunk back.

    multipart is flexor's own server and client, with every check, and images as frames; shm the same with images in
    shared memory, which clients on this machine use by themselves. blob is one msgpack blob over REQ/REP, as GR00T's
    server has it. peer is openpi's websocket protocol over loopback TCP; it needs the extra `bench`.

    Example: flexor bench wire --n 1000 --json wire.json
    """
    from flexor.cli.progress import Progress
    from flexor.cli.report import console, table, write_json
    from flexor.runtime.environment import package_version
    from flexor.runtime.timing.latency import Percentiles
    from flexor.runtime.timing.reply_timer import synthetic_observations
    from flexor.runtime.timing.wires.openpi_wire import check_websockets
    from flexor.runtime.timing.wires.rounds import time_wires
    from flexor.runtime.timing.wires.wire import WIRES

    check_websockets()
    load = os.getloadavg()[0]
    observations = synthetic_observations(CAMERAS, STATE_DIM, image_size)
    rounds = min(rounds, n)
    with Progress() as progress:
        times = time_wires(
            list(WIRES),
            observations,
            rounds,
            -(-n // rounds),
            1.0 / hz if hz else 0.0,
            lambda done: progress.update("rounds", done, rounds),
        )
    result: dict[str, object] = {
        "image_size": image_size,
        "image_bytes": sum(image.nbytes for image in observations[0].images.values()),
        "hz": hz,
        "load_average": load,
        "websockets": package_version("websockets"),
    }
    rows = []
    for name, microseconds in times.items():
        found = Percentiles.of(microseconds)
        p50, p95, p99 = found.p50_ms, found.p95_ms, found.p99_ms  # the numbers are in the unit that went in
        result |= {f"{name}_p50_us": p50, f"{name}_p95_us": p95, f"{name}_p99_us": p99, f"{name}_n": found.n}
        rows.append((WIRES[name].title, p50, p95, p99, found.n))
    paced = f"{hz:g} requests a second" if hz else "one after the other"
    table(f"round trip, {paced}, load average {load:.2f}", ("", "p50 us", "p95 us", "p99 us", "n"), rows)
    peer, frames, shared = (float(str(result[f"{name}_p50_us"])) for name in ("peer", "multipart", "shm"))
    ratios = f"{peer / frames:.2f} times flexor's with frames, {peer / shared:.2f} times with shared memory"
    console.print(f"openpi's round trip is {ratios}")
    write_json(json, result)
