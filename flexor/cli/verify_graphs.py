"""What `flexor verify` does with a bundle of exported graphs: whether they compute what their source computes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from flexor.runtime.inference.bundle import Bundle

REPORT = "parity.json"


def verify_graphs(
    exported: Bundle, source: str | None, episodes: Path, n: int, threads: int, provider: str | None, json: Path | None
) -> None:
    """Compare graphs with the weights that they were made from, and keep the verdict beside them.

    Raises:
        typer.Exit: code 3, the graphs failed.
    """
    from flexor.cli.progress import Progress
    from flexor.cli.report import console, table, write_json
    from flexor.export.graph_parity import compare_with_source, least_cosines
    from flexor.export.recorded_observations import recorded_observations
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.engine import open_engine
    from flexor.runtime.inference.gates import replace_json, write_gate

    graphs = exported.config.graphs
    assert graphs is not None
    made_from = Bundle.open(source or exported.name)
    engine = open_engine(exported, threads=threads, force=True, provider=provider)
    observations = recorded_observations(episodes, exported.config.cameras, n)
    with Progress() as progress:
        parity = compare_with_source(
            engine,
            exported,
            made_from,
            observations,
            lambda done: progress.update("comparing", done, len(observations), f"{done} of {len(observations)}"),
        )
    least_mean, least_worst = least_cosines(graphs.prefix, graphs.expert)
    whole = parity.whole
    passed = whole.cos_mean >= least_mean and whole.cos_min >= least_worst
    figures = f"cosine to {made_from.id} in fp32 {whole.cos_mean:.6f} on average, {whole.cos_min:.4f} at worst"
    figures += f" (at least {least_mean:g} and {least_worst:g})"
    setting = {"reference": made_from.id, "engine": engine.name, "provider": engine.provider}
    found = {**setting, **parity.to_dict()}
    gate = write_gate(exported, engine.precision, "parity", passed, figures, found)
    report = replace_json(exported.path / REPORT, {"bundle_hash": exported.hash, "passed": passed, **found})
    parts = [
        ("base", parity.base, None),
        *(
            (f"adapter {place}", part, moved)
            for place, (part, moved) in enumerate(zip(parity.adapters, parity.moved, strict=True), 1)
        ),
    ]
    rows = [(name, moved, part.cos_mean, part.cos_min, part.mean_abs, part.max_abs) for name, part, moved in parts]
    if (held := parity.committed) is not None:
        rows.append(("with committed actions", None, held.cos_mean, held.cos_min, held.mean_abs, held.max_abs))
    rows.append(("all", None, whole.cos_mean, whole.cos_min, whole.mean_abs, whole.max_abs))
    rows.append(("at least", None, least_mean, least_worst, None, None))
    title = f"{exported.id} in {engine.precision} beside {made_from.id} in fp32, {len(observations)} observations"
    table(title, ("", "moves actions by", "cosine, mean", "worst", "difference, mean", "largest"), rows)
    worst = min(range(len(whole.cos_by_dim)), key=lambda place: whole.cos_by_dim[place])
    console.print(
        f"worst dimension {worst}: cosine {whole.cos_by_dim[worst]:.6f}; worst observation {parity.base.worst}"
    )
    console.print(f"{'passed' if passed else 'FAILED'}: {report}", highlight=False, markup=False, soft_wrap=True)
    about = {"bundle": exported.id, "hash": exported.hash, "precision": engine.precision, "episodes": str(episodes)}
    write_json(json, {**about, **found, "passed": passed, "gate": gate, "report": report})
    if not passed:
        raise typer.Exit(3)
