"""Too little memory is told before anything is loaded: what there is, what is needed, what would fit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flexor.pi05.config import PRESETS
from flexor.pi05.footprint import BESIDE, WEIGHT_BYTES, measure_footprint
from flexor.runtime.inference import torch_limits
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import open_engine
from flexor.runtime.inference.memory import NotEnoughMemory, Room, check_memory, host_room, needed_memory

MIB = 1 << 20
MICRO = PRESETS["pi05-micro"]
LARGE = replace(
    MICRO,
    prefix=replace(MICRO.prefix, width=1024, mlp_dim=8192, depth=2),
    expert=replace(MICRO.expert, width=256, mlp_dim=512, depth=2),
)
"""Some 55 million numbers."""


def system(root: Path, **files: str) -> Path:
    """A root with files of /proc and /sys."""
    for name, content in {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    4096 kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_the_machine_tells_what_is_free(tmp_path: Path) -> None:
    assert host_room(0, system(tmp_path)) == Room(4 * MIB, "memory of this machine")
    assert host_room(0, tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("files", "free"),
    [
        (
            {
                "proc/self/cgroup": "0::/robot/policy\n",
                "sys/fs/cgroup/robot/policy/memory.max": "max\n",
                "sys/fs/cgroup/robot/policy/memory.current": "1000\n",
                "sys/fs/cgroup/robot/memory.max": "3000000\n",
                "sys/fs/cgroup/robot/memory.current": "2000000\n",
                "sys/fs/cgroup/robot/memory.stat": "anon 1500000\ninactive_file 400000\n",
            },
            1_400_000,
        ),
        (
            {
                "proc/self/cgroup": "9:cpu,cpuacct:/x\n7:memory:/x\n",
                "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "2000000\n",
                "sys/fs/cgroup/memory/x/memory.usage_in_bytes": "2100000\n",
                "sys/fs/cgroup/memory/x/memory.stat": "inactive_file 1\ntotal_inactive_file 50000\n",
            },
            0,
        ),
    ],
    ids=["version 2, around it", "version 1, over its limit"],
)
def test_a_cgroup_with_less_decides(files: dict[str, str], free: int, tmp_path: Path) -> None:
    assert host_room(0, system(tmp_path, **files)) == Room(free, "memory limit of its cgroup")


def test_a_roomy_cgroup_does_not(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/"
    files = {"proc/self/cgroup": "0::/\n", f"{group}memory.max": f"{8 * MIB}\n", f"{group}memory.current": "0\n"}
    assert host_room(0, system(tmp_path, **files)) == Room(4 * MIB, "memory of this machine")


def test_full_size_is_what_it_was_counted_to_be_by_hand() -> None:
    """Gemma 17 * 110.1 M + 1.0 M, SigLIP 27 * 15.2 M, projector 2.4 M, expert 18 * 17.3 M; embedding 526.6 M."""
    prefix, expert, embedding = 17 * 110_100_480 + 1_048_576 + 27 * 15_224_832 + 2_359_296, 311_427_072, 526_647_296
    stored = 4 * PRESETS["pi05"].parameter_count()
    half = measure_footprint(PRESETS["pi05"], "bf16", "bf16", 2, 10, stored, mapped=True)
    at_work = 400e6  # at most: the cache, and what one layer has in hand
    assert 0 < half.running - BESIDE - 2 * (prefix + expert + embedding) < at_work
    assert half.loading == pytest.approx(BESIDE + embedding * 7, rel=1e-6)
    sizes = {
        name: measure_footprint(PRESETS["pi05"], name, name, 2, 10, stored, mapped=True).running
        for name in WEIGHT_BYTES
    }
    assert 0 < sizes["fp32"] - BESIDE - 4 * (prefix + expert + embedding) < at_work
    assert 0 < sizes["int8"] - BESIDE - (prefix + expert + 2 * embedding) < at_work
    assert sizes["int8"] == sizes["fp8"] == sizes["bnb8"]
    on_gpu = measure_footprint(PRESETS["pi05"], "bf16", "bf16", 2, 10, stored, mapped=False, sets=4)
    assert on_gpu.building == half.building + stored + 3 * 2 * expert


def test_what_is_missing_and_what_would_fit_is_told(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle(model=LARGE)
    wide, narrow = needed_memory(bundle, "fp32", "fp32", 10, True), needed_memory(bundle, "bf16", "bf16", 10, True)
    with pytest.raises(NotEnoughMemory) as error:
        check_memory(bundle, "fp32", "fp32", 10, Room(narrow, "memory of this machine"))
    told = str(error.value)
    amounts = f"takes {wide / MIB:.0f} MiB and {narrow / MIB:.0f} MiB are free (memory of this machine)"
    assert f"pi05-micro-random@{bundle.hash[:12]} in fp32 {amounts}" in told
    assert f"{(wide - narrow) / MIB:.0f} MiB are missing" in told
    assert f"what would fit: --precision bf16 ({narrow / MIB:.0f} MiB)" in told and "--force" in told
    with pytest.raises(NotEnoughMemory, match=r"no precision fits, the least takes \d+ MiB: free some; or try"):
        check_memory(bundle, "int8", "bf16", 10, Room(MIB, "memory of cuda:0"))
    check_memory(bundle, "fp32", "fp32", 10, Room(wide, "memory of this machine"))
    check_memory(bundle, "fp32", "fp32", 10, None)


def test_the_engine_asks_before_it_loads_and_force_overrides(
    micro_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_limits, "host_room", lambda mapped: Room(MIB, "memory of this machine"))
    with pytest.raises(NotEnoughMemory, match="1 MiB are free"):
        open_engine(micro_bundle)
    assert open_engine(micro_bundle, force=True).precision == "fp32"


LIMITED = """
import resource, sys
import torch, flexor.runtime.inference.torch_engine
torch.set_num_threads(1)
(torch.ones(64, 64) @ torch.ones(64, 64)).sum()
from flexor.errors import FlexorError
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import open_engine
bundle = Bundle.open(sys.argv[1])
size = next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[2]), resource.RLIM_INFINITY))
for precision in ("fp32", "bf16"):
    try:
        print(precision, open_engine(bundle, precision=precision).precision)
    except FlexorError as error:
        print(precision, type(error).__name__, error)
"""


@pytest.mark.slow
def test_under_a_real_limit_one_precision_is_refused_and_the_other_loads(make_bundle: Callable[..., Bundle]) -> None:
    """What is estimated to fit must fit: the process would die of the limit otherwise."""
    bundle = make_bundle(model=LARGE)
    stored = bundle.weights_path.stat().st_size
    limit = 2 * stored + needed_memory(bundle, "bf16", "bf16", 10, True) + 8 * MIB
    command = [sys.executable, "-c", LIMITED, str(bundle.path), str(limit)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert run.returncode == 0, run.stderr
    refused, loaded = run.stdout.splitlines()
    assert refused.startswith("fp32 NotEnoughMemory") and "address space by ulimit -v" in refused
    assert "--precision bf16" in refused
    assert loaded == "bf16 bf16"
