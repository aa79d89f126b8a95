"""The `flexor` command: a table of its commands, each imported only when it is called, and the exit codes.

0 done; 1 a FlexorError, told in one line; 2 wrong usage; 3 a check failed; 130 Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from flexor import __version__
from flexor.errors import FlexorError

COMMANDS: dict[str, tuple[str, str]] = {
    "doctor": ("flexor.cli.doctor:doctor", "Tell what this machine can run, and what is missing."),
    "demo": ("flexor.cli.demo:demo", "Show the whole loop on the embedded default policy."),
    "serve": ("flexor.cli.serve:serve", "Serve a bundle: observations in, action chunks out."),
    "run": ("flexor.cli.run:run", "Drive a robot with a served policy and record its episodes."),
    "eval": ("flexor.cli.eval:eval_", "Measure a bundle's success in simulation."),
    "reproduce": ("flexor.cli.reproduce:reproduce", "Play LIBERO's four suites beside published numbers."),
    "cl": ("flexor.cli.cl:app", "Tell what a stream of tasks came to: ASR, BWT, NBT, F, AUC."),
    "oracle": ("flexor.cli.oracle:oracle", "Measure the scripted oracle's own success."),
    "collect": ("flexor.cli.collect:collect", "Record the oracle's demonstrations as episodes."),
    "elsewhere": ("flexor.cli.elsewhere:elsewhere", "Note where else in recorded scenes a task could have begun."),
    "pretrain": ("flexor.cli.pretrain:pretrain", "Train a policy from demonstrations and write its bundle."),
    "learn": ("flexor.cli.learn:learn", "Learn adapters from what a robot records, and publish them."),
    "import": ("flexor.cli.import_:import_", "Make a bundle of a checkpoint of openpi, LeRobot or OpenTau."),
    "export": ("flexor.cli.export:export", "Turn a bundle into graphs for another runtime, adapters included."),
    "verify": ("flexor.cli.verify:verify", "Tell whether fewer bits, or graphs, compute the same."),
    "adapter": ("flexor.cli.adapter:app", "List, push, swap and take back adapters."),
    "episodes": ("flexor.cli.episodes:app", "List, show, correct, verify and export recorded episodes."),
    "campaign": ("flexor.cli.campaign:app", "Take long measurements bit by bit, and tell what is there."),
    "plot": ("flexor.cli.plot:app", "Draw pictures of what flexor works with."),
    "flywheel": ("flexor.cli.flywheel:flywheel", "Let a policy notice that it fails, learn, and get better."),
    "dashboard": ("flexor.cli.dashboard:dashboard", "Show a run while it goes on, as a page for a browser."),
    "download": ("flexor.cli.download:download", "Bring a published checkpoint over, and verify every file."),
    "bench": ("flexor.cli.bench:app", "Measure this machine."),
}
"""By command name: `module:attribute` (a function, or a typer.Typer for a group) and the line in `flexor --help`."""


class _LazyGroup(TyperGroup):
    """A command group that lists its commands from COMMANDS and imports only the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (_, summary) in COMMANDS.items():
            self.add_command(TyperCommand(name, help=summary, rich_markup_mode=None))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, _load(name) if name in COMMANDS else command, rest


def _load(name: str) -> Any:
    module, _, attribute = COMMANDS[name][0].partition(":")
    loaded = getattr(importlib.import_module(module), attribute)
    if isinstance(loaded, typer.Typer):
        # Square brackets such as [a.b=c] in a help text are text, not markup.
        loaded.rich_markup_mode = None
        return typer.main.get_group(loaded)
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name)(loaded)
    return typer.main.get_command(single)


app = typer.Typer(name="flexor", cls=_LazyGroup, add_completion=False, rich_markup_mode=None, no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"flexor {__version__}")
        raise typer.Exit


@app.callback(epilog="Example: flexor demo")
def flexor(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Serve a Pi0.5 policy on the robot, and keep teaching it there."""


def main() -> None:
    """Run the command line of this process and exit with its code."""
    # Before anything imports torch: two spinning OpenMP threads on two busy cores make every layer wait.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        typer.main.get_command(app)(prog_name="flexor")
    except FlexorError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:  # before a command has begun; after that typer turns it into the same code
        sys.exit(130)


if __name__ == "__main__":
    main()
