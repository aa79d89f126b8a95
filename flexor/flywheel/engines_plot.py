"""The picture of engines: what a chunk takes, against how often the same files succeed in simulation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flexor.errors import FlexorError
from flexor.runtime.metrics import wilson

Row = Mapping[str, Any]
MARKERS = "os^Dv<>P"  # by number of flow steps, most first


def read_report(path: Path) -> dict[str, Any]:
    """What a command wrote with --json.

    Raises:
        FlexorError: the file cannot be read, or is no JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise FlexorError(f"{path} cannot be read ({error.strerror}); name what a command wrote with --json") from error
    except ValueError as error:
        raise FlexorError(f"{path} is not JSON: {error}; name what a command wrote with --json") from error
    if not isinstance(content, dict):
        raise FlexorError(f"{path} holds no JSON object; name what a command wrote with --json")
    return content


def arms(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The evaluations in what `flexor eval --json` wrote: two where it was a gate, else one.

    `ci95` of a gate's report is that of the difference; here it is that of the success rate, as in any evaluation.
    """
    if "reference" not in report:
        return [report]
    _, low, high = wilson(report["successes"], report["episodes"])
    return [report["reference"], {**report, "ci95": [low, high]}]


def join_success(timed: Sequence[Row], evaluated: Sequence[Row]) -> tuple[list[dict[str, Any]], list[str]]:
    """Engines that `flexor bench engines` timed, with the success that `flexor eval` counted of the same bundle.

    Weights that were timed with other flow steps than the bundle's own are not what was evaluated.

    Args:
        timed: "engines" of a benchmark.
        evaluated: evaluations, all of one simulation.

    Returns:
        Rows {name, engine, flow_steps, p50_ms, p95_ms, success_rate, ci95, episodes} in the order of the benchmark,
        and the names of those that nobody evaluated.

    Raises:
        FlexorError: rows without these keys, evaluations of several simulations, or nothing that was both.
    """
    try:
        if len(sims := sorted({str(row["sim"]) for row in evaluated})) > 1:
            raise FlexorError(f"the evaluations are of {', '.join(sims)}; a picture has one simulation")
        found = {(row["bundle_hash"], row["precision"]): row for row in evaluated}
        joined, left = [], []
        for row in timed:
            name = f"{row['engine']} {row['precision']}, {row['flow_steps']} steps"
            success = found.get((row["hash"], row["precision"]))
            if success is None or row["flow_steps"] != row["bundle_flow_steps"]:
                left.append(name)
                continue
            told = {key: success[key] for key in ("success_rate", "ci95", "episodes")}
            engine = {"engine": f"{row['engine']} {row['precision']}", "flow_steps": row["flow_steps"]}
            joined.append({"name": name, **engine, "p50_ms": row["p50_ms"], "p95_ms": row["p95_ms"], **told})
    except (KeyError, TypeError) as error:
        raise FlexorError(
            f"a row is not as expected ({error}); take what flexor bench engines and flexor eval write with --json"
        ) from error
    if not joined:
        raise FlexorError("no engine was both timed and evaluated; run flexor eval on the bundles of the benchmark")
    return joined, left


def write_engines_plot(rows: Sequence[Row], title: str, path: Path) -> None:
    """Write a PNG: a point an engine, at p50 and the success rate, with lines to p95 and over the 95 % interval.

    An engine in a precision has a colour, a number of flow steps a marker; the quickest comes first in the legend.

    Args:
        rows: of join_success.

    Raises:
        FlexorError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FlexorError(f"a plot needs matplotlib ({error}); install it with `pip install 'flexor[plot]'`") from error
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    steps = sorted({row["flow_steps"] for row in rows}, reverse=True)
    for row in sorted(rows, key=lambda row: row["p50_ms"]):
        rate, (low, high) = 100 * row["success_rate"], (100 * bound for bound in row["ci95"])
        axes.errorbar(
            row["p50_ms"],
            rate,
            xerr=[[0.0], [row["p95_ms"] - row["p50_ms"]]],
            yerr=[[rate - low], [high - rate]],
            fmt=MARKERS[steps.index(row["flow_steps"]) % len(MARKERS)],
            color=f"C{engines.index(row['engine']) % 10}",
            markersize=6,
            linewidth=1,
            capsize=3,
            alpha=0.8,
            label=f"{row['name']} ({row['episodes']} episodes)",
        )
    axes.set_xlim(left=0)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.set(xlabel="ms a chunk: p50, line to p95", ylabel="success, %, and its 95 % interval", title=title)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=110)
    except OSError as error:
        raise FlexorError(f"cannot write the plot to {path}: {error}; choose another file") from error
