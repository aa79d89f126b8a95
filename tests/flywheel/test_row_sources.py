"""The hash of the code that decides a row: what changes it, and what does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import flexor
from flexor.flywheel.row_sources import row_sources_hash, sources_hash


def test_code_that_decides_rows_changes_the_hash_and_other_code_does_not(tmp_path: Path):
    package = tmp_path / "flexor"
    shutil.copytree(Path(flexor.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    before = row_sources_hash()
    assert len(before) == 12 and sources_hash(package) == before
    for name in ("cli/eval.py", "learner/pretrain.py", "flywheel/report/html.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("changed = 1\n")
    assert sources_hash(package) == before
    found = {before}
    for name in (
        "pi05/model.py", "runtime/inference/policy.py", "runtime/driving/guard.py", "sim/libero/stage.py",
        "flywheel/lockstep.py",
    ):  # fmt: skip
        with (package / name).open("a") as stream:
            stream.write("# changed\n")
        found.add(sources_hash(package))
    assert len(found) == 6
    (package / "sim" / "scenes.py").rename(package / "sim" / "scenery.py")
    assert sources_hash(package) not in found
