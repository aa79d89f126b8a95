"""A writer that is killed leaves whole adapters and drafts; nothing that looks like an adapter and is none."""

from __future__ import annotations

import random
import signal
import sys
import time
from pathlib import Path

import adapter_writer_child
import pytest
from random_adapters import ALPHA, RANK, draw_factors
from telling_process import TellingProcess

from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_writer import write_adapter
from flexor.runtime.adapters.manifest import split_id
from flexor.runtime.adapters.verification import Verifier
from flexor.runtime.draft_folder import sweep_drafts
from flexor.runtime.inference.bundle import Bundle

KILLS = 3


def test_a_killed_writer_leaves_only_whole_adapters(micro_bundle: Bundle, verifier: Verifier, root: Path) -> None:
    chance, told = random.Random(11), []
    for _ in range(KILLS):
        child = TellingProcess([sys.executable, adapter_writer_child.__file__, micro_bundle.path, root])
        try:
            child.wait_for("written")
            time.sleep(chance.uniform(0.0, 0.1))
            child.signal(signal.SIGKILL)
            child.wait()
            told += [line["name"] for line in child.told("written")]
        finally:
            child.__exit__()
    there = sorted(entry.name for entry in root.iterdir() if split_id(entry.name))
    assert set(told) <= set(there)
    assert len({name.partition("-")[0] for name in there}) == len(there)
    for name in there:
        verifier.verify(root / name)
    sweep_drafts(root, "*")
    assert sorted(entry.name for entry in root.iterdir()) == there


def test_factors_that_are_no_adapter_leave_nothing_behind(micro_bundle: Bundle, root: Path) -> None:
    factors = draw_factors(micro_bundle.model_config)
    factors["action_in_proj"][0][0, 0] = float("inf")
    with pytest.raises(AdapterError, match="action_in_proj"):
        write_adapter(root, factors, micro_bundle, rank=RANK, alpha=ALPHA)
    with pytest.raises(AdapterError, match="expected rank 3"):
        write_adapter(root, draw_factors(micro_bundle.model_config), micro_bundle, rank=3, alpha=ALPHA)
    assert not root.exists()
