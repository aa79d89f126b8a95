"""The swap benchmark measures what it says, and counts a chunk of two adapters at once as lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.pi05.config import PRESETS
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.timing.swap import measure_swap


class Halves:
    """Answers with the first number of two tensors of its adapter; torn on purpose, it mixes them up."""

    def __init__(self, torn: bool = False, captures: int = 0) -> None:
        self._torn, self._each, self._captures = torn, captures, 0
        self._held = np.zeros(2, np.float32)

    @property
    def captures(self) -> int:
        return self._captures

    def load_slot(self, slot: int, tensors: Mapping[str, NDArray[np.float32]] | None) -> None:
        assert slot == 1 and tensors is not None
        self._held = np.array([tensors["qkv_a"].flat[0], tensors["down_b"].flat[0]], np.float32)
        self._captures += self._each

    def chunk(self, slot: int) -> NDArray[np.float32]:
        if self._torn and slot:
            self._held[0] += 1.0
        return self._held.copy()


@pytest.mark.parametrize(("torn", "captures"), [(False, 0), (True, 0), (False, 1)])
def test_what_goes_wrong_is_counted(torn: bool, captures: int) -> None:
    result = measure_swap(Halves(torn, captures), Halves, PRESETS["pi05-micro"], 5, lambda what, done, of: None)
    assert (result["lost"] == result["chunks"]) == torn or result["chunks"] == 0
    assert (result["max_diff_cold"] == 0) == (not torn)
    assert (result["recaptures"] > 0) == bool(captures)


def test_a_load_that_fails_is_no_measurement() -> None:
    class Broken(Halves):
        loads = 0

        def load_slot(self, slot: int, tensors: Mapping[str, NDArray[np.float32]] | None) -> None:
            super().load_slot(slot, tensors)
            self.loads += 1
            if self.loads == 10:  # by then two are known, five were swapped, and another thread swaps
                raise OSError("no memory")

    with pytest.raises(OSError, match="no memory"):
        measure_swap(Broken(), Halves, PRESETS["pi05-micro"], 5, lambda what, done, of: None)


def test_the_command_swaps_a_real_engine(tmp_path: Path, micro_bundle: Bundle) -> None:
    file = tmp_path / "swap.json"
    run = CliRunner().invoke(app, ["bench", "swap", str(micro_bundle.path), "--n", "3", "--json", str(file)])
    assert run.exit_code == 0, run.output
    found = json.loads(file.read_text())
    assert {"engine_ms", "lost", "recaptures", "max_diff_cold", "carry_ratio", "env"} <= set(found)
    assert (found["lost"], found["recaptures"], found["max_diff_cold"], found["n"]) == (0, 0, 0.0, 3)
