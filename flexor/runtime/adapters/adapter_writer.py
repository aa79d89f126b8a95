"""write_adapter: an adapter appears in its directory whole and durable, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flexor.pi05.lora import Factors, pack
from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_schema import AdapterSchema
from flexor.runtime.adapters.manifest import (
    BASE,
    MANIFEST,
    SIGNATURE,
    FileEntry,
    Manifest,
    TensorEntry,
    adapter_id,
    split_id,
)
from flexor.runtime.adapters.peft_files import CONFIG, ENDS, MODEL, PREFIX, config_bytes, model_bytes
from flexor.runtime.adapters.signing import key_id, signature_bytes
from flexor.runtime.adapters.store_state import StoreState
from flexor.runtime.draft_folder import draft_folder
from flexor.runtime.inference.bundle import NORM_STATS, Bundle, file_sha256


def write_adapter(
    root: str | Path,
    factors: Factors,
    bundle: Bundle,
    *,
    rank: int,
    alpha: float,
    parent: str = BASE,
    episodes: Sequence[str] = (),
    seed: int = 0,
    metrics: Mapping[str, float] | None = None,
    calibration: Mapping[str, Any] | None = None,
    version: int | None = None,
    created_at: datetime | None = None,
    key: Ed25519PrivateKey | None = None,
) -> Path:
    """Write an adapter's files into a folder of another name, force them to disk, and rename it.

    A process that is killed leaves the whole adapter or none; what it left unfinished, `sweep_drafts` removes.

    Args:
        root: the directory of adapters; made when missing.
        factors: A [r, in] and B [out, r], any float dtype, by the projection's name in `Pi05`
            (`flexor.pi05.lora_targets.target_sizes`); alpha / r is not in them.
        bundle: that it was trained on.
        rank: r.
        alpha: the change is (alpha / r) B A.
        parent: id of the adapter that training began with.
        episodes: ids of the episodes that it learned from.
        seed: of the training.
        metrics: figures of the training.
        calibration: of its scores, plain values.
        version: above that of every adapter that is or was there; None takes the next one.
        created_at: now when None.
        key: signs it; None leaves it unsigned.

    Returns:
        The folder, `root/VERSION-HASH`.

    Raises:
        AdapterError: wrong_schema: factors that are not of this model and rank; not_finite.
        OSError: the disk refuses.
    """
    root = Path(root)
    _check(factors, bundle, rank)
    root.mkdir(parents=True, exist_ok=True)
    schema = AdapterSchema(rank=rank, alpha=float(alpha), targets=tuple(sorted(factors)))
    files = {CONFIG: config_bytes(schema, bundle.id), MODEL: model_bytes(factors)}
    manifest = Manifest(
        schema_version=1,
        version=next_version(root) if version is None else version,
        files={name: FileEntry(sha256=hashlib.sha256(raw).hexdigest(), size=len(raw)) for name, raw in files.items()},
        tensors={
            f"{PREFIX}{name}{end}": TensorEntry(shape=factor.shape, dtype="float32")
            for name, pair in sorted(factors.items())
            for end, factor in zip(ENDS, pair, strict=True)
        },
        base=bundle.hash,
        adapter_schema=schema,
        adapter_schema_hash=schema.hash,
        norm_stats=file_sha256(bundle.path / NORM_STATS),
        parent=parent,
        episodes=tuple(episodes),
        seed=seed,
        metrics={name: float(value) for name, value in (metrics or {}).items()},
        calibration=None if calibration is None else dict(calibration),
        created_at=(created_at or datetime.now(UTC)).isoformat(timespec="seconds"),
        signer=None if key is None else key_id(key.public_key()),
    ).to_bytes()
    files[MANIFEST] = manifest
    if key is not None:
        files[SIGNATURE] = signature_bytes(manifest, key)
    version = Manifest.from_bytes(manifest, MANIFEST).version
    path = root / adapter_id(version, manifest)
    with draft_folder(path) as draft:
        for name, raw in files.items():
            (draft / name).write_bytes(raw)
            (draft / name).chmod(0o644)
    return path


def next_version(root: Path) -> int:
    """One more than the highest version of an adapter in a directory, and than the highest that its server has seen."""
    known = [found[0] for entry in root.iterdir() if (found := split_id(entry.name))]
    with contextlib.suppress(AdapterError):  # a memory that cannot be read: its server looks at folders alone then, too
        known.append(StoreState.read(root).seen)  # what was removed or pruned is seen, and would be `replayed`
    return 1 + max(known, default=0)


def _check(factors: Factors, bundle: Bundle, rank: int) -> None:
    for name, pair in factors.items():
        for factor, end in zip(pair, ENDS, strict=True):
            if not np.isfinite(factor).all():
                raise AdapterError("not_finite", f"{name}{end} is not finite; nothing was written: train it again")
        if pair[0].ndim != 2 or len(pair[0]) != rank:
            raise AdapterError("wrong_schema", f"A of {name} is {list(pair[0].shape)}; expected rank {rank}")
    try:
        pack(bundle.model_config, factors, 1.0, rank)
    except ValueError as error:
        raise AdapterError("wrong_schema", f"nothing was written: {error}") from error
