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
from flexor.flywheel.timing.swap_traffic import Swap, summary
from flexor.pi05.config import PRESETS
from flexor.pi05.lora_targets import PAIRS
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.timing.steady_client import Asked
from flexor.runtime.timing.swap import measure_swap


class Halves:
    """Answers with the first number of two tensors of its adapter; torn on purpose, it never answers the same twice."""

    def __init__(self, torn: bool = False, captures: int = 0) -> None:
        self._torn, self._each, self._captures, self._asked = torn, captures, 0, 0
        self._held: dict[int, NDArray[np.float32]] = {}

    @property
    def captures(self) -> int:
        return self._captures

    def load_slot(self, slot: int, tensors: Mapping[str, NDArray[np.float32]] | None) -> None:
        assert slot and tensors is not None
        self._held[slot] = np.array([tensors["qkv_a"].flat[0], tensors["down_b"].flat[0]], np.float32)
        self._captures += self._each

    def chunk(self, slot: int) -> NDArray[np.float32]:
        self._asked += 1
        return self._held.get(slot, np.zeros(2, np.float32)) + (self._asked if self._torn and slot else 0)


@pytest.mark.parametrize(("torn", "captures"), [(False, 0), (True, 0), (False, 1)])
def test_what_goes_wrong_is_counted(torn: bool, captures: int) -> None:
    result = measure_swap(Halves(torn, captures), Halves, PRESETS["pi05-micro"], PAIRS, 5, lambda what, done, of: None)
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
        measure_swap(Broken(), Halves, PRESETS["pi05-micro"], PAIRS, 5, lambda what, done, of: None)


def asked(began: float, reply: float, adapter: str = "base", told: str = "chunk", engine_ms: float = 5.0) -> Asked:
    return Asked(0, began, began + reply, told, engine_ms if told == "chunk" else 0.0, adapter)


def test_the_requests_around_a_swap_are_told_from_the_others() -> None:
    """A request a second; ordered at 50 s, in service at 60.5 s; slow ones within five of both, one lost elsewhere."""
    requests = [asked(float(second), 0.1, "1-a" if second > 60 else "base") for second in range(100)]
    for second in (45, 65):
        requests[second] = asked(float(second), 0.9, requests[second].adapter)
    requests[61] = asked(61.0, 0.1, "1-a", engine_ms=7.5)
    requests[44] = asked(44.0, 5.0, told="timeout")
    found = summary(requests, [Swap("1-a", 50.0, 50.4, 60.5)])
    assert (found["around_n"], found["elsewhere_n"], found["lost"], found["lost_told"]) == (21, 78, 1, {"timeout": 1})
    assert found["elsewhere_p99_ms"] == pytest.approx(100.0) and found["around_p99_ms"] > 700.0
    assert found["p99_ratio"] == pytest.approx(found["around_p99_ms"] / found["elsewhere_p99_ms"])
    assert found["first_chunk_ms"] == pytest.approx(2.5)
    assert (found["load_ms"], found["active_ms"]) == (pytest.approx(400.0), pytest.approx(10_500.0))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_command_swaps_a_real_engine_and_a_server_that_is_asked(tmp_path: Path, micro_bundle: Bundle) -> None:
    file = tmp_path / "swap.json"
    command = ["bench", "swap", str(micro_bundle.path), "--n", "3", "--swaps", "2", "--json", str(file)]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    found = json.loads(file.read_text())
    assert {"engine_ms", "lost", "recaptures", "max_diff_cold", "carry_ratio", "p99_ratio", "env"} <= set(found)
    assert (found["lost"], found["recaptures"], found["max_diff_cold"], found["n"]) == (0, 0, 0.0, 3)
    served = found["server"]
    assert served["requests"] > served["around_n"] >= 40 and served["swaps"] == 2
