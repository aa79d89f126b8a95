"""An import takes the same memory whatever the size of the checkpoint, and never imports torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from foreign_checkpoints import write_openpi
from foreign_tensors import SMALL, random_weights, save, stored

IMPORT = """
import resource, sys
from pathlib import Path
from flexor.export.checkpoints.importer import plan_import, run_import
run_import(plan_import(Path(sys.argv[1]), "imported", dtype=sys.argv[2]), Path(sys.argv[3]))
assert "torch" not in sys.modules and "sentencepiece" not in sys.modules and "transformers" not in sys.modules
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
LARGE = replace(SMALL, prefix=replace(SMALL.prefix, width=1024, mlp_dim=8192))


def peak_mib(checkpoint: Path, dtype: str) -> int:
    out = checkpoint.parent / f"{checkpoint.name}-{dtype}"
    call = [sys.executable, "-c", IMPORT, str(checkpoint), dtype, str(out)]
    return int(subprocess.run(call, capture_output=True, text=True, timeout=100, check=True).stdout)


@pytest.mark.parametrize("dtype", ["source", "bf16"])
def test_memory_does_not_grow_with_the_checkpoint(dtype: str, tmp_path: Path) -> None:
    small = write_openpi(tmp_path / "small")
    large = write_openpi(tmp_path / "large")
    save(large / "model.safetensors", stored(random_weights(LARGE), LARGE))
    grown = (large / "model.safetensors").stat().st_size - (small / "model.safetensors").stat().st_size
    assert grown > 150 << 20
    assert peak_mib(large, dtype) - peak_mib(small, dtype) < 50
