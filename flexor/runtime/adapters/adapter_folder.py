"""AdapterFolder: the files of one adapter, each read once, so that what was checked is what is used."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.manifest import MANIFEST, MAX_MANIFEST_BYTES, SIGNATURE, Manifest, split_id
from flexor.runtime.adapters.peft_files import CONFIG, MAX_CONFIG_BYTES, MODEL
from flexor.runtime.adapters.signing import MAX_SIGNATURE_BYTES

PICKLED_ENDS = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".py")
PICKLED_STARTS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
"""Of a pickle, and of the zip archive that torch.save writes."""


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """What a folder holds, in memory.

    Attributes:
        id: its name, VERSION-HASH.
        manifest: its manifest.json, understood; raw_manifest: its bytes; sha256: their hash in hex.
        files: the content of the files that the manifest names.
        signature: the content of manifest.sig, None where there is none.
    """

    id: str
    manifest: Manifest
    raw_manifest: bytes
    sha256: str
    files: Mapping[str, bytes]
    signature: bytes | None

    @classmethod
    def read(cls, path: Path, max_model_bytes: int) -> AdapterFolder:
        """Read a folder and check every byte of it against its manifest, and that against the folder's name.

        Args:
            max_model_bytes: the largest adapter_model.safetensors that is read at all.

        Raises:
            AdapterError: unknown, torn, pickled, oversized or altered.
        """
        named = split_id(path.name)
        if named is None:
            raise AdapterError("unknown", f"{path.name!r} is no name of an adapter; expected VERSION-HASH, see list")
        limits = {
            CONFIG: MAX_CONFIG_BYTES,
            MODEL: max_model_bytes,
            MANIFEST: MAX_MANIFEST_BYTES,
            SIGNATURE: MAX_SIGNATURE_BYTES,
        }
        _check_names(path, limits)
        raw = {
            name: _read(path / name, limit)
            for name, limit in limits.items()
            if name != SIGNATURE or (path / name).exists()
        }
        manifest = Manifest.from_bytes(raw[MANIFEST], str(path / MANIFEST))
        digest = hashlib.sha256(raw[MANIFEST]).hexdigest()
        if (manifest.version, digest[:12]) != named:
            raise AdapterError(
                "altered",
                f"{path / MANIFEST} is of {manifest.version}-{digest[:12]}; the folder's name says {path.name}: copy"
                " the adapter again",
            )
        for name in (CONFIG, MODEL):
            _check_content(path / name, raw[name], manifest)
        if extra := sorted(set(manifest.files) - {CONFIG, MODEL}):
            raise AdapterError("altered", f"{path / MANIFEST} names {extra[0]!r}; an adapter has {CONFIG} and {MODEL}")
        files = {name: raw[name] for name in (CONFIG, MODEL)}
        return cls(path.name, manifest, raw[MANIFEST], digest, files, raw.get(SIGNATURE))

    def check_unchanged(self, path: Path) -> None:
        """Whether the folder still holds what was read from it.

        Raises:
            AdapterError: changed.
        """
        try:
            now = AdapterFolder.read(path, len(self.files[MODEL]))
        except AdapterError as error:
            raise AdapterError("changed", f"{path} changed after it was announced: {error}") from error
        if now.raw_manifest != self.raw_manifest:
            raise AdapterError("changed", f"{path} changed after it was announced; write each adapter once")


def _check_names(path: Path, known: Mapping[str, int]) -> None:
    """Only plain files of known names, the pickled ones told first: they are what plain PEFT would load instead."""
    if path.is_symlink() or not path.is_dir():
        raise AdapterError("unknown", f"{path} is no folder; expected one beside the other adapters")
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except OSError as error:
        raise AdapterError("torn", f"{path} cannot be read ({error.strerror}); write the adapter again") from error
    for name in names:
        if name.endswith(PICKLED_ENDS):
            raise AdapterError(
                "pickled", f"{path / name} can run code when it is loaded; save as safetensors and remove it"
            )
    for name in names:
        if name not in known:
            raise AdapterError(
                "altered", f"{path / name} is no file of an adapter; expected {', '.join(known)}: remove it"
            )


def _read(path: Path, limit: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise AdapterError("altered", f"{path} is no plain file; write the adapter again")
            if found.st_size > limit:
                raise AdapterError(
                    "oversized", f"{path} has {found.st_size} bytes; at most {limit} are read: write a smaller rank"
                )
            return stream.read(limit + 1)[:limit]
    except OSError as error:
        raise AdapterError("torn", f"{path} cannot be read ({error.strerror}); write the adapter again") from error


def _check_content(path: Path, raw: bytes, manifest: Manifest) -> None:
    if path.name == MODEL and raw.startswith(PICKLED_STARTS):
        raise AdapterError("pickled", f"{path} is a pickle under another name; save as safetensors")
    entry = manifest.files.get(path.name)
    if entry is None:
        raise AdapterError("altered", f"{path.name} is not in the manifest of {path.parent}; write the adapter again")
    if len(raw) < entry.size:
        raise AdapterError(
            "torn", f"{path} has {len(raw)} bytes; its manifest says {entry.size}: write the adapter again"
        )
    found = hashlib.sha256(raw).hexdigest()
    if len(raw) != entry.size or found != entry.sha256:
        raise AdapterError(
            "altered", f"the sha256 of {path} is {found}; its manifest says {entry.sha256}: copy the adapter again"
        )
