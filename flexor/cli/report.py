"""What a command tells: a table for people, and the same as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from flexor.errors import FlexorError
from flexor.runtime.environment import environment

console = Console()
"""Where results go: standard output."""

progress_console = Console(stderr=True)
"""Where progress goes, so that results can be piped."""


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under named columns; a float is shown with four significant digits."""
    printed = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        printed.add_column(column)
    for row in rows:
        printed.add_row(*(_cell(value) for value in row))
    console.print(printed)


def write_json(path: Path | None, result: Mapping[str, Any]) -> None:
    """Write `result` and the environment it was measured in to `path`; "-" is standard output, None writes nothing.

    Raises:
        FlexorError: the file cannot be written.
    """
    if path is None:
        return
    text = json.dumps({**result, "env": environment()}, indent=2, default=_plain) + "\n"
    if str(path) == "-":
        console.file.write(text)
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
