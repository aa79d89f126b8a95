"""Parity by hand-made numbers, on real episodes and a real bundle, and what the verdict does."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from recordings import CAMERAS, record
from typer.testing import CliRunner

import flexor
from flexor.cli.main import app
from flexor.cli.verify import CALIBRATED_ON
from flexor.errors import FlexorError
from flexor.export.parity import compare_actions, compare_policies
from flexor.export.recorded_observations import recorded_observations
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import EngineError, open_engine
from flexor.runtime.inference.fp8_scales import ScalesError, scales_path
from flexor.runtime.inference.gates import GateError, check_gate, gate_path, is_close_enough, write_gate
from flexor.runtime.inference.policy import Policy


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    record(folder, episodes=4, steps=12)
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A copy of the shipped one, which may be written, and of which nothing was measured."""
    shutil.copytree(Bundle.open("pi05-nano").path, tmp_path / "pi05-nano", ignore=shutil.ignore_patterns("gates"))
    return Bundle.open(tmp_path / "pi05-nano")


def test_figures_of_two_chunks_made_by_hand() -> None:
    """The first pair is equal; in the second [1, 0] and [1, 1] are 45 degrees apart."""
    pairs = np.array([[[[3.0, 4.0]], [[3.0, 4.0]]], [[[1.0, 0.0]], [[1.0, 1.0]]]])
    parity = compare_actions(pairs)
    assert (parity.n, parity.max_abs, parity.mean_abs, parity.worst) == (2, 1.0, 0.25, 1)
    assert parity.cos_mean == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert parity.cos_min == pytest.approx(math.sqrt(0.5))
    assert parity.cos_by_dim == pytest.approx((1.0, 16 / (4 * math.sqrt(17))))


def test_zeros_are_like_zeros_and_unlike_anything_else() -> None:
    zeros = np.zeros((1, 2, 1, 2))
    assert compare_actions(zeros).cos_min == 1.0
    zeros[0, 1, 0, 0] = 1.0
    assert compare_actions(zeros).cos_min == 0.0


def test_observations_are_what_was_recorded_spread_over_all_episodes(recorded: Path) -> None:
    found = recorded_observations(recorded, CAMERAS, 8)
    assert len(found) == 8
    episodes = [read_episode(file) for file in sorted((recorded / "episodes").glob("*.mcap"))]
    for number, episode in enumerate(episodes):
        first, last = found[2 * number], found[2 * number + 1]
        np.testing.assert_array_equal(first.images[CAMERAS[1]], episode.frames[CAMERAS[1]][0])
        np.testing.assert_array_equal(last.state, episode.states[10])
        assert first.prompt == episode.meta.prompt
    assert len(recorded_observations(recorded, CAMERAS, 3)) == 3


def test_episodes_of_other_cameras_and_empty_folders_are_refused(recorded: Path, tmp_path: Path) -> None:
    with pytest.raises(FlexorError, match=r"no episode in .* has frames of top"):
        recorded_observations(recorded, ("top",), 3)
    with pytest.raises(FlexorError, match="has no episodes"):
        recorded_observations(tmp_path, CAMERAS, 3)


def test_a_bundle_equals_itself_and_its_twin_in_fewer_bits_does_not(recorded: Path) -> None:
    bundle = Bundle.open("pi05-nano")
    observations = recorded_observations(recorded, bundle.config.cameras, 4)
    single, again, narrow = (Policy(bundle, open_engine(bundle, precision=p)) for p in ("fp32", "fp32", "int8"))
    done: list[int] = []
    same = compare_policies(single, again, observations, done.append)
    assert (same.max_abs, same.n, done) == (0.0, 4, [1, 2, 3, 4])
    other = compare_policies(single, narrow, observations, done.append)
    assert 0.0 < other.mean_abs <= other.max_abs and other.cos_min < 1.0


def test_a_failed_gate_closes_its_precision_and_no_other(bundle: Bundle) -> None:
    path = write_gate(bundle, "int8+bf16", "parity", False, "cosine 0.1", {"cos_min": 0.1})
    assert json.loads(path.read_text())["parity"]["cos_min"] == 0.1
    with pytest.raises(GateError, match=r"in int8\+bf16 failed its gate .*parity: cosine 0.1; .*--force"):
        open_engine(bundle, precision="int8")
    with pytest.raises(GateError, match="failed its gate"):
        flexor.load(bundle.path, precision="int8")
    assert open_engine(bundle, precision="int8", force=True).precision == "int8+bf16"
    assert open_engine(bundle, precision="int8+fp32").precision == "int8+fp32"
    assert Bundle.open(bundle.path).hash == bundle.hash
    write_gate(bundle, "int8+bf16", "parity", True, "cosine 1.0", {})
    open_engine(bundle, precision="int8")


def test_each_part_of_a_gate_stays_when_the_other_is_written_and_both_reasons_are_told(bundle: Bundle) -> None:
    write_gate(bundle, "bf16", "parity", False, "cosine 0.1", {"n": 3})
    path = write_gate(bundle, "bf16", "success", False, "3 of 200 beside 190", {"episodes": 200})
    found = json.loads(path.read_text())
    assert (found["parity"]["n"], found["success"]["episodes"]) == (3, 200)
    with pytest.raises(GateError, match=r"parity: cosine 0.1; success: 3 of 200 beside 190; serve it in fp32"):
        check_gate(bundle, "bf16")
    write_gate(bundle, "bf16", "parity", True, "cosine 1.0", {})
    with pytest.raises(GateError, match=r"\): success: 3 of 200"):
        check_gate(bundle, "bf16")
    write_gate(bundle, "bf16", "success", None, "too few episodes", {})
    check_gate(bundle, "bf16")


