"""The success part of a gate: episodes are paired, the verdict follows from the interval, the command keeps it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exported_bundles import write_micro
from point_world import open_noisy_policy, open_point

from flexor.cli.eval_gate import gated_precision, play_gate
from flexor.errors import FlexorError
from flexor.export.exporter import Wish, export_graphs
from flexor.flywheel.evaluate import evaluate
from flexor.flywheel.success_gate import SuccessPair
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.gates import (
    LEAST_DIFFERENCE,
    LEAST_OF_GRAPHS,
    gate_path,
    succeeds_enough,
    write_gate,
)


def arm(successes: str, bundle_hash: str = "a", first_seed: int = 5000) -> dict[str, Any]:
    """An evaluation of one task, a 1 or a 0 for each seed."""
    rows = [{"task": "lift", "seed": first_seed + k, "success": word == "1"} for k, word in enumerate(successes)]
    return {"bundle_hash": bundle_hash, "rows": rows}


def test_episodes_are_paired_by_their_seeds() -> None:
    other = arm("1100" + "1" * 6)
    other["rows"].reverse()
    pair = SuccessPair.of(arm("1010" + "1" * 6), other)
    assert (pair.both, pair.reference_only, pair.other_only, pair.neither, pair.episodes) == (7, 1, 1, 1, 10)
    assert pair.difference == 0.0 and pair.low < 0.0 < pair.high and pair.p == 1.0
    assert pair.to_dict()["ci95"] == [pair.low, pair.high]


@pytest.mark.parametrize(
    ("reference", "other", "passed"),
    [
        ("1" * 200, "1" * 200, True),
        ("1" * 200, "1" * 197 + "0" * 3, True),
        ("1" * 200, "1" * 180 + "0" * 20, False),
        ("1" * 20, "1" * 20, None),  # nothing was seen, and twenty episodes could not have shown it
        ("0" * 200, "1" * 200, True),
    ],
)
def test_the_verdict_is_of_the_intervals_lower_end(reference: str, other: str, passed: bool | None) -> None:
    pair = SuccessPair.of(arm(reference), arm(other))
    assert pair.passed is passed
    assert f"{other.count('1')} of {len(other)} episodes beside {reference.count('1')} in fp32" in pair.told


@pytest.mark.parametrize(
    ("difference", "low", "high", "passed"),
    [
        (-0.02, -0.049, 0.01, True),
        (-0.02, -0.051, 0.01, None),
        (-0.05, -0.10, 0.01, False),
        (-0.04, -0.07, -0.01, False),  # worse for certain, by how much is not
        (-0.03, -0.04, -0.01, True),  # worse for certain, by little
    ],
)
def test_what_is_worse_by_more_than_five_points_is_never_passed(
    difference: float, low: float, high: float, passed: bool | None
) -> None:
    assert succeeds_enough(difference, low, high) is passed


def test_arms_of_other_episodes_or_bundles_are_no_pair() -> None:
    with pytest.raises(FlexorError, match="different episodes"):
        SuccessPair.of(arm("11"), arm("11", first_seed=5001))
    with pytest.raises(FlexorError, match="different bundles"):
        SuccessPair.of(arm("11"), arm("11", bundle_hash="b"))


def test_both_arms_are_played_told_and_kept_beside_parity(tmp_path: Path) -> None:
    """Real episodes of a point robot, under the name of a real bundle."""
    folder = tmp_path / "pi05-nano"
    shutil.copytree(Bundle.open("pi05-nano").path, folder)
    bundle = Bundle.open(folder)
    asked: list[str] = []

    def play(name: str, watch: Callable[[dict[str, Any]], None], precision: str) -> dict[str, Any]:
        asked.append(precision)
        played = evaluate(
            name, "sim:point", ("left",), 3, 5, 1, watch=watch, make_robot=open_point, make_policy=open_noisy_policy
        )
        return {**played, "precision": precision, "bundle_hash": bundle.hash if len(asked) < 3 else "f" * 64}

    write_gate(bundle, "bf16", "parity", True, "cosine 1.0", {"n": 200})
    assert play_gate(str(folder), play, "bf16", 3, tmp_path / "gate.json")
    told, kept = (json.loads(path.read_text()) for path in (tmp_path / "gate.json", gate_path(bundle, "bf16")))
    assert asked == ["fp32", "bf16"]
    assert kept["parity"]["n"] == 200 and kept["bundle_hash"] == bundle.hash
    assert kept["success"]["episodes"] == told["episodes"] == 3
    assert kept["success"]["difference"] == 0.0 and kept["success"]["passed"] is None  # three cannot tell
    assert (kept["success"]["seed"], kept["success"]["sim"]) == (5, "sim:point")
    assert (told["precision"], told["reference"]["precision"]) == ("bf16", "fp32")
    with pytest.raises(FlexorError, match=r"changed while it was evaluated"):
        play_gate(str(folder), play, "bf16", 3, None)


def test_graphs_are_played_beside_their_source_and_may_lose_less(tmp_path: Path) -> None:
    source = write_micro(tmp_path / "source")
    exported = export_graphs(source, tmp_path / "graphs", Wish(rank=2, flow_steps=1)).bundle
    asked: list[tuple[str, str]] = []

    played = evaluate("point", "sim:point", ("left",), 1, 5, 1, make_robot=open_point, make_policy=open_noisy_policy)

    def play(name: str, watch: Callable[[dict[str, Any]], None], precision: str) -> dict[str, Any]:
        asked.append((name, precision))
        lost = 0 if name == str(source.path) else 4
        rows = [{**played["rows"][0], **row} for row in arm("1" * (300 - lost) + "0" * lost)["rows"]]
        return {**played, "rows": rows, "bundle_hash": Bundle.open(name).hash, "precision": precision}

    line = str(exported.path), play, gated_precision(str(exported.path), None), 300
    assert play_gate(*line, tmp_path / "gate.json", str(source.path))
    assert asked == [(str(source.path), "fp32"), (str(exported.path), "fp32")]
    told = json.loads((tmp_path / "gate.json").read_text())
    # 1.3 points fewer: surely less than five, not surely less than three.
    assert told["ci95"][0] > LEAST_DIFFERENCE and told["ci95"][0] < LEAST_OF_GRAPHS
    assert told["passed"] is None and "the lower end above -3" in told["told"]
    assert json.loads(gate_path(exported, "fp32").read_text())["success"]["difference"] == pytest.approx(-4 / 300)
    with pytest.raises(FlexorError, match=r"was not exported from pi05-nano@.* with --source"):
        play_gate(*line, None, "pi05-nano")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--precision", "int8", "--shift", "low"], "drop --matrix, --counterfactual, --skip and --shift"),
        (["--precision", "fp32"], "compares with fp32"),
        (["--precision", "int4"], "no precision 'int4'"),
    ],
)
def test_what_a_gate_is_not_of_is_refused_before_anything_is_played(options: list[str], said: str) -> None:
    command = [sys.executable, "-m", "flexor", "eval", "pi05-nano", "--gate", *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode != 0
    assert said in " ".join(run.stderr.replace("│", " ").split())
