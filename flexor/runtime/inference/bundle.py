"""Bundle: a folder that can be served. Opening it checks every file against the hash in its bundle.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from flexor.pi05.config import Pi05Config
from flexor.pi05.lora_targets import ALL_PAIRS, PAIRS, Pairs
from flexor.pi05.normalize import Normalizer, NormStats
from flexor.pi05.prompt import Tokenizer
from flexor.runtime.inference.bundle_config import BundleConfig, BundleError, check_keys

BUNDLE_JSON = "bundle.json"
WEIGHTS = "weights.safetensors"
TOKENIZER = "tokenizer.json"
NORM_STATS = "norm_stats.json"
REQUIRED_FILES = (TOKENIZER, NORM_STATS)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle. Files that bundle.json does not list (gate reports) are left alone and never read here.

    Attributes:
        path: its folder.
        hash: sha256 of bundle.json in hex; bundle.json holds the hash of every other file, so this names them all.
        config: what bundle.json says.
    """

    path: Path
    hash: str
    config: BundleConfig

    @classmethod
    def open(cls, bundle: str | Path) -> Bundle:
        """Open a folder, or the bundle of that name that ships with flexor.

        Raises:
            BundleError: no such bundle, a file missing or altered, unknown or missing keys, an impossible setting.
        """
        path = find_bundle(bundle)
        try:
            raw = (path / BUNDLE_JSON).read_bytes()
            data = json.loads(raw)
        except OSError as error:
            raise BundleError(f"{path / BUNDLE_JSON} cannot be read ({error.strerror}); is {path} a bundle?") from error
        except ValueError as error:
            raise BundleError(f"{path / BUNDLE_JSON} is not JSON: {error}; write the bundle again") from error
        if not isinstance(data, dict) or not isinstance(data.get("files"), dict):
            raise BundleError(f"{path / BUNDLE_JSON}: expected an object with 'files': {{name: sha256}}")
        hashes: dict[str, Any] = data.pop("files")
        try:
            config = BundleConfig.from_dict(data)
        except BundleError as error:
            raise BundleError(f"{path / BUNDLE_JSON}: {error}") from error
        for name in (*(config.graphs.files if config.graphs else (WEIGHTS,)), *REQUIRED_FILES):
            if name not in hashes:
                raise BundleError(f"{path / BUNDLE_JSON}: 'files' does not list {name}; every such bundle has it")
        for name, expected in hashes.items():
            _verify(path, name, expected)
        return cls(path, hashlib.sha256(raw).hexdigest(), config)

    @property
    def id(self) -> str:
        """name@first 12 hex digits of the hash, for log lines."""
        return f"{self.config.name}@{self.hash[:12]}"

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self.config.name

    @property
    def model_config(self) -> Pi05Config:
        """Sizes of the network."""
        return self.config.model

    @property
    def cameras(self) -> tuple[str, ...]:
        """Camera names in the network's order."""
        return self.config.cameras

    @property
    def weights_path(self) -> Path:
        """The safetensors file, any float dtype; the engine casts. A bundle of exported graphs has none."""
        return self.path / WEIGHTS

    @property
    def adapter_pairs(self) -> Pairs:
        """What its adapters may change: into weights everything is merged, exported graphs take some of it."""
        return PAIRS if self.config.graphs else ALL_PAIRS

    @property
    def precision(self) -> str:
        """What it is computed in when nobody asks for another: that of its graphs, float32 for weights."""
        return self.config.graphs.precision if self.config.graphs else "fp32"

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, limited to the model's prompt length.

        Raises:
            BundleError: the file is no tokenizer, or one with more tokens than the model embeds.
        """
        try:
            tokenizer = Tokenizer.load(self.path / TOKENIZER, self.config.model.max_prompt_tokens)
        except ValueError as error:
            raise BundleError(f"{self.path / TOKENIZER}: {error}") from error
        if tokenizer.vocab_size > self.config.model.vocab_size:
            raise BundleError(
                f"{self.path / TOKENIZER} knows {tokenizer.vocab_size} tokens and the model embeds"
                f" {self.config.model.vocab_size}; write the bundle with the tokenizer it was trained with"
            )
        return tokenizer

    def normalizers(self) -> tuple[Normalizer, Normalizer]:
        """Normalisers of state [S] and actions [..., A].

        Raises:
            BundleError: the statistics are malformed, of the wrong length, or not those that the mode needs.
        """
        path = self.path / NORM_STATS
        try:
            data = json.loads(path.read_bytes())
            check_keys(NORM_STATS, data, ("state", "actions"))
            stats = {key: NormStats.from_dict(data[key]) for key in ("state", "actions")}
        except (ValueError, TypeError) as error:
            raise BundleError(f"{path}: {error}") from error
        for key, expected in (("state", self.config.state_dim), ("actions", self.config.action_dim)):
            if stats[key].dim != expected:
                raise BundleError(
                    f"{path}: statistics of {key} have {stats[key].dim} dimensions; bundle.json says {expected}"
                )
        config = self.config
        try:
            state = Normalizer(config.normalization, stats["state"], config.norm_epsilon)
            actions = Normalizer(config.normalization_of_actions, stats["actions"], config.norm_epsilon)
        except ValueError as error:
            raise BundleError(f"{path}: {error}; write the bundle with the statistics of its own training") from error
        return state, actions


def shipped_bundles() -> dict[str, Path]:
    """Folders of the bundles that ship with flexor, by name."""
    root = Path(str(files("flexor"))) / "bundles"
    return {entry.name: entry for entry in sorted(root.glob("*")) if (entry / BUNDLE_JSON).is_file()}


def find_bundle(bundle: str | Path) -> Path:
    """The folder meant by a path or by the name of a shipped bundle; a folder wins over a name.

    Raises:
        BundleError: there is neither.
    """
    path = Path(bundle)
    if path.is_dir():
        return path
    shipped = shipped_bundles()
    if str(bundle) in shipped:
        return shipped[str(bundle)]
    names = ", ".join(shipped) or "none"
    raise BundleError(f"no bundle {str(bundle)!r}: there is no such folder, and the bundles that ship are: {names}")


def file_sha256(path: Path) -> str:
    """sha256 of a file in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_file_name(name: object) -> None:
    """Refuse a listed file that would lie outside the bundle, or that is bundle.json itself.

    Raises:
        BundleError: names it.
    """
    if not isinstance(name, str) or not name or name == BUNDLE_JSON:
        raise BundleError(f"'files' lists {name!r}; expected the name of a file beside {BUNDLE_JSON}")
    if Path(name).is_absolute() or ".." in Path(name).parts or "\\" in name:
        raise BundleError(f"'files' lists {name!r}, which is outside the bundle; expected a plain relative name")


def _verify(path: Path, name: str, expected: object) -> None:
    check_file_name(name)
    try:
        found = file_sha256(path / name)
    except OSError as error:
        raise BundleError(
            f"{path / name} is listed in {BUNDLE_JSON} but cannot be read ({error.strerror}); restore the bundle"
        ) from error
    if found != expected:
        raise BundleError(
            f"{path / name} was altered: its sha256 is {found}, {BUNDLE_JSON} says {expected}; restore the bundle"
        )


def manifest(config: BundleConfig, hashes: Mapping[str, str]) -> bytes:
    """The bytes of bundle.json."""
    return (json.dumps({**config.to_dict(), "files": dict(hashes)}, indent=2) + "\n").encode()
