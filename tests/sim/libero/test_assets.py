"""LIBERO's assets: found where they are said to be, unpacked whole or not at all, and known by their hash."""

from __future__ import annotations

import io
import multiprocessing
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from libero_here import needs_libero

from flexor.sim.libero import asset_tree
from flexor.sim.libero.asset_tree import PARTS, tree_hash, unpack
from flexor.sim.libero.assets import AssetsError, find_source, glance, locate, missing_here
from flexor.sim.libero.packages import MissingPackages, require_packages


def write_tree(folder: Path, *, reduced: bool = False, without: str = "") -> Path:
    """A whole asset tree, as far as anybody can tell without building a scene."""
    for part in PARTS:
        if part != without:
            path = folder / part if part.endswith(".xml") else folder / part / "mesh.msh"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(part)
    if reduced:
        (folder / "STAND_INS.txt").write_text("textures/mesh.msh")
    return folder


def write_tar(path: Path, tree: Path) -> Path:
    with tarfile.open(path, "w:xz") as tar:
        tar.add(tree, "libero-assets")
    return path


def environ(tmp_path: Path, assets: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path / "cache"), "FLEXOR_LIBERO_ASSETS": str(assets)}


def test_a_folder_is_used_where_it_is_and_a_tar_file_is_unpacked_once_with_the_same_hash(tmp_path):
    tree = write_tree(tmp_path / "tree")
    there = locate(environ(tmp_path, tree))
    assert there.folder == tree
    tar = environ(tmp_path, write_tar(tmp_path / "assets.tar.xz", tree))
    first = locate(tar)
    assert first.folder.is_relative_to(tmp_path / "cache") and first.folder.name == "libero-assets"
    assert first.hash == there.hash
    inode = first.folder.stat().st_ino
    assert locate(tar) == first
    assert first.folder.stat().st_ino == inode


def test_stand_ins_make_the_assets_reduced(tmp_path):
    whole = locate(environ(tmp_path, write_tree(tmp_path / "whole")))
    reduced = locate(environ(tmp_path, write_tree(tmp_path / "reduced", reduced=True)))
    assert not whole.reduced and reduced.reduced
    assert whole.to_dict()["reduced_assets"] is False
    assert whole.hash != reduced.hash


def test_the_hash_is_of_names_and_contents_and_not_of_hidden_files(tmp_path):
    one, other = write_tree(tmp_path / "one"), write_tree(tmp_path / "other")
    before = tree_hash(one, tmp_path / "cache")
    assert tree_hash(other, tmp_path / "cache") == before
    (one / ".gitattributes").write_text("hidden")
    assert tree_hash(one, tmp_path / "cache") == before
    (one / "wall.xml").write_text("another wall")
    assert tree_hash(one, tmp_path / "cache") != before
    (other / "wall.xml").rename(other / "walls.xml")
    assert tree_hash(other, tmp_path / "cache") != before


@pytest.mark.parametrize("part", ["wall.xml", "stable_hope_objects"])
def test_a_folder_that_is_not_whole_is_refused_with_what_is_missing(tmp_path, part: str):
    with pytest.raises(AssetsError, match=f"not LIBERO's whole assets folder: no {part}; unpack or download it again"):
        locate(environ(tmp_path, write_tree(tmp_path / "tree", without=part)))


def test_a_place_that_does_not_exist_is_refused_by_its_name(tmp_path):
    with pytest.raises(AssetsError, match=r"FLEXOR_LIBERO_ASSETS is '.*/nowhere', which does not exist"):
        find_source(environ(tmp_path, tmp_path / "nowhere"))


def test_a_tar_file_that_is_cut_off_leaves_nothing_that_looks_like_assets(tmp_path):
    tar = write_tar(tmp_path / "assets.tar.xz", write_tree(tmp_path / "tree"))
    tar.write_bytes(tar.read_bytes()[:-100])
    for _ in range(2):
        with pytest.raises(AssetsError, match="cannot be unpacked"):
            locate(environ(tmp_path, tar))
    assert not list((tmp_path / "cache" / "flexor" / "libero" / "unpacked").iterdir())


def test_a_tar_file_that_would_write_elsewhere_is_refused(tmp_path):
    with tarfile.open(tmp_path / "assets.tar", "w") as tar:
        entry = tarfile.TarInfo("../../escaped")
        entry.size = 1
        tar.addfile(entry, io.BytesIO(b"x"))
    with pytest.raises(AssetsError, match="cannot be unpacked"):
        locate(environ(tmp_path, tmp_path / "assets.tar"))
    assert not list(tmp_path.rglob("escaped"))


def _unpack_slowly(archive: Path, into: Path) -> None:
    """Unpacks, and stops before the folder gets its name."""
    asset_tree.Path.rename = lambda self, target: time.sleep(60.0)  # pyright: ignore[reportAttributeAccessIssue]
    unpack(archive, into)


def test_an_unpacking_that_was_killed_is_done_again_and_cleaned_up(tmp_path):
    tar = write_tar(tmp_path / "assets.tar.xz", write_tree(tmp_path / "tree"))
    into = tmp_path / "unpacked"
    process = multiprocessing.get_context("fork").Process(target=_unpack_slowly, args=(tar, into))
    process.start()
    deadline = time.monotonic() + 30.0
    while not list(into.glob(".unpacking-*/*/wall.xml")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.join(30.0)
    (left,) = into.iterdir()
    os.utime(left, (0, 0))  # long ago
    whole = unpack(tar, into)
    assert asset_tree.missing_parts(whole / "libero-assets") == []
    assert list(into.iterdir()) == [whole]


def test_a_missing_package_is_told_with_what_to_type(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    told = "LIBERO needs hf-libero, robosuite, bddl, .*; type: make libero"
    with pytest.raises(MissingPackages, match=told):
        require_packages()
    assert re.match(told, missing_here(environ(tmp_path, write_tree(tmp_path / "tree"))) or "")


def test_doctor_can_say_what_is_there_without_unpacking_it(tmp_path):
    tree = write_tree(tmp_path / "tree", reduced=True)
    assert "reduced" in glance(environ(tmp_path, tree))
    tar = environ(tmp_path, write_tar(tmp_path / "assets.tar.xz", tree))
    assert glance(tar).endswith("unpacked when first used")
    assert not (tmp_path / "cache" / "flexor" / "libero" / "unpacked").exists()


@needs_libero
def test_libero_is_imported_without_a_question_and_leaves_nothing_in_the_home_folder_but_our_cache(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    program = (
        "import sys\n"
        "from flexor.sim.libero.assets import prepare\n"
        "print(prepare().hash)\n"
        "from libero.libero.envs.env_wrapper import ControlEnv\n"
        "assert 'robosuite.utils.log_utils' not in sys.modules  # it logs to a file in /tmp\n"
    )
    assets = str(find_source().path)
    clean = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "LIBERO_CONFIG_PATH", "MPLCONFIGDIR")}
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**clean, "HOME": str(home), "FLEXOR_LIBERO_ASSETS": assets},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == locate().hash
    assert [path.relative_to(home).parts[:2] for path in home.glob("*/*")] == [(".cache", "flexor")]
