"""A learner gone mad: garbage of every kind for a long time, and a server that serves on with what was good."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from adapter_house import House
from random_adapters import RANK
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.runtime.adapters.adapter_store import KEPT
from flexor.runtime.adapters.audit_log import read_audit
from flexor.runtime.adapters.manifest import MANIFEST
from flexor.runtime.adapters.peft_files import MODEL
from flexor.runtime.serving.channel import ServerRefused

ROUNDS = 12


def torn(house: House, version: int) -> str:
    name = house.write(seed=version, version=version)
    (house.root / name / MODEL).write_bytes(b"garbage")
    return name


def altered(house: House, version: int) -> str:
    name = house.write(seed=version, version=version)
    raw = bytearray((house.root / name / MODEL).read_bytes())
    raw[-2] ^= 4
    (house.root / name / MODEL).write_bytes(raw)
    return name


def pickled(house: House, version: int) -> str:
    name = house.write(seed=version, version=version)
    (house.root / name / "adapter_model.bin").write_bytes(b"\x80\x04N.")
    return name


def half(house: House, version: int) -> str:
    name = house.write(seed=version, version=version)
    (house.root / name / MANIFEST).unlink()
    return name


def oversized(house: House, version: int) -> str:
    return house.write(seed=version, version=version, size=1e17)


def of_another_rank(house: House, version: int) -> str:
    return house.write(seed=version, version=version, alpha=float(RANK + 1))


def wild(house: House, version: int) -> str:
    return house.write(seed=version, version=version, size=50.0)


def nothing(house: House, version: int) -> str:
    return f"{version}-0123456789ab"


KINDS: dict[Callable[[House, int], str], str] = {
    torn: "torn",
    altered: "altered",
    pickled: "pickled",
    half: "torn",
    oversized: "oversized",
    of_another_rank: "wrong_schema",
    wild: "shadow",
    nothing: "unknown",
}
"""What is pushed, and why it is refused; wild ones verify and ask for impossible actions."""
NOTED = Counter(reason for reason in KINDS.values() if reason != "unknown")
"""In each round; what there is not is told and not noted."""


def refused(house: House, name: str) -> str:
    """Push it; the reason for which it is refused, at once or in its shadow."""
    try:
        house.control.order("push", name)
    except ServerRefused as error:
        return error.code
    return house.until(name, "REJECTED")["reason"]


def test_garbage_for_a_long_time_costs_no_chunk_no_disk_and_no_later_adapter(
    house: Callable[..., House], tmp_path: Path
) -> None:
    here = house(shadow_requests=2, canary_episodes=0)
    good = here.write(seed=1)
    here.control.order("push", good)
    here.until(good, "ACTIVE")
    before, version = here.actions(), 1
    found: list[tuple[str, str]] = []
    for _ in range(ROUNDS):
        for make, reason in KINDS.items():
            version += 1
            found.append((refused(here, make(here, version)), reason))
            assert here.ask() == good
    assert [code for code, _ in found] == [reason for _, reason in found]
    np.testing.assert_array_equal(here.actions(), before)
    listing = here.control.adapters()
    assert (listing["active"], listing["candidate"]) == (good, None)
    assert len([path for path in here.root.iterdir() if path.is_dir()]) <= 1 + KEPT
    logged = Counter(entry["reason"] for entry in read_audit(here.root)[0] if entry["event"] == "adapter.rejected")
    assert logged == Counter({reason: ROUNDS * count for reason, count in NOTED.items()})
    file = tmp_path / "list.json"
    command = ["adapter", "list", "--server", here.address, "--json", str(file)]
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 0
    kept = [row for row in json.loads(file.read_text())["adapters"] if row["state"] == "REJECTED"]
    assert len(kept) == KEPT and all(row["reason"] in KINDS.values() and row["told"] for row in kept)
    assert all(row["reason"] in told.output for row in kept)
    later = here.write(seed=1000, version=version + 1)
    here.control.order("push", later)
    here.until(later, "ACTIVE")
    assert here.ask() == later
