"""`flexor episodes label`: how an episode really ended, said later by an operator."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile


def label(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that episodes were logged to.")],
    episode: Annotated[str, typer.Argument(metavar="ID", help="The episode, as `flexor episodes list` names it.")],
    outcome: Annotated[
        str | None, typer.Option(help="success, failure, abort or unknown; as it is if not given.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="WORD", help="How it failed, e.g. grasp_slip (docs/failures.md).")
    ] = None,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who says so; by default who is logged in.")] = None,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why, for whoever reads it later.")] = "",
    json: JsonFile = None,
) -> None:
    """Correct the outcome and the failure label of a finished episode; the source becomes operator.

    The episode's file stays as it is. What was said, by whom and when, is kept beside it and in `show`; the index
    follows, also when it is made again from the files.
    """
    from flexor.cli.report import console, write_json
    from flexor.runtime.episodes.episode import read_episode
    from flexor.runtime.episodes.episode_schema import EpisodeError
    from flexor.runtime.episodes.labelling import label_episode

    if outcome is None and label is None:
        raise EpisodeError("nothing is corrected; give --outcome, --label or both")
    row = label_episode(root, episode, outcome, label, _whoever(by), note)
    said = read_episode(root / row.file).corrections[-1]
    before = said.was_outcome if said.was_label is None else f"{said.was_outcome}, {said.was_label}"
    after = said.outcome if said.label is None else f"{said.outcome}, {said.label}"
    console.print(
        f"episode {row.id}: {before} -> {after}, says {said.by}", highlight=False, markup=False, soft_wrap=True
    )
    write_json(json, {"root": str(root), "id": row.id, **asdict(said)})


def _whoever(by: str | None) -> str:
    from flexor.runtime.episodes.episode_schema import EpisodeError

    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise EpisodeError(f"nobody is logged in by name ({error}); say who corrects the episode with --by") from error
