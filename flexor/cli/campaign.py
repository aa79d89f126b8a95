"""`flexor campaign`: long measurements, filled bit by bit, and what there is of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flexor.cli.report import JsonFile

app = typer.Typer(no_args_is_help=True, help="Measurements that take more than a sitting.", rich_markup_mode=None)

CampaignFile = Annotated[Path, typer.Argument(metavar="FILE", help="The campaign: a YAML list of cells.")]
ResultsFolder = Annotated[
    Path, typer.Option("--results", metavar="DIR", help="Where the results are, in DIR/<name of FILE>.jsonl.")
]
RESULTS = Path("docs/results")


@app.command(epilog="Example: flexor campaign run configs/campaigns/rigour.yaml --minutes 30")
def run(
    file: CampaignFile,
    minutes: Annotated[float, typer.Option(min=0.0, help="Begin nothing, and end what goes on, after this.")] = 30.0,
    results: ResultsFolder = RESULTS,
    json: JsonFile = None,
) -> None:
    """Measure what is missing of a campaign, as much as the minutes allow.

    Each result is a line that stays, whatever ends the run; the next run goes on from there.
    """
    from flexor.cli.progress import Progress
    from flexor.cli.report import console, progress_console, table, write_json
    from flexor.errors import FlexorError
    from flexor.flywheel.campaign.cells import load_campaign
    from flexor.flywheel.campaign.filling import Listener, fill

    campaign = load_campaign(file)
    path = results / f"{campaign.name}.jsonl"
    with Progress() as progress:

        def told(done: int, total: int, note: str) -> None:
            progress.update(f"campaign {campaign.name}", done, total, note)

        def finished(line: str) -> None:
            progress_console.print(line, highlight=False, markup=False)

        filled = fill(campaign, path, minutes, Listener(told, finished))
    failures = filled.failures
    if failures:
        rows = [(failure.cell, failure.exit_code, failure.error) for failure in failures]
        table("failed", ("cell", "exit code", "error"), rows)
    console.print(f"{filled.measured} slices measured, {filled.missing} missing: {path}", highlight=False)
    write_json(json, {"campaign": campaign.name, "results": path, "minutes": minutes, **filled.to_dict()})
    if failures:
        names = ", ".join(failure.cell for failure in failures)
        raise FlexorError(f"{len(failures)} of {len(campaign.cells)} cells failed: {names}; see what each said above")


@app.command("table", epilog="Example: flexor campaign table configs/campaigns/rigour.yaml")
def table_(file: CampaignFile, results: ResultsFolder = RESULTS, json: JsonFile = None) -> None:
    """Tell what is there of a campaign: success with its 95 % interval, times, and arms compared.

    Arms are compared over the episodes that both have played, with McNemar's exact test.
    """
    from flexor.cli.report import console, write_json
    from flexor.flywheel.campaign.cells import load_campaign
    from flexor.flywheel.campaign.results_file import read_measurements
    from flexor.flywheel.campaign.telling import tell

    campaign = load_campaign(file)
    told = tell(campaign, read_measurements(results / f"{campaign.name}.jsonl"))
    measured = [cell for cell in told["cells"] if cell["commits"]]
    chosen = [_as_asked(cell) for cell in measured if "played" in cell]
    _print_success(campaign.name, [cell for cell in measured if "success_rate" in cell] + chosen)
    _print_times(campaign.name, [cell for cell in measured if "success_rate" not in cell])
    _print_comparisons([row for row in told["comparisons"] if row["pairs"]])
    for note in told["notes"]:
        console.print(note, highlight=False, markup=False)
    write_json(json, {"campaign": campaign.name, **told})


def _as_asked(cell: dict[str, Any]) -> dict[str, Any]:
    """A cell whose command chose its episodes, in the form of one that was asked for so many."""
    return {**cell, **cell["played"], "wanted": cell["played"]["episodes"], "outcomes": {}}


def _print_success(title: str, cells: list[dict[str, Any]]) -> None:
    from flexor.cli.report import table

    rows = []
    for cell in cells:
        rates = {cell["cell"]: cell} | {f"{cell['cell']}: {key}": rate for key, rate in cell["outcomes"].items()}
        for name, rate in rates.items():
            entropy = cell["entropy_bits_mean"] if rate is cell and "entropy_bits_mean" in cell else None
            partly = "" if rate["episodes"] == cell["wanted"] else f" ({cell['wanted']} wanted)"
            counts = f"{rate['successes']} of {rate['episodes']}{partly}"
            rows.append((name, counts, rate["success_rate"], _interval(rate), entropy, _commits(cell)))
    if rows:
        table(title, ("cell", "success", "rate", "95 %", "bits", "commit"), rows)


def _print_times(title: str, cells: list[dict[str, Any]]) -> None:
    from flexor.cli.report import table
    from flexor.flywheel.campaign.kinds import KINDS

    for kind in dict.fromkeys(cell["kind"] for cell in cells):
        shown = KINDS[kind].shown
        same = [cell for cell in cells if cell["kind"] == kind]
        rows = [(cell["cell"], *(cell[key] for key in shown), cell["machine"], _commits(cell)) for cell in same]
        table(f"{title}: {kind}", ("cell", *shown, "machine", "commit"), rows)


def _print_comparisons(comparisons: list[dict[str, Any]]) -> None:
    from flexor.cli.report import table

    if not comparisons:
        return
    columns = ("arm", "baseline", "pairs", "arm alone", "baseline alone", "difference, points", "p")
    keys = ("arm", "baseline", "pairs", "arm_only", "baseline_only")
    rows = [(*(row[key] for key in keys), 100 * row["difference"], row["p"]) for row in comparisons]
    table("compared over the same episodes; p by McNemar's exact test", columns, rows)


def _interval(rate: dict[str, Any]) -> str:
    low, high = rate["ci95"]
    return "" if low is None else f"{low:.3f}-{high:.3f}"


def _commits(cell: dict[str, Any]) -> str:
    commits = cell["commits"]
    return f"{len(commits)} commits" if len(commits) > 1 else "".join(commits)
