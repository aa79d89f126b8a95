"""`flexor download`: bring a published checkpoint over, whole and verified."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile


def download(
    spec: Annotated[
        str | None,
        typer.Argument(
            metavar="SPEC",
            help="hf:REPO[@REV], gs://BUCKET/PATH, or a known name. Without it the known names are listed.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder that the files go to.")] = None,
    include: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Only files whose path matches; may be given repeatedly.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Not files whose path matches; may be given repeatedly.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the files and their sizes.")] = False,
    timeout: Annotated[float, typer.Option(metavar="S", help="Longest wait for an answer or its next bytes, s.")] = 30,
    tries: Annotated[int, typer.Option(metavar="N", help="Failures in a row after which it gives up.")] = 6,
    json: JsonFile = None,
) -> None:
    """Bring a checkpoint over from the Hugging Face hub or a public bucket, and verify every file of it.

    Stopped or killed, the same command goes on where it was. HF_TOKEN opens gated repositories; HF_ENDPOINT and
    STORAGE_EMULATOR_HOST name other servers.

    Example: flexor download lerobot/pi05_libero_finetuned --out checkpoints/pi05_libero_finetuned
    """
    from flexor.cli.progress import Progress
    from flexor.cli.report import console, table, write_json
    from flexor.export.download.catalog import CATALOG
    from flexor.export.download.download import Download
    from flexor.export.download.web import Patience

    if spec is None:
        for known in CATALOG.values():
            size = f"{_size(known.size_gb * 1e9)}, " if known.size_gb else ""
            console.print(
                f"[bold]{known.name}[/bold]   {size}{known.spec}\n  {known.what}\n  license: {known.license}\n"
                f"  then: {known.next_command('DIR')}",
                highlight=False,
                soft_wrap=True,
            )
        console.print("\nflexor download NAME --out DIR")
        write_json(json, {"known": [asdict(known) for known in CATALOG.values()]})
        return
    if out is None and not dry_run:
        raise typer.BadParameter("give the folder that the files go to", param_hint="--out")
    wanted = Download(spec, tuple(include or ()), tuple(exclude or ()), Patience(timeout, tries))
    if dry_run or out is None:
        outcome = wanted.look(out)
    else:
        with Progress() as progress:

            def told(what: str, done: int, total: int) -> None:
                progress.update(spec, done, max(total, 1), f"{_size(done)} of {_size(total)}  {what}")

            outcome = wanted.run(out, told)
    listing = outcome.listing
    table(
        f"{listing.source} at {listing.revision[:12]}",
        ("file", "bytes", "digest", "state"),
        [(file.path, file.size, file.digest, file.state) for file in outcome.files],
    )
    console.print(
        f"files: {len(outcome.files)}   bytes: {listing.size}   received: {outcome.received_bytes}   "
        f"tried again: {outcome.retries}"
    )
    if not dry_run:
        console.print(f"next: {wanted.next_command(str(out))}", highlight=False, soft_wrap=True)
    write_json(
        json,
        {
            "spec": spec,
            "source": listing.source,
            "revision": listing.revision,
            "out": out and str(out),
            "dry_run": dry_run,
            "files": [asdict(file) for file in outcome.files],
            "bytes": listing.size,
            "received_bytes": outcome.received_bytes,
            "retries": outcome.retries,
            "seconds": outcome.seconds,
            "next": wanted.next_command(str(out or "DIR")),
        },
    )


def _size(count: float) -> str:
    """Bytes as people read them."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"
