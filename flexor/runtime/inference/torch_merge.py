"""merge_adapter: the weights of a bundle with an adapter added, as a bundle of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from flexor.pi05.merged_weights import MergedWeights
from flexor.pi05.normalize import NormStats
from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_folder import AdapterFolder
from flexor.runtime.adapters.base_weights import BaseWeights
from flexor.runtime.adapters.verification import Verifier
from flexor.runtime.inference.bundle import NORM_STATS, TOKENIZER, Bundle
from flexor.runtime.inference.bundle_writer import write_bundle

MAX_BYTES = 2**31


def merge_adapter(bundle: Bundle, folder: Path, out: Path) -> Bundle:
    """Write W + (alpha / r) B A in the place of every W, in the dtype that it is stored in.

    Args:
        bundle: of weights, that the adapter was trained on.
        folder: of the adapter, of any rank.
        out: folder of the new bundle.

    Raises:
        AdapterError: it does not verify, whatever its schema, or the bundle holds graphs.
        BundleError: `out` is there already.
    """
    if bundle.config.graphs is not None:
        raise AdapterError(
            "wrong_base", f"{bundle.id} holds graphs; merge into the bundle that they were exported from"
        )
    schema = AdapterFolder.read(folder, MAX_BYTES).manifest.adapter_schema
    verified = Verifier(bundle, schema, BaseWeights(bundle), max_change=float("inf")).verify(folder)
    stored = load_file(bundle.weights_path)
    targets = schema.targets
    own = {name: stored[f"{name}.weight"] for name in targets}
    merged = MergedWeights(bundle.model_config, own, verified.packed, torch.device("cpu"))
    try:
        stored |= {f"{name}.weight": merged(name).to(stored[f"{name}.weight"].dtype).contiguous() for name in targets}
    except ValueError as error:
        raise AdapterError("not_finite", f"{folder.name}: {error}") from error
    stats = json.loads((bundle.path / NORM_STATS).read_bytes())
    origin = {**bundle.config.origin, "merged": verified.folder.id, "merged_into": bundle.hash}
    return write_bundle(
        out,
        config=replace(bundle.config, origin=origin),
        weights=lambda path: save_file(stored, path, {"format": "pt"}),
        tokenizer_json=(bundle.path / TOKENIZER).read_text(encoding="utf-8"),
        norm_stats={key: NormStats.from_dict(stats[key]) for key in ("state", "actions")},
    )
