"""`flexor serve`: one bundle behind three sockets, until Ctrl-C, SIGTERM or a shutdown by the control socket."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from flexor.cli.report import JsonFile, console, progress_console, write_json
from flexor.runtime.inference.precisions import CHOICES

LOOK_EVERY_S = 0.2


def serve(
    bundle: Annotated[str, typer.Argument(help="Folder of the bundle, or the name of one that ships with flexor.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[a.b=c]...", help="Settings, e.g. max_waiting=8 entropy=never.")
    ] = None,
    bind: Annotated[
        str | None, typer.Option(help="Data address, ipc://PATH or tcp://127.0.0.1:PORT; the default one if not given.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="torch, or the format of graphs; the one that fits.")] = None,
    precision: Annotated[str | None, typer.Option(help=CHOICES)] = None,
    eight_bit: Annotated[
        bool, typer.Option("--8bit", help="Least memory, by bitsandbytes and slow: --precision bnb8.")
    ] = False,
    threads: Annotated[int | None, typer.Option(help="CPU threads of the engine.")] = None,
    adapters: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Take adapters from this directory, and serve the active one.")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Take only adapters signed by a key whose *.pub.pem lies here.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Where exported graphs run: cpu or cuda.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also in a precision that failed its gate, or into too little memory.")
    ] = False,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="YAML file of settings.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Serve a bundle: observations in, action chunks out.

    Prints one line when it is ready. The control socket lies beside the data socket. What --json writes are the
    server's counters when it stops.

    With --adapters it also takes what a learner writes there, tries it, and takes it back if it is worse (flexor
    adapter; docs/adapters.md).

    Example: flexor serve pi05-nano --bind ipc:///tmp/policy.sock --threads 1
    """
    # Before torch is imported: two spinning OpenMP threads on two busy cores make every layer wait.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.engine import open_engine
    from flexor.runtime.inference.policy import Policy
    from flexor.runtime.serving.address import Addresses, Claim
    from flexor.runtime.serving.server import PolicyServer
    from flexor.runtime.serving.server_settings import ServerSettings
    from flexor.settings import load_settings

    if eight_bit and precision not in (None, "bnb8"):
        raise typer.BadParameter(f"is --precision bnb8, and --precision is {precision}", param_hint="--8bit")
    precision = "bnb8" if eight_bit else precision
    given = {"bind": bind, "engine.name": engine, "engine.precision": precision, "engine.threads": threads}
    given |= {"engine.provider": provider, "adapters.dir": adapters, "adapters.keys": keys}
    options = [f"{key}={value}" for key, value in given.items() if value is not None]
    settings = load_settings(ServerSettings, config, [*(overrides or []), *options])
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    run = settings.engine
    claim = Claim(Addresses.of(settings.bind))
    claim.acquire()  # a wrong or taken address is told before the bundle is loaded
    claim.release()
    began = time.monotonic()
    caught: list[int] = []

    def catch(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    # From here on, for an exception in the middle of importing torch ends the process with an abort.
    before = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with progress_console.status(f"loading {bundle}", spinner="line"):
            opened = Bundle.open(bundle)
            loaded = open_engine(opened, run.name, run.precision, run.threads, run.flow_steps, force, run.provider)
            policy = Policy(opened, loaded)
        server = PolicyServer(policy, settings=settings, bundle=opened)
        with server:
            with progress_console.status("warming up", spinner="line"):
                while not caught and not server.ready(LOOK_EVERY_S):
                    pass
            if not caught:
                line = _ready_line(server.addresses.data, policy.describe(), run.threads, time.monotonic() - began)
                console.print(line, highlight=False, markup=False, soft_wrap=True)
            while not caught and not server.wait(LOOK_EVERY_S):
                pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    write_json(json_file, {"address": server.addresses.data, "bundle": opened.id, **server.stats()})
    if signal.SIGINT in caught:
        raise typer.Exit(130)


def _ready_line(address: str, facts: Mapping[str, Any], threads: int, seconds: float) -> str:
    served = f"{facts['bundle']}@{facts['hash'][:12]}"
    runs = f"{facts['engine']} {facts['provider']} {facts['precision']} threads={threads}"
    return f"ready {address} {served} {runs} after {seconds:.1f} s"
