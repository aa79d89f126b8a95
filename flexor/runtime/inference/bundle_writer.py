"""write_bundle: a bundle appears under its path whole and durable, or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from flexor.pi05.normalize import NormStats
from flexor.runtime.disk import sync
from flexor.runtime.inference.bundle import BUNDLE_JSON, NORM_STATS, TOKENIZER, WEIGHTS, Bundle, file_sha256, manifest
from flexor.runtime.inference.bundle_config import BundleConfig, BundleError

Weights = Mapping[str, np.ndarray] | Callable[[Path], None]


def write_bundle(
    path: str | Path,
    *,
    config: BundleConfig,
    weights: Weights | None = None,
    tokenizer_json: str,
    norm_stats: Mapping[str, NormStats],
    graphs: Callable[[Path], None] | None = None,
    replace: bool = False,
) -> Bundle:
    """Write a bundle into a temporary folder beside `path`, sync it to disk, verify it, and rename it into place.

    Args:
        path: folder to become the bundle; its parent is made when missing.
        config: everything that bundle.json says but the file hashes.
        weights: tensors by name, or a function that writes the safetensors file it is given (for dtypes that numpy
            does not have); None where the bundle holds graphs.
        tokenizer_json: content of tokenizer.json.
        norm_stats: statistics of "state" [S] and "actions" [A].
        graphs: writes the files that config.graphs names, and perhaps more, into the folder it is given.
        replace: whether a bundle that already lies there gives way.

    Returns:
        The bundle, opened again from disk.

    Raises:
        BundleError: `path` exists and replace is false or it is no bundle, or what was written does not open.
    """
    path = Path(path)
    if path.exists() and not (replace and (path / BUNDLE_JSON).is_file()):
        raise BundleError(f"{path} already exists; choose another folder, or remove that one first")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        if graphs is not None:
            graphs(temporary)
        elif callable(weights):
            weights(temporary / WEIGHTS)
        elif weights is not None:
            tensors = {name: np.ascontiguousarray(tensor) for name, tensor in weights.items()}
            save_file(tensors, str(temporary / WEIGHTS))
        (temporary / TOKENIZER).write_text(tokenizer_json, encoding="utf-8")
        stats = {key: value.to_dict() for key, value in norm_stats.items()}
        (temporary / NORM_STATS).write_text(json.dumps(stats, indent=2) + "\n", encoding="utf-8")
        ours = [name for name in (WEIGHTS, TOKENIZER, NORM_STATS) if (temporary / name).exists()]
        more = sorted(file.name for file in temporary.iterdir() if file.name not in ours)
        hashes = {name: file_sha256(temporary / name) for name in (*more, *ours)}
        (temporary / BUNDLE_JSON).write_bytes(manifest(config, hashes))
        written = Bundle.open(temporary)
        written.tokenizer()
        written.normalizers()
        temporary.chmod(0o755)
        for name in (*hashes, BUNDLE_JSON):
            (temporary / name).chmod(0o644)
            sync(temporary / name)
        sync(temporary)
        _move_into_place(temporary, path)
        sync(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Bundle(path, written.hash, config)


def _move_into_place(temporary: Path, path: Path) -> None:
    if not path.exists():
        temporary.rename(path)
        return
    # A folder cannot be renamed onto a full one: the old bundle steps aside first and is removed last.
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.parent))
    path.rename(aside / path.name)
    temporary.rename(path)
    shutil.rmtree(aside)
