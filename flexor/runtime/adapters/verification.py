"""Verification: whether a folder is an adapter that this server may try, each refusal with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from flexor.pi05.lora import pack
from flexor.pi05.lora_targets import ALL_PAIRS, target_sizes
from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_folder import AdapterFolder
from flexor.runtime.adapters.adapter_schema import AdapterSchema
from flexor.runtime.adapters.base_weights import BaseWeights
from flexor.runtime.adapters.peft_files import CONFIG, MODEL, factors_of, read_config, read_model
from flexor.runtime.adapters.signing import check_signature
from flexor.runtime.inference.bundle import NORM_STATS, Bundle, file_sha256

HEADER_BYTES_A_TENSOR = 256
MAX_CHANGE = 0.5
"""Of a weight, beside its own norm. LoRA of rank 8 changes weights by a few per cent."""


@dataclass(frozen=True, slots=True)
class VerifiedAdapter:
    """An adapter that may be tried.

    Attributes:
        folder: what was read.
        packed: for `Engine.load_slot`, float32, alpha / r folded in.
        changes: norm of the change beside that of the weight, by projection.
        signed_by: id of the key; None where no keys are configured.
    """

    folder: AdapterFolder
    packed: Mapping[str, NDArray[np.float32]]
    changes: Mapping[str, float]
    signed_by: str | None

    @property
    def hashes(self) -> dict[str, Any]:
        """What a Record remembers it by."""
        return {"sha256": self.folder.sha256, "model_sha256": self.folder.manifest.files[MODEL].sha256}


@dataclass(frozen=True, slots=True)
class Verifier:
    """What the adapters of one server have to fit.

    Attributes:
        bundle: that is served.
        schema: that all adapters have.
        weights: of the bundle.
        keys: public keys, one of which must have signed; none takes unsigned adapters.
        max_change: of a weight, beside its own norm.
    """

    bundle: Bundle
    schema: AdapterSchema
    weights: BaseWeights
    keys: Mapping[str, Ed25519PublicKey] = field(default_factory=dict)
    max_change: float = MAX_CHANGE

    @property
    def base(self) -> str:
        """The hash that adapters name: of the bundle, or of the one that its graphs were exported from."""
        graphs = self.bundle.config.graphs
        return self.bundle.hash if graphs is None else graphs.source

    @property
    def max_model_bytes(self) -> int:
        """The largest adapter_model.safetensors of this schema."""
        known = target_sizes(self.bundle.model_config, ALL_PAIRS)
        sizes = {name: known[name] for name in self.schema.targets if name in known}
        numbers = sum(self.schema.rank * (inputs + outputs) for inputs, outputs in sizes.values())
        return 4 * numbers + 2 * len(sizes) * HEADER_BYTES_A_TENSOR + 4096

    def verify(self, path: Path) -> VerifiedAdapter:
        """Read and check a folder: its bytes, who signed them, what they are for, and the numbers themselves.

        Raises:
            AdapterError: any reason that concerns the folder alone.
        """
        folder = AdapterFolder.read(path, self.max_model_bytes)
        manifest = folder.manifest
        signed_by = check_signature(folder.raw_manifest, folder.signature, self.keys, folder.id) if self.keys else None
        if signed_by and manifest.signer not in (None, signed_by):
            raise AdapterError("altered", f"{folder.id} says that {manifest.signer} signed it; {signed_by} did")
        if manifest.base != self.base:
            raise AdapterError(
                "wrong_base",
                f"{folder.id} was trained on the bundle {manifest.base[:12]}; served is {self.base[:12]}: train it on"
                " that",
            )
        if manifest.norm_stats != (mine := file_sha256(self.bundle.path / NORM_STATS)):
            raise AdapterError(
                "wrong_statistics",
                f"{folder.id} was trained with the statistics {manifest.norm_stats[:12]}; served are {mine[:12]}: train"
                f" it on {self.bundle.id}",
            )
        self._check_schema(folder)
        tensors = read_model(folder.files[MODEL], f"{folder.id}/{MODEL}")
        self._check_tensors(folder, tensors)
        factors = factors_of(tensors, f"{folder.id}/{MODEL}")
        try:
            packed = pack(self.bundle.model_config, factors, self.schema.scale, self.schema.rank)
        except ValueError as error:
            raise AdapterError("wrong_schema", f"{folder.id}: {error}") from error
        if tuple(sorted(factors)) != manifest.adapter_schema.targets:
            raise AdapterError(
                "wrong_schema", f"{folder.id}: its tensors are not of the targets that its manifest names"
            )
        changes = self.weights.changes(factors, self.schema.scale)
        worst = max(changes, key=lambda name: changes[name])
        if not changes[worst] <= self.max_change:
            raise AdapterError(
                "oversized",
                f"{folder.id} changes {worst} by {changes[worst]:.3g} of its norm; at most {self.max_change:g} is"
                " taken: train with a lower rate or for fewer steps",
            )
        return VerifiedAdapter(folder, packed, changes, signed_by)

    def _check_schema(self, folder: AdapterFolder) -> None:
        manifest = folder.manifest
        if difference := self.schema.difference(manifest.adapter_schema):
            raise AdapterError("wrong_schema", f"{folder.id}: {difference}; train it so, or serve with other settings")
        if manifest.adapter_schema_hash != manifest.adapter_schema.hash:
            raise AdapterError(
                "wrong_schema", f"{folder.id}: the hash of its schema is not that of its rank and targets"
            )
        rank, alpha = read_config(folder.files[CONFIG], f"{folder.id}/{CONFIG}")
        if (rank, alpha) != (self.schema.rank, self.schema.alpha):
            raise AdapterError(
                "wrong_schema",
                f"{folder.id}/{CONFIG} says rank {rank} and alpha {alpha:g}; its manifest says {self.schema.rank} and"
                f" {self.schema.alpha:g}",
            )

    def _check_tensors(self, folder: AdapterFolder, tensors: Mapping[str, NDArray[np.generic]]) -> None:
        table = folder.manifest.tensors
        if set(table) != set(tensors):
            other = sorted(set(table) ^ set(tensors))[0]
            raise AdapterError("wrong_schema", f"{folder.id}: {other} is in one of manifest and file alone")
        for name, tensor in tensors.items():
            if tensor.dtype != np.float32 or tensor.shape != table[name].shape:
                raise AdapterError(
                    "wrong_schema",
                    f"{folder.id}: {name} is {tensor.dtype} {list(tensor.shape)}; its manifest says float32"
                    f" {list(table[name].shape)}",
                )
            if not np.isfinite(tensor).all():
                where = np.argwhere(~np.isfinite(tensor))[0]
                raise AdapterError(
                    "not_finite", f"{folder.id}: {name} is {tensor[tuple(where)]} at {where.tolist()}; train it again"
                )
            if name.endswith("lora_A.weight") and len(tensor) != self.schema.rank:
                raise AdapterError(
                    "wrong_schema", f"{folder.id}: {name} has rank {len(tensor)}; expected {self.schema.rank}"
                )
