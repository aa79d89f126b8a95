"""`flexor dashboard`: a live page about a run."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile


def dashboard(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[a.b=c]...", help="Settings of alerts, e.g. success_below=0.8.")
    ] = None,
    episodes: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that episodes are logged to; its index is read.")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Data address of the policy server; none is asked if not given."),
    ] = None,
    adapters: Annotated[Path | None, typer.Option(metavar="DIR", help="Directory of adapters, for their log.")] = None,
    learner: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of a learner's run, or of several: its curves.")
    ] = None,
    alerts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write alerts here, a JSON line each, and run the command.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8600,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    beyond: Annotated[
        bool, typer.Option("--beyond-loopback", help="Let --host be an address that other machines reach.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks at the files and the server.")] = 2.0,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings as YAML, see configs/alerts.yaml.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Show a run while it goes on, as a page for a browser, until Ctrl-C. It only reads.

    Success, entropy, failures, latency, adapters, the learner's loss and the disk, as far as it is told where they
    are. A server that is away is shown as such. What --json writes is where the page is, before anybody looks at it.

    Example: flexor dashboard --episodes runs/a --server ipc:///tmp/policy.sock --adapters adapters --port 8600
    """
    from flexor.cli.report import console, write_json
    from flexor.flywheel.alerts import AlertSettings
    from flexor.flywheel.dashboard.server_watch import ServerWatch
    from flexor.flywheel.dashboard.watcher import Watcher
    from flexor.flywheel.dashboard.web_server import WebServer
    from flexor.flywheel.run_record import RunFolders
    from flexor.settings import load_settings

    settings = load_settings(AlertSettings, config, overrides or [])
    folders = RunFolders(episodes, adapters, learner)
    with ExitStack() as closing:
        watch = None if server is None else closing.enter_context(ServerWatch(server))
        watcher = Watcher(folders, watch, settings, alerts, every)
        web = closing.enter_context(WebServer(host, port, watcher.told, beyond))
        watcher.start()
        console.print(f"the run is shown at {web.url}", highlight=False, markup=False, soft_wrap=True)
        write_json(json, {"url": web.url, "port": web.server_address[1]})
        try:
            web.serve_forever()
        finally:
            watcher.stop()
