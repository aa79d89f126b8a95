"""What `run` shows while episodes go on: a live table on a terminal, a line an episode elsewhere."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live as LiveDisplay
from rich.table import Table

from flexor.errors import FlexorError
from flexor.runtime.driving.control_loop import Live
from flexor.runtime.driving.run_report import EpisodeResult, RunReport

COLUMNS = ("#", "task", "outcome", "steps", "holds", "entropy bits", "alarm", "chunk ms")


class RunView:
    """Watches one run. Drawing happens in a thread of its own, so that the control loop never waits for a terminal."""

    def __init__(self, report: RunReport, episodes: int, console: Console) -> None:
        self._report, self._episodes, self._console = report, episodes, console
        self._live: Live | None = None
        self._printed = 0
        self._display = (
            LiveDisplay(get_renderable=self._table, console=console, refresh_per_second=4)
            if console.is_terminal
            else None
        )

    def watch(self, live: Live) -> None:
        """Take the present state of an episode; called at every control step."""
        self._live = live
        if self._display is None:
            self._print_finished()

    def __enter__(self) -> RunView:
        if self._display is not None:
            self._display.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live = None
        if self._display is not None:
            self._display.__exit__(kind, error, at)
        else:
            self._print_finished()

    def _print_finished(self) -> None:
        while self._printed < len(self._report.results):
            result = self._report.results[self._printed]
            self._printed += 1
            line = f"episode {self._printed} of {self._episodes}: {result.task}: {result.outcome}, {result.steps} steps"
            why = result.reason or result.failure_label
            line += f" ({why})" if why else ""
            line += f", {result.intervened_steps} steps corrected" if result.intervened_steps else ""
            line += "" if result.alarm_step is None else f", alarm at step {result.alarm_step}"
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table(*COLUMNS, title=f"{self._episodes} episodes", title_justify="left", header_style="bold")
        results = list(self._report.results)
        for result in results:
            table.add_row(*_finished(result))
        live = self._live
        if live is not None and live.index == len(results):
            latency = "" if live.latency_ms is None else f"{live.latency_ms:.1f}"
            bits = "" if live.entropy_bits is None else f"{live.entropy_bits:.2f}"
            live_cells = (
                live.task,
                live.note or "...",
                str(live.step),
                str(live.holds),
                bits,
                _alarm(live.alarm_step),
                latency,
            )
            table.add_row(str(live.index + 1), *live_cells)
        return table


def summary(report: RunReport) -> list[tuple[str, object]]:
    """The rows of the table that ends a run."""
    told = report.to_dict()
    low, high = told["ci95"]
    rate = "" if low is None else f"{told['success_rate']:.1%} (95 %: {low:.1%} to {high:.1%})"
    guard = ", ".join(f"{kind} {count}" for kind, count in told["guard_events"].items())
    refusals = ", ".join(f"{kind} {count}" for kind, count in told["refusals"].items())
    failures = ", ".join(f"{label} {count}" for label, count in told["failure_labels"].items())
    why = ", ".join(f"{reason} {count}" for reason, count in told["interventions"].items())
    corrected = [
        ("interventions", f"{why}; {told['intervened_steps']} steps"),
        ("success without them", told["successes_alone"]),
    ]
    return [
        ("success", f"{told['successes']} of {told['episodes']}  {rate}"),
        ("failures by label", failures or "0"),
        ("aborted", told["aborted"]),
        ("entropy, bits, mean", told["entropy_bits_mean"]),
        ("pre-fail", "no calibration, raw bits" if told["calibration"] == "raw" else told["pre_fail"]),
        ("chunk latency p50, ms", told["p50_ms"]),
        ("chunk latency p95, ms", told["p95_ms"]),
        ("chunk latency p99, ms", told["p99_ms"]),
        ("steps / chunks", f"{told['steps']} / {told['chunks']}"),
        ("holds / stale chunks / overruns", f"{told['holds']} / {told['stale']} / {told['overruns']}"),
        *(corrected if why else []),
        ("guard", guard or "0"),
        ("replies without a chunk", refusals or "0"),
    ]


def write_run_gif(report: RunReport, path: Path) -> None:
    """Write the last success as a GIF, or the last episode where none succeeded.

    Raises:
        FlexorError: no episode was recorded.
    """
    from flexor.runtime.episodes.episode import read_episode
    from flexor.runtime.episodes.gif import write_gif

    results = [result for result in report.results if result.outcome == "success"] or report.results
    if not results:
        raise FlexorError(f"no episode was finished, so there is nothing to show in {path}")
    write_gif(read_episode(results[-1].path), path)


def refuse_aborted(report: RunReport) -> None:
    """Raise FlexorError when episodes had to be aborted, with the reason of the first."""
    if report.aborted:
        count, first = len(report.aborted), report.aborted[0]
        raise FlexorError(f"{count} of {len(report.results)} episodes aborted; first {first.index + 1}: {first.reason}")


def _finished(result: EpisodeResult) -> tuple[str, ...]:
    bits = "" if result.entropy_bits_mean is None else f"{result.entropy_bits_mean:.2f}"
    colour = {"success": "green", "failure": "red", "abort": "red", "unknown": "yellow"}[result.outcome]
    outcome = f"[{colour}]{result.failure_label or result.outcome}[/{colour}]"
    steps, holds = str(result.steps), str(result.holds)
    return (str(result.index + 1), result.task, outcome, steps, holds, bits, _alarm(result.alarm_step), "")


def _alarm(step: int | None) -> str:
    return "" if step is None else f"step {step}"
