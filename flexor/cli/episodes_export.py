"""`flexor episodes export`: recorded episodes in other people's formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile


def export(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that episodes were logged to.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The dataset; a folder that is not there yet.")],
    format: Annotated[str, typer.Option(help="lerobot: a LeRobotDataset v3.0.")] = "lerobot",
    actions: Annotated[
        str,
        typer.Option(
            metavar="played|expert",
            help="What the column action holds: what the arm was made to do, or what the expert wanted.",
        ),
    ] = "played",
    video: Annotated[
        str, typer.Option(metavar="h264|lossless", help="How frames are kept; lossless: every pixel as recorded.")
    ] = "h264",
    outcome: Annotated[str | None, typer.Option(help="Only success, failure, abort or unknown.")] = None,
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    json: JsonFile = None,
) -> None:
    """Write finished episodes as one dataset for other tools. It appears under its name when it is whole.

    Episodes of one dataset have the same rate, cameras, state and action sizes. docs/episodes.md says what is in it
    and what is not.
    """
    from flexor.cli.progress import Progress
    from flexor.cli.report import console, write_json
    from flexor.runtime.episodes.episode_schema import EpisodeError
    from flexor.runtime.episodes.lerobot.exporter import export_lerobot

    if format != "lerobot":
        raise EpisodeError(f'--format is "{format}"; the only one is lerobot')
    with Progress() as progress:
        done = export_lerobot(
            root, out, actions, video, outcome, task, told=lambda done, total: progress.update("episodes", done, total)
        )
    console.print(f"{done.episodes} episodes, {done.frames} frames in {out}", highlight=False, soft_wrap=True)
    if done.empty:
        console.print(f"left out, because they have no step: {', '.join(done.empty)}", highlight=False, soft_wrap=True)
    write_json(
        json,
        {
            "root": str(root),
            "out": str(out),
            "format": format,
            "actions": actions,
            "video": video,
            "episodes": done.episodes,
            "frames": done.frames,
            "empty": list(done.empty),
        },
    )
