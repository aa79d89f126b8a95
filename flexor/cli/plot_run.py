"""`flexor plot run` and `flexor plot episode`: pages that explain a run, or one episode, afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile


def run(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run; what it holds is found in it.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the report and its pictures.")] = Path("report"),
    episodes: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that its episodes were logged to, if not found.")
    ] = None,
    adapters: Annotated[Path | None, typer.Option(metavar="DIR", help="Its directory of adapters.")] = None,
    learner: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of its learner's run, or of several: curves.")
    ] = None,
    window: Annotated[int, typer.Option(min=1, help="Judged episodes that success is counted over.")] = 50,
    json: JsonFile = None,
) -> None:
    """Tell what a run came to, in one HTML page: success, entropy and failures by cycle, swaps, loss, and clips.

    The page needs nothing beside itself. The pictures lie beside it, too, as PNG and SVG.
    """
    from flexor.cli.report import console, table, write_json
    from flexor.flywheel.report.run_page import write_run_report
    from flexor.flywheel.run_record import RunFolders, RunReader

    folders = RunFolders.find(root, episodes, adapters, learner)
    result = write_run_report(RunReader(folders).read(), folders, out, window)
    keys = ("cycle", "adapter", "episodes", "on_trial", "successes", "judged", "alarms", "interventions")
    table(f"cycles of {folders.episodes}", keys, [[cycle[key] for key in keys] for cycle in result["cycles"]])
    for trouble in result["troubles"]:
        console.print(f"not in the report: {trouble}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"the report is {result['report']}", highlight=False, markup=False, soft_wrap=True)
    write_json(json, result)


def episode(
    path: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="An episode file; of a folder its newest episode.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page, HTML.")] = Path("episode.html"),
    id_: Annotated[str | None, typer.Option("--id", metavar="ID", help="The episode of the folder.")] = None,
    json: JsonFile = None,
) -> None:
    """Tell what happened in one episode, in one HTML page: frames, scores, adapters, guard events, interventions."""
    from flexor.cli.report import console, write_json
    from flexor.flywheel.report.postmortem import write_postmortem
    from flexor.runtime.episodes.episode import read_episode
    from flexor.runtime.episodes.episode_files import newest_file
    from flexor.runtime.episodes.labelling import finished_file

    file = newest_file(path) if path.is_dir() and id_ is None else path
    if id_ is not None:
        file = finished_file(path, id_)
    result = write_postmortem(read_episode(file), out)
    console.print(f"the page of episode {result['id']} is {out}", highlight=False, markup=False, soft_wrap=True)
    write_json(json, result)
