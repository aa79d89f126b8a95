"""`flexor episodes`: look at recorded episodes, check that nothing of them is lost, and make room on the disk."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.alarms import alarms, calibrate
from flexor.cli.episodes_export import export
from flexor.cli.episodes_label import label
from flexor.cli.report import JsonFile

app = typer.Typer(
    no_args_is_help=True, help="List, show, label, verify, export and evict recorded episodes.", rich_markup_mode=None
)

CHECK_FAILED = 3
GIB = 2**30

app.command(epilog="Example: flexor episodes calibrate runs/good --alpha 0.1")(calibrate)
app.command(epilog="Example: flexor episodes alarms runs/shifted --plot alarms.png --json alarms.json")(alarms)
app.command(epilog="Example: flexor episodes export runs/first --format lerobot --out datasets/first")(export)
app.command(epilog="Example: flexor episodes label runs/first ID --outcome failure --label grasp_slip")(label)


@app.command("list", epilog="Example: flexor episodes list runs/first --outcome failure")
def list_(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that episodes were logged to.")],
    outcome: Annotated[str | None, typer.Option(help="Only success, failure, abort or unknown.")] = None,
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    json: JsonFile = None,
) -> None:
    """List the episodes of a folder, oldest first."""
    from flexor.cli.report import table, write_json
    from flexor.runtime.episodes.episode_schema import EpisodeError
    from flexor.runtime.episodes.index import EpisodeIndex

    index = EpisodeIndex(root)
    if not index.path.exists():
        raise EpisodeError(
            f"{root} has no episode index ({index.path.name}); give a folder that was logged to, or make the index "
            f"of its files with `flexor episodes verify {root} --repair`"
        )
    rows = index.episodes(outcome=outcome, task=task)
    columns = ("episode", "task", "outcome", "label", "steps", "seconds", "entropy (bits)")
    unlearned = sum(not row.used_by for row in rows)
    table(
        f"episodes in {root}/episodes: {len(rows)}, not yet learned from: {unlearned}",
        columns,
        [(row.id, row.task, row.outcome, row.label, row.steps, row.duration_s, row.entropy_bits_mean) for row in rows],
    )
    write_json(json, {"root": str(root), "episodes": [{**asdict(row), "priority": row.priority} for row in rows]})


@app.command(epilog="Example: flexor episodes show runs/first --gif first.gif")
def show(
    path: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="An episode file; of a folder its newest episode.")],
    gif: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the frames as a GIF.")] = None,
    rerun: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write frames, plots and events as an .rrd file for the Rerun viewer."),
    ] = None,
    json: JsonFile = None,
) -> None:
    """Tell what one episode holds."""
    from flexor.cli.report import table, write_json
    from flexor.runtime.episodes.episode import read_episode
    from flexor.runtime.episodes.episode_files import newest_file
    from flexor.runtime.episodes.gif import write_gif
    from flexor.runtime.episodes.index_row import row_of
    from flexor.runtime.episodes.rerun_recording import write_rerun

    file = newest_file(path) if path.is_dir() else path
    episode = read_episode(file)
    row = row_of(file.parent, file, episode)
    summary = asdict(row) | {"priority": row.priority, "file": str(file), "images": episode.images}
    del summary["used_by"]  # the index alone knows it
    events = [
        {"step": event.step, "time_s": event.time_s, "kind": event.kind, "data": event.data} for event in episode.events
    ]
    table(f"episode {episode.id}", ("what", "value"), summary.items())
    if episode.events:
        table(
            "events", ("step", "seconds", "kind", "data"), [(e.step, e.time_s, e.kind, e.data) for e in episode.events]
        )
    if episode.corrections:
        table(
            "corrections, oldest first",
            ("time", "by", "said", "before", "note"),
            [
                (
                    said.time,
                    said.by,
                    _ending(said.outcome, said.label),
                    _ending(said.was_outcome, said.was_label),
                    said.note,
                )
                for said in episode.corrections
            ],
        )
    if gif is not None:
        write_gif(episode, gif)
    if rerun is not None:
        write_rerun(episode, rerun)
    written = {"gif": gif and str(gif), "rerun": rerun and str(rerun)}
    corrections = [asdict(said) for said in episode.corrections]
    told = {"extra": episode.meta.extra, "event_list": events, "corrections": corrections}
    write_json(json, {**summary, **told, **written})


def _ending(outcome: str, label: str | None) -> str:
    return outcome if label is None else f"{outcome}, {label}"


@app.command(epilog="Example: flexor episodes verify runs/first --repair")
def verify(
    path: Annotated[Path, typer.Argument(metavar="DIR|FILE", help="Folder that was logged to, or one episode file.")],
    repair: Annotated[
        bool, typer.Option("--repair", help="Recover unfinished and damaged episodes; make the index fit the files.")
    ] = False,
    json: JsonFile = None,
) -> None:
    """Check every byte of the episodes, and the index against the files; exit with 3 when something is wrong."""
    from flexor.cli.report import console, progress_console, table, write_json
    from flexor.runtime.episodes.episode_check import Problem, RootCheck, check_file, check_root
    from flexor.runtime.episodes.episode_check import repair as mend
    from flexor.runtime.episodes.episode_schema import EpisodeError

    if not path.exists():
        raise EpisodeError(f"{path} does not exist; give a folder that was logged to, or an episode file")
    if path.is_dir():
        with progress_console.status("checking") as status:
            found = check_root(path, lambda file: status.update(f"checking {file.name}"))
    else:
        if repair:
            raise EpisodeError(f"--repair works on a folder that was logged to; {path} is none")
        found = RootCheck(1, (), tuple(Problem("damaged", str(path), detail) for detail in check_file(path)))
    problems, repaired = found.problems, []
    if repair and problems:
        rows = []
        for problem in problems:
            try:
                done = mend(path, problem)
                repaired.append(problem.file)
            except EpisodeError as error:
                done = f"not mended: {error}"
            rows.append((problem.file, problem.kind, done))
        table("repairs", ("file", "problem", "done"), rows)
        problems = check_root(path).problems
    if problems:
        table("problems", ("file", "problem", "what"), [(p.file, p.kind, p.detail) for p in problems])
    console.print(
        f"episodes checked: {found.episodes}   being recorded: {len(found.recording)}   problems: {len(problems)}"
    )
    write_json(
        json,
        {
            "path": str(path),
            "episodes": found.episodes,
            "recording": list(found.recording),
            "problems": [asdict(problem) for problem in problems],
            "repaired": repaired,
            "passed": not problems,
        },
    )
    if problems:
        raise typer.Exit(CHECK_FAILED)


@app.command(epilog="Example: flexor episodes evict runs/first --max-gib 20 --dry-run")
def evict(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that episodes were logged to.")],
    max_gib: Annotated[float, typer.Option(metavar="X", help="What all its episode files may take together, GiB.")],
    unlearned: Annotated[
        str,
        typer.Option(
            metavar="none|successes|all",
            help="Which may go although nobody has learned from them; successes: those without an intervention.",
        ),
    ] = "none",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell which episodes would go.")] = False,
    json: JsonFile = None,
) -> None:
    """Remove finished episodes until the folder fits. Those that nobody has learned from stay, unless told otherwise.

    First goes what was learned from, then the rest as far as --unlearned lets it; in both, plain successes before
    failures and interventions, and the older before the newer. Exits with 3 when the folder is over the budget still
    and nothing is left that may go.
    """
    from flexor.cli.report import console, table, write_json
    from flexor.runtime.episodes.budget import DiskBudget
    from flexor.runtime.episodes.episode_schema import EpisodeError

    if not math.isfinite(max_gib):
        raise EpisodeError(f"--max-gib is {max_gib}; give a finite number of GiB")
    budget = DiskBudget(root, int(max_gib * GIB), unlearned)
    before = budget.used_bytes()
    evicted = budget.evict(dry_run)
    freed = sum(episode.bytes for episode in evicted)
    left = before - freed if dry_run else budget.used_bytes()
    if evicted:
        table(
            "episodes that would go" if dry_run else "episodes removed",
            ("episode", "outcome", "learned", "bytes"),
            [(episode.id, episode.outcome, "yes" if episode.used_by else "no", episode.bytes) for episode in evicted],
        )
    console.print(
        f"{'would free' if dry_run else 'freed'}: {freed / GIB:.4g} GiB   left: {left / GIB:.4g} GiB   "
        f"budget: {max_gib:.4g} GiB"
    )
    fits, kept = left <= budget.max_bytes, budget.protected()
    write_json(
        json,
        {
            "root": str(root),
            "dry_run": dry_run,
            "max_bytes": budget.max_bytes,
            "bytes_before": before,
            "bytes_left": left,
            "fits": fits,
            "unlearned": unlearned,
            "protected": {"episodes": len(kept), "bytes": sum(episode.bytes for episode in kept)},
            "evicted": [asdict(episode) for episode in evicted],
        },
    )
    if not fits:
        size = sum(episode.bytes for episode in kept)
        console.print(
            f"over the budget still: {len(kept)} episodes ({size / GIB:.4g} GiB) stay because nobody has learned from "
            "them (--unlearned lets them go); what else is left is being recorded, set aside as .mcap.damaged, or not "
            "in the index: `flexor episodes verify` names it"
        )
        raise typer.Exit(CHECK_FAILED)
