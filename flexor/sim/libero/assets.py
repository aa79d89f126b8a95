"""LIBERO's assets and packages: found, checked and made ready once a process, without a question on standard input.

Importing this file imports nothing of LIBERO; `prepare` does, and after it everything of `libero` can be imported.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flexor
from flexor.errors import FlexorError
from flexor.sim.libero.asset_tree import missing_parts, tree_hash, unpack
from flexor.sim.libero.packages import benchmark_folder, require_packages, silence_robosuite

VARIABLE = "FLEXOR_LIBERO_ASSETS"
HUB_REPOSITORY = "lerobot/libero-assets"  # where hf-libero downloads them from
STAND_INS = "STAND_INS.txt"
_BESIDE = Path("shared", "libero", "libero-assets.tar.xz")  # beside a checkout


class AssetsError(FlexorError):
    """The assets are not where they should be, are not whole, or cannot be fetched."""


@dataclass(frozen=True, slots=True)
class Assets:
    """The tree of meshes, textures and scenes that LIBERO's environments are built from.

    Attributes:
        folder: where it is.
        source: where it came from, in words.
        hash: sha256 over the paths and contents of its files.
        reduced: some visual files are stand-ins (STAND_INS.txt lists them): pictures differ from the benchmark's own,
            physics, tasks and success conditions do not.
    """

    folder: Path
    source: str
    hash: str
    reduced: bool

    def to_dict(self) -> dict[str, Any]:
        """What every result says of them."""
        return {"assets_hash": self.hash, "reduced_assets": self.reduced}


@dataclass(frozen=True, slots=True)
class Source:
    """Where the assets are taken from; `path` is a folder or a tar file, None when they have to be downloaded."""

    path: Path | None
    words: str


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """flexor's cache: `$XDG_CACHE_HOME/flexor`, or `~/.cache/flexor`."""
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "flexor"


def find_source(environ: Mapping[str, str] = os.environ) -> Source:
    """Where the assets would be taken from; nothing is unpacked or fetched.

    Raises:
        AssetsError: FLEXOR_LIBERO_ASSETS names nothing.
    """
    named = environ.get(VARIABLE)
    if named:
        path = Path(named).expanduser().resolve()
        if not path.exists():
            raise AssetsError(f"{VARIABLE} is {named!r}, which does not exist; expected a folder or a tar file of them")
        return Source(path, f"${VARIABLE}, {path}")
    beside = Path(flexor.__file__).resolve().parents[2] / _BESIDE
    if beside.exists():
        return Source(beside, str(beside))
    package = benchmark_folder()
    if package is not None and (package / "assets").is_dir():
        return Source(package / "assets", f"hf-libero's own, {package / 'assets'}")
    downloaded = _download_target(environ)
    if downloaded.is_dir():
        return Source(downloaded, f"downloaded from {HUB_REPOSITORY}, {downloaded}")
    return Source(None, f"a download from the Hugging Face hub, {HUB_REPOSITORY}")


def missing_here(environ: Mapping[str, str] = os.environ) -> str | None:
    """Why LIBERO cannot run here without a download, as a sentence; None when it can."""
    try:
        require_packages()
        if find_source(environ).path is None:
            return f"no LIBERO assets at hand: set {VARIABLE} to a folder or tar file of them"
    except FlexorError as error:
        return str(error)
    return None


def glance(environ: Mapping[str, str] = os.environ) -> str:
    """What is there, in words; nothing is unpacked or downloaded.

    Raises:
        AssetsError: nothing, or not whole.
    """
    source = find_source(environ)
    if source.path is None:
        raise AssetsError(f"none here: set {VARIABLE} to a folder or tar file of them, or they come as {source.words}")
    if not source.path.is_dir():
        return f"{source.words}, unpacked when first used"
    assets = locate(environ)
    return f"{assets.source}, {'reduced, ' if assets.reduced else ''}{assets.hash[:12]}"


def locate(environ: Mapping[str, str] = os.environ) -> Assets:
    """The assets, unpacked or downloaded into the cache where that is needed (once).

    Raises:
        AssetsError: nothing there, not whole, or the download failed.
    """
    source, cache = find_source(environ), cache_folder(environ) / "libero"
    try:
        if source.path is None:
            folder = _download(_download_target(environ))
        elif source.path.is_dir():
            folder = source.path
        else:
            folder = unpack(source.path, cache / "unpacked")
        folder = _root(folder)
        digest = tree_hash(folder, cache / "hashes")
    except OSError as error:
        raise AssetsError(f"LIBERO's assets from {source.words} cannot be read or unpacked: {error}") from error
    return Assets(folder, source.words, digest, (folder / STAND_INS).exists())


@functools.cache
def prepare() -> Assets:
    """Find the assets and tell LIBERO of them, before anything of it is imported; quick when called again.

    LIBERO asks on standard input and writes into the home folder when its own config file is missing: it gets one in
    flexor's cache.

    Raises:
        MissingPackages: what LIBERO needs is not installed.
        AssetsError: as `locate`.
    """
    require_packages()
    assets = locate()
    cache, package = cache_folder() / "libero", benchmark_folder()
    assert package is not None  # it was required above
    os.environ["LIBERO_CONFIG_PATH"] = str(_write_config(cache, package, assets.folder))
    for variable, name in {"NUMBA_CACHE_DIR": "numba", "MPLCONFIGDIR": "matplotlib"}.items():
        os.environ.setdefault(variable, str(cache / name))  # else they write elsewhere into the home folder
    silence_robosuite()
    import libero.libero  # pyright: ignore[reportMissingImports]

    libero.libero._assets_path_cache = str(assets.folder)
    return assets


def _root(folder: Path) -> Path:
    """The folder that holds the assets themselves: `folder`, or the one folder in it.

    Raises:
        AssetsError: parts are missing.
    """
    inner = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    root = inner[0] if len(inner) == 1 else folder
    missing = missing_parts(root)
    if missing:
        raise AssetsError(
            f"{root} is not LIBERO's whole assets folder: no {', '.join(missing)}; unpack or download it again, or set "
            f"{VARIABLE} to a whole one"
        )
    return root


def _download_target(environ: Mapping[str, str]) -> Path:
    return cache_folder(environ) / "libero" / "downloaded"


def _download(target: Path) -> Path:
    """Fetch them from the hub; they appear under `target` whole or not at all."""
    from huggingface_hub import snapshot_download

    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.part")  # kept when it fails: the next try goes on from there
    try:
        snapshot_download(HUB_REPOSITORY, repo_type="dataset", local_dir=partial)
    except Exception as error:  # the hub's errors share no base class
        raise AssetsError(
            f"LIBERO's assets cannot be downloaded from {HUB_REPOSITORY}: {error}; try again, or set {VARIABLE} to a "
            "folder or tar file of them"
        ) from error
    shutil.rmtree(partial / ".cache", ignore_errors=True)
    partial.rename(target)
    return target


def _write_config(cache: Path, package: Path, assets: Path) -> Path:
    """LIBERO's config file in a folder of ours; returns the folder."""
    import yaml

    paths = {
        "benchmark_root": str(package),
        "bddl_files": str(package / "bddl_files"),
        "init_states": str(package / "init_files"),
        "datasets": str(cache / "datasets"),
        "assets": str(assets),
    }
    content = yaml.safe_dump(paths)
    folder = cache / "config" / hashlib.sha256(content.encode()).hexdigest()[:16]
    if not (folder / "config.yaml").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=folder.parent))
        (fresh / "config.yaml").write_text(content)
        try:
            fresh.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(fresh)
    return folder
