"""Manifest: what manifest.json says about an adapter; its own hash names the adapter."""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_schema import AdapterSchema

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
SCHEMA_VERSION = 1
MAX_MANIFEST_BYTES = 4 * 2**20
BASE = "base"
"""The id of no adapter: the bundle's own weights."""

_ID = re.compile(r"([1-9][0-9]{0,17})-([0-9a-f]{12})")
_CONFIG = ConfigDict(frozen=True, extra="forbid", strict=True)
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(BaseModel):
    """One file of the folder: its sha256 in hex, and its size in bytes."""

    model_config = _CONFIG

    sha256: Sha256
    size: int = Field(ge=1)


class TensorEntry(BaseModel):
    """One tensor of adapter_model.safetensors."""

    model_config = _CONFIG

    shape: tuple[int, int] = Field(strict=False)
    dtype: Literal["float32"]


class Manifest(BaseModel):
    """Attributes:
    schema_version: of this format.
    version: goes up with every adapter of a deployment; an older one is never taken again.
    files: every other file of the folder but the signature, by name.
    tensors: every tensor, by its name in PEFT.
    base: hash of the bundle that it was trained on.
    adapter_schema: rank, alpha, targets; adapter_schema_hash: their hash.
    norm_stats: sha256 of that bundle's statistics.
    parent: id of the adapter that training began with, `base` for none.
    episodes: ids of the episodes that it learned from.
    seed: of the training.
    metrics: figures of the training, finite.
    calibration: of the scores that it gives, where there is one.
    created_at: ISO 8601, with its offset.
    signer: id of the key that signed it when it was written; None for none.
    """

    model_config = _CONFIG

    schema_version: Literal[1]
    version: int = Field(ge=1, lt=10**18)
    files: dict[str, FileEntry]
    tensors: dict[str, TensorEntry]
    base: Sha256
    adapter_schema: AdapterSchema
    adapter_schema_hash: Sha256
    norm_stats: Sha256
    parent: str
    episodes: tuple[str, ...] = Field(strict=False)
    seed: int = Field(ge=0)
    metrics: dict[str, float]
    calibration: dict[str, Any] | None
    created_at: str
    signer: str | None

    @field_validator("parent")
    @classmethod
    def _is_id(cls, parent: str) -> str:
        if parent != BASE and not _ID.fullmatch(parent):
            raise ValueError(f"expected {BASE} or VERSION-HASH")
        return parent

    @field_validator("metrics")
    @classmethod
    def _is_finite(cls, metrics: dict[str, float]) -> dict[str, float]:
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise ValueError(f"{name} is {value}; expected a finite number")
        return metrics

    def to_bytes(self) -> bytes:
        """The bytes of manifest.json."""
        return (json.dumps(self.model_dump(mode="json"), indent=1, allow_nan=False) + "\n").encode()

    @classmethod
    def from_bytes(cls, raw: bytes, where: str) -> Manifest:
        """Read the bytes of `where`.

        Raises:
            AdapterError: torn: not JSON, or keys and values that no manifest has.
        """
        try:
            return cls.model_validate(json.loads(raw))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "it"
            found = repr(first["input"])
            raise AdapterError(
                "torn",
                f"{where}: {key} is {found if len(found) <= 60 else found[:57] + '...'}: {first['msg']}; write the"
                " adapter again",
            ) from error
        except (ValueError, RecursionError) as error:
            raise AdapterError("torn", f"{where} is not JSON ({error}); write the adapter again") from error


def adapter_id(version: int, manifest: bytes) -> str:
    """The name of an adapter and of its folder: its version, and the first 12 hex digits of its manifest's sha256."""
    return f"{version}-{hashlib.sha256(manifest).hexdigest()[:12]}"


def split_id(name: str) -> tuple[int, str] | None:
    """Version and 12 hex digits of an adapter's id; None for any other name, so for every path that leads elsewhere."""
    found = _ID.fullmatch(name)
    return (int(found[1]), found[2]) if found else None
