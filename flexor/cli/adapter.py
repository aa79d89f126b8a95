"""`flexor adapter`: what a server makes of its adapters, and orders about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flexor.cli.adapter_files import merge, show, sign
from flexor.cli.report import JsonFile

if TYPE_CHECKING:
    from collections.abc import Mapping

app = typer.Typer(no_args_is_help=True, help="List, push, swap and take back adapters.", rich_markup_mode=None)

app.command(epilog="Example: flexor adapter show adapters/7-0a1b2c3d4e5f")(show)
app.command(epilog="Example: flexor adapter merge adapters/7-0a1b2c3d4e5f --bundle pi05-nano --out runs/merged")(merge)
app.command(epilog="Example: flexor adapter sign adapters/7-0a1b2c3d4e5f --key learner.pem")(sign)

Server = Annotated[
    str | None, typer.Option("--server", metavar="ADDRESS", help="Data address of the server; the default one.")
]
Name = Annotated[str, typer.Argument(metavar="ADAPTER", help="Its id, VERSION-HASH, or its folder.")]
ORDER_TIMEOUT_S = 120.0


@app.command("list", epilog="Example: flexor adapter list --server ipc:///tmp/policy.sock")
def list_(
    server: Server = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="A directory of adapters, without a server.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Tell how every adapter stands, and why."""
    from flexor.cli.report import console, table, write_json

    if directory is not None and server is not None:
        raise typer.BadParameter("give a server or a directory, not both", param_hint="--dir")
    told = _on_disk(directory) if directory is not None else _ask(server)
    rows = told["adapters"]
    table(
        f"adapters in {told['dir']}: {told['active']} is active",
        ("adapter", "state", "reason", "episodes", "succeeded", "told"),
        [(row["id"], row["state"], row["reason"], row["episodes"], row["successes"], row["told"]) for row in rows],
    )
    shadow = told.get("shadow")
    if shadow:
        standing = f"{shadow['seen']} of {shadow['requests']} requests, differs by {shadow['difference']:.3f}"
        line = f"shadow of {told['candidate']}: {standing} of at most {shadow['limit']:g}"
        console.print(line, highlight=False, markup=False)
    trial = told.get("trial")
    if trial:
        standing = f"{trial['pairs']} pairs, won {trial['wins']}, lost {trial['losses']}"
        money = f"{trial['money_for']:.2f} of {trial['bar']:g}"
        console.print(f"trial of {told['candidate']}: {standing}; bet on it: {money}", highlight=False, markup=False)
    write_json(json, told)


@app.command(epilog="Example: flexor adapter push 7-0a1b2c3d4e5f --server ipc:///tmp/policy.sock")
def push(adapter: Name, server: Server = None, json: JsonFile = None) -> None:
    """Announce a new adapter in the server's directory: it is verified, loaded and tried.

    The command ends when it is loaded; how the trial goes, `list` tells.
    """
    _order(server, "push", adapter, None, json)


@app.command(epilog="Example: flexor adapter swap 7-0a1b2c3d4e5f --at episode")
def swap(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="Its id or folder; base for the bundle's own.")],
    at: Annotated[str | None, typer.Option(help="When open sessions take it: episode or chunk.")] = None,
    server: Server = None,
    json: JsonFile = None,
) -> None:
    """Serve an adapter, or `base`, without a trial: it is verified all the same."""
    if at not in (None, "episode", "chunk"):
        raise typer.BadParameter(f"{at!r} is neither episode nor chunk", param_hint="--at")
    _order(server, "swap", adapter, at, json)


@app.command(epilog="Example: flexor adapter rollback --server ipc:///tmp/policy.sock")
def rollback(server: Server = None, json: JsonFile = None) -> None:
    """End the trial under way, or without one return to what was active before, from the next chunk on."""
    _order(server, "rollback", None, None, json)


@app.command(epilog="Example: flexor adapter remove 7-0a1b2c3d4e5f")
def remove(adapter: Name, server: Server = None, json: JsonFile = None) -> None:
    """Delete an adapter that is neither active nor tried from the server's directory."""
    _order(server, "remove", adapter, None, json)


def _order(server: str | None, verb: str, adapter: str | None, at: str | None, json: Path | None) -> None:
    from flexor.cli.report import console, write_json
    from flexor.runtime.serving.control import ServerControl

    name = None if adapter is None else Path(adapter).name
    with ServerControl(server, ORDER_TIMEOUT_S) as control:
        told: Mapping[str, Any] = control.order(verb, name, at)
    why = f": {told['told']}" if told.get("told") else ""
    line = f"{told['adapter']} is {told['state']}{why}; active is {told['active']}"
    console.print(line, highlight=False, markup=False, soft_wrap=True)
    write_json(json, told)


def _ask(server: str | None) -> dict[str, Any]:
    from flexor.runtime.serving.control import ServerControl

    with ServerControl(server) as control:
        return control.adapters()


def _on_disk(directory: Path) -> dict[str, Any]:
    from flexor.runtime.adapters.adapter_listing import listing
    from flexor.runtime.adapters.store_state import StoreState

    return listing(directory, StoreState.read(directory))
