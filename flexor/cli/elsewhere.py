"""`flexor elsewhere`: what else could have been asked for in recorded scenes, and where that would be taken hold of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile


def elsewhere(
    data: Annotated[Path, typer.Option("--data", help="Folder of LIBERO demonstrations, as `flexor collect` makes.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    json_file: JsonFile = None,
) -> None:
    """Note beside LIBERO demonstrations where each other thing of their scenes would be taken hold of.

    `flexor pretrain` then asks the policy's eyes for the others too, which teaches it to heed the words. Scenes that
    are noted already are skipped; about half a second of one core for each of the rest.

    Example: flexor elsewhere --data data/libero
    """
    from flexor.cli.progress import Progress
    from flexor.cli.report import table, write_json
    from flexor.sim.libero.elsewhere import ELSEWHERE_FILE, note_elsewhere

    counted = [0]
    with Progress() as progress:

        def told(done: int, scenes: int) -> None:
            counted[0] = done
            progress.update(f"drawing the scenes of {data} again", done, scenes, f"{done} of {scenes}")

        noted = note_elsewhere(data, workers, told)
    scenes = sum(len(places) for places in noted.values())
    others = sum(len(place) for places in noted.values() for place in places.values())
    table("elsewhere", ("scenes", "of them now", "places"), [(scenes, counted[0], others)])
    write_json(json_file, {"file": data / ELSEWHERE_FILE, "scenes": scenes, "added": counted[0], "places": others})