def test_what_was_measured_of_another_bundle_is_not_carried_on(bundle: Bundle) -> None:
    path = write_gate(bundle, "bf16", "success", False, "3 of 200 beside 190", {})
    path.write_text(json.dumps({**json.loads(path.read_text()), "bundle_hash": "0" * 64}))
    write_gate(bundle, "bf16", "parity", True, "cosine 1.0", {})
    assert set(json.loads(path.read_text())) == {"schema_version", "bundle_hash", "precision", "parity"}


def test_a_gate_of_another_bundle_says_nothing_and_a_torn_one_is_told(bundle: Bundle) -> None:
    path = write_gate(bundle, "bf16", "parity", False, "cosine 0.1", {})
    path.write_text(json.dumps({**json.loads(path.read_text()), "bundle_hash": "0" * 64}))
    check_gate(bundle, "bf16")
    for damaged in ('{"passed": tr', '{"schema_version": 1, "passed": true}', "[]"):
        path.write_text(damaged)
        with pytest.raises(GateError, match=r"is no gate .*measure again: flexor verify, flexor eval --gate"):
            check_gate(bundle, "bf16")
    write_gate(bundle, "bf16", "parity", True, "cosine 1.0", {})
    check_gate(bundle, "bf16")


@pytest.mark.parametrize(
    ("mean", "worst", "enough"), [(0.9995, 0.95, True), (0.998, 0.95, False), (0.9995, 0.8, False)]
)
def test_both_the_mean_and_the_worst_chunk_count(mean: float, worst: float, enough: bool) -> None:
    assert is_close_enough(mean, worst) is enough


def test_the_command_keeps_its_verdict_in_the_bundle(
    recorded: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flexor.runtime.inference.gates.LEAST_MEAN", 2.0)  # nothing is as near as that
    arguments = ["verify", str(bundle.path), "--precision", "bf16", "--episodes", str(recorded), "--n", "4"]
    run = CliRunner().invoke(app, [*arguments, "--json", str(tmp_path / "v.json")])
    found = json.loads((tmp_path / "v.json").read_text())
    assert run.exit_code == 3, run.output
    assert found["passed"] is False and {"max_abs", "cos_min", "cos_mean", "env"} <= set(found)
    assert json.loads(gate_path(bundle, "bf16").read_text())["parity"]["cos_min"] == found["cos_min"]


def test_fp8_is_calibrated_by_verify_on_other_observations_and_then_known_to_the_engine(
    recorded: Path, bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(ScalesError, match=r"has no scales .*flexor verify .* --precision fp8 --episodes"):
        open_engine(bundle, precision="fp8", force=True)
    with pytest.raises(EngineError, match=r"'fp8' needs a GPU of compute capability 8.9 .*on cpu: use int8, or bf16"):
        open_engine(bundle, precision="fp8")
    arguments = ["verify", str(bundle.path), "--precision", "fp8+bf16", "--episodes", str(recorded), "--n", "4"]
    run = CliRunner().invoke(app, [*arguments, "--json", str(tmp_path / "v.json")])
    assert run.exit_code in (0, 3), run.output
    found = json.loads((tmp_path / "v.json").read_text())
    assert (found["n"], found["precision"], found["provider"]) == (4, "fp8+bf16", "cpu")
    kept = json.loads(scales_path(bundle).read_text())
    assert (kept["bundle_hash"], kept["observations"]) == (bundle.hash, CALIBRATED_ON)
    for precision in ("fp8", "fp8+fp32", "bf16+fp8"):  # one file for all
        assert open_engine(bundle, precision=precision, force=True).precision == precision
    scales_path(bundle).write_text(json.dumps({**kept, "bundle_hash": "0" * 64}))
    with pytest.raises(ScalesError, match="the scales of bundle 000000000000"):
        open_engine(bundle, precision="fp8", force=True)
    scales_path(bundle).write_text(json.dumps({**kept, "largest": {"vision.layers.0.qkv": 1.0}}))
    with pytest.raises(ScalesError, match=r"lack the product .*--calibrate"):
        open_engine(bundle, precision="fp8", force=True)
    scales_path(bundle).write_text("{")
    with pytest.raises(ScalesError, match="holds no scales"):
        open_engine(bundle, precision="fp8", force=True)


def test_fp8_compares_what_calibration_leaves_and_says_when_that_is_nothing(
    recorded: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["verify", str(bundle.path), "--precision", "fp8", "--episodes", str(recorded)]
    run = CliRunner().invoke(app, arguments)
    assert run.exit_code in (0, 3) and "8 observations" in " ".join(run.output.split())  # of 24
    monkeypatch.setattr("flexor.cli.verify.CALIBRATED_ON", 24)
    run = CliRunner().invoke(app, arguments)
    assert run.exit_code == 1 and "needs 24 observations beside those compared" in str(run.exception)


def test_a_precision_beside_itself_and_scales_of_what_needs_none_are_wrong_usage(bundle: Bundle) -> None:
    for options in (["--precision", "fp32"], ["--precision", "int8", "--calibrate"], ["--reference", "int8"]):
        assert CliRunner().invoke(app, ["verify", str(bundle.path), "--episodes", "x", *options]).exit_code == 2
