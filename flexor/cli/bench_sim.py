"""`flexor bench sim`: control steps a second of a simulator."""

from __future__ import annotations

from typing import Annotated

import typer

from flexor.cli.report import JsonFile


def sim(
    sim: Annotated[str, typer.Option(help="Simulator: tabletop, or a suite of LIBERO.")] = "libero_spatial",
    steps: Annotated[int, typer.Option(min=1, help="Control steps that are timed, in each process.")] = 200,
    workers: Annotated[int, typer.Option(min=1, help="Up to so many processes at once.")] = 2,
    every: Annotated[int, typer.Option(min=1, help="Control steps from one pair of frames to the next.")] = 5,
    json: JsonFile = None,
) -> None:
    """Time a simulator's control steps, without frames and with both cameras drawn as an evaluation does.

    Example: flexor bench sim --sim libero_spatial --json sim.json
    """
    import os
    from dataclasses import asdict

    from flexor.cli.progress import Progress
    from flexor.cli.report import table, write_json
    from flexor.sim.robots import EMBEDDED, LIBERO, sim_robot
    from flexor.sim.sim_speed import measure

    sim_robot(sim, (*EMBEDDED, *LIBERO))
    load = os.getloadavg()[0]
    rows = []
    with Progress() as progress:
        for speed in measure(sim, steps, workers, every):
            rows.append(asdict(speed))
            progress.update(f"timing {sim}", len(rows), workers * (3 if sim in LIBERO else 2), "")
    title = f"control steps of {sim}, load average before {load:.2f}"
    table(title, tuple(rows[0]), [tuple(row.values()) for row in rows])
    write_json(json, {"sim": sim, "steps": steps, "load_average": load, "rows": rows})
