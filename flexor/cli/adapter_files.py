"""`flexor adapter show|merge|sign`: what needs an adapter's files and no server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the adapter.")]
MAX_BYTES = 2**31


def show(folder: Folder, json: JsonFile = None) -> None:
    """Tell what an adapter says about itself, and what happened to it, after a check of every byte."""
    from flexor.cli.report import table, write_json
    from flexor.runtime.adapters.adapter_folder import AdapterFolder
    from flexor.runtime.adapters.audit_log import read_audit

    found = AdapterFolder.read(folder, MAX_BYTES)
    manifest = found.manifest
    told = manifest.model_dump(mode="json", exclude={"tensors", "files", "adapter_schema"})
    schema = manifest.adapter_schema
    told |= {
        "rank": schema.rank,
        "alpha": schema.alpha,
        "targets": len(schema.targets),
        "signed": bool(found.signature),
    }
    entries = [entry for entry in read_audit(folder.parent)[0] if entry.get("adapter") == found.id]
    shown = {**told, "episodes": len(manifest.episodes), "calibration": manifest.calibration is not None}
    table(f"adapter {found.id}", ("what", "value"), shown.items())
    if entries:
        rows = [(entry["at"], entry["event"], entry.get("reason"), entry.get("told")) for entry in entries]
        table("what happened to it", ("at", "event", "reason", "told"), rows)
    write_json(json, {"adapter": found.id, "sha256": found.sha256, **told, "audit": entries})


def merge(
    folder: Folder,
    bundle: Annotated[str, typer.Option(help="The bundle that it was trained on.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the new bundle.")],
    json: JsonFile = None,
) -> None:
    """Add an adapter to the weights of its bundle, and write them as a bundle of their own.

    For runtimes that carry no adapters. The result takes adapters that are trained on it, and none of the old bundle.
    """
    from flexor.cli.report import console, write_json
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.torch_merge import merge_adapter

    opened = Bundle.open(bundle)
    merged = merge_adapter(opened, folder, out)
    console.print(f"{merged.id} in {merged.path}", highlight=False, markup=False, soft_wrap=True)
    write_json(json, {"bundle": merged.id, "hash": merged.hash, "of": opened.id, "adapter": folder.name, "path": out})


def sign(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="Folder of the adapter.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Private key, PEM.")] = None,
    new_key: Annotated[
        Path | None, typer.Option("--new-key", metavar="FILE", help="Make a key, and its public one beside it.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Sign an adapter with an ed25519 key, or make one.

    A server that was started with --keys DIR takes only adapters that are signed by a key whose *.pub.pem lies there.
    """
    from flexor.cli.report import console, write_json
    from flexor.runtime.adapters.adapter_folder import AdapterFolder
    from flexor.runtime.adapters.signing import key_id, make_key, read_private_key, sign_folder

    if new_key is not None:
        if folder is not None or key is not None:
            raise typer.BadParameter("makes a key and signs nothing; sign afterwards", param_hint="--new-key")
        public, name = make_key(new_key)
        console.print(
            f"key {name}: {new_key} (keep it), {public} (give it to the server)", highlight=False, markup=False
        )
        write_json(json, {"key": name, "private": new_key, "public": public})
        return
    if folder is None or key is None:
        raise typer.BadParameter("give the folder of an adapter and --key FILE, or --new-key FILE", param_hint="DIR")
    private = read_private_key(key)
    found = AdapterFolder.read(folder, MAX_BYTES)
    sign_folder(folder, found.raw_manifest, private)
    name = key_id(private.public_key())
    console.print(f"{found.id} is signed by {name}", highlight=False, markup=False)
    write_json(json, {"adapter": found.id, "key": name})
