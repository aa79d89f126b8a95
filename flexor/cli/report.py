"""What a command tells: a table for people, and the same as JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flexor.errors import FlexorError
from flexor.runtime.environment import environment

console = Console()
"""Where results for people go: standard output, or standard error while `--json -` needs standard output alone."""

STANDARD_OUTPUT = "-"

progress_console = Console(stderr=True)
"""Where progress goes, so that results can be piped."""


def _make_room(path: Path | None) -> Path | None:
    console.stderr = str(path) == STANDARD_OUTPUT
    return path


JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Also write the result as JSON; - is standard output, which is left to it alone then.",
        callback=_make_room,
    ),
]
"""The --json of every command."""


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under named columns; a float is shown with four significant digits."""
    printed = Table(title=escape(title), title_justify="left", header_style="bold")
    for column in columns:
        printed.add_column(column, overflow="fold")  # a name cut short names nothing
    for row in rows:
        printed.add_row(*(escape(_cell(value)) for value in row))
    console.print(printed)


def write_json(path: Path | None, result: Mapping[str, Any]) -> None:
    """Write `result` and the environment it was measured in to `path`; "-" is standard output, None writes nothing.

    Raises:
        FlexorError: the file cannot be written.
    """
    if path is None:
        return
    text = json.dumps({**result, "env": environment()}, indent=2, default=_plain) + "\n"
    if str(path) == STANDARD_OUTPUT:
        sys.stdout.write(text)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise FlexorError(f"cannot write the JSON result to {path}: {error}; choose another --json FILE") from error


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def _plain(value: object) -> object:
    """Turn what json does not know into what it does; anything else is a programming error."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
