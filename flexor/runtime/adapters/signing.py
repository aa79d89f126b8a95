"""Signing: ed25519 keys on disk, and the signature of a manifest, which names every byte of an adapter.

A private key is a PEM file (PKCS 8, not encrypted, mode 0600). A public key is a PEM file too; a server trusts all
`*.pub.pem` of one folder. A key's id is the first 16 hex digits of the sha256 of its 32 public bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from flexor.errors import FlexorError
from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.manifest import SIGNATURE
from flexor.runtime.disk import sync

PUBLIC_END = ".pub.pem"
MAX_SIGNATURE_BYTES = 4096


class KeyFileError(FlexorError):
    """A key file that cannot be read, written or used."""


def make_key(path: Path) -> tuple[Path, str]:
    """Make a private key at `path`, which must be new, and its public key beside it; that one's path, and the key's id.

    Raises:
        KeyFileError: one of the files is there already or cannot be written.
    """
    public = path.with_name(path.name.removesuffix(".pem") + PUBLIC_END)
    key = Ed25519PrivateKey.generate()
    shown = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    hidden = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for file, content, mode in ((path, hidden, 0o600), (public, shown, 0o644)):
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
    except OSError as error:
        raise KeyFileError(
            f"{error.filename or path} cannot be written ({error.strerror}); choose another file"
        ) from error
    return public, key_id(key.public_key())


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a PEM file.

    Raises:
        KeyFileError: it cannot be read, is encrypted, or is of another kind.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(
            f"{path} is no private key that can be read ({error}); make one: flexor adapter sign --new-key"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(
            f"{path} is a key of another kind; expected ed25519: flexor adapter sign --new-key makes one"
        )
    return key


def read_trusted_keys(folder: Path) -> dict[str, Ed25519PublicKey]:
    """The public keys in a folder by their id.

    Raises:
        KeyFileError: there is none, or one cannot be read: a server that should check signatures must not go without.
    """
    keys = {}
    for path in sorted(folder.glob(f"*{PUBLIC_END}")):
        try:
            key = load_pem_public_key(path.read_bytes())
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            raise KeyFileError(
                f"{path} is no public key that can be read ({error}); remove it, or copy it anew"
            ) from error
        if not isinstance(key, Ed25519PublicKey):
            raise KeyFileError(f"{path} is a key of another kind; expected ed25519")
        keys[key_id(key)] = key
    if not keys:
        raise KeyFileError(f"{folder} holds no *{PUBLIC_END}; put the learner's public key there, or configure no keys")
    return keys


def key_id(key: Ed25519PublicKey) -> str:
    """What a key is called."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def signature_bytes(manifest: bytes, key: Ed25519PrivateKey) -> bytes:
    """The content of manifest.sig."""
    signed = {"key": key_id(key.public_key()), "ed25519": key.sign(manifest).hex()}
    return (json.dumps(signed) + "\n").encode()


def sign_folder(folder: Path, manifest: bytes, key: Ed25519PrivateKey) -> None:
    """Put the signature of an adapter into its folder, in one step; one that was there is replaced.

    Raises:
        KeyFileError: it cannot be written.
    """
    draft = folder.with_name(f".{folder.name}.sig-{os.getpid()}")
    try:
        draft.write_bytes(signature_bytes(manifest, key))
        sync(draft)
        draft.replace(folder / SIGNATURE)
        sync(folder)
    except OSError as error:
        raise KeyFileError(
            f"{folder / SIGNATURE} cannot be written ({error.strerror}); copy the adapter to where you may"
        ) from error


def check_signature(manifest: bytes, signature: bytes | None, keys: Mapping[str, Ed25519PublicKey], where: str) -> str:
    """The id of the trusted key that signed a manifest.

    Raises:
        AdapterError: unsigned: no signature, or by a key that is not trusted; altered: it does not fit the manifest.
    """
    trusted = ", ".join(keys)
    if signature is None:
        raise AdapterError(
            "unsigned", f"{where} has no signature; sign it with one of the keys {trusted}: flexor adapter sign"
        )
    try:
        found = json.loads(signature)
        name, bytes_ = found["key"], bytes.fromhex(found["ed25519"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AdapterError("unsigned", f"the signature of {where} cannot be read ({error!r}); sign it again") from error
    if name not in keys:
        raise AdapterError(
            "unsigned",
            f"{where} is signed by the key {str(name)[:40]!r}; trusted are {trusted}: sign it with one of them",
        )
    try:
        keys[name].verify(bytes_, manifest)
    except InvalidSignature as error:
        raise AdapterError(
            "altered", f"the signature of {where} by {name} does not fit its manifest; write it again"
        ) from error
    return name
