"""What measures latency: its numbers, its neighbours, and that nothing of it stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from flexor.cli import bench
from flexor.cli.main import app
from flexor.errors import FlexorError
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import open_engine
from flexor.runtime.inference.policy import Policy
from flexor.runtime.timing.busy_processes import BusyProcesses
from flexor.runtime.timing.latency import Percentiles, time_calls, time_replies
from flexor.runtime.timing.reply_timer import ask_from_another_process, synthetic_observations

GONE_TIMEOUT_S = 30.0
BUSY_TIMEOUT_S = 90.0  # torch is loaded and what goes on alone is measured first


def runs(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    """Processes that `pid` has started and not collected."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_busy_process(pid: int) -> bool:
    """Whether `pid` is one of BusyProcesses; a reply timer is a child, too."""
    try:
        return "matrix @ matrix" in Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + GONE_TIMEOUT_S
    while any(runs(pid) for pid in pids):
        assert time.monotonic() < deadline, f"{pids} still run"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def policy(micro_bundle: Bundle) -> Policy:
    policy = Policy(micro_bundle, open_engine(micro_bundle))
    policy.warm_up()
    return policy


def test_percentiles_are_interpolated() -> None:
    assert Percentiles.of(list(range(101))).to_dict() == {"n": 101, "p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0}
    assert Percentiles.of([4.0]).to_dict() == {"n": 1, "p50_ms": 4.0, "p95_ms": 4.0, "p99_ms": 4.0}


def test_synthetic_observations_fit_the_bundle_and_repeat(policy: Policy, micro_bundle: Bundle) -> None:
    once, again = (synthetic_observations(micro_bundle.cameras, 8, 40) for _ in range(2))
    assert len({observation.state.tobytes() for observation in once}) == len(once)
    for first, second in zip(once, again, strict=True):
        np.testing.assert_array_equal(first.images["wrist"], second.images["wrist"])
        assert policy.infer(first, 1).actions.shape == (10, 7)


def test_the_engine_is_a_part_of_the_policy_call(policy: Policy, micro_bundle: Bundle) -> None:
    steps: list[int] = []
    observations = synthetic_observations(micro_bundle.cameras, 8, 32)
    times = time_calls(policy, observations, 10, lambda: steps.append(1))
    assert len(steps) == len(times.engine) == len(times.policy) == 10
    assert all(0 < engine < whole for engine, whole in zip(times.engine, times.policy, strict=True))


@pytest.mark.parametrize("slack_entropy", [True, False])
def test_replies_of_a_real_server_are_timed_from_another_process(policy: Policy, slack_entropy: bool) -> None:
    times = time_replies(policy, 32, 3, slack_entropy, 0.01)
    assert len(times.reply) == len(times.overhead) == 3
    assert all(0 < overhead < reply for overhead, reply in zip(times.overhead, times.reply, strict=True))


def test_a_timing_client_that_fails_says_why() -> None:
    with pytest.raises(
        FlexorError, match=r"timing client at tcp://8\.8\.8\.8:1 ended with code 1; it said: .*8\.8\.8\.8"
    ):
        ask_from_another_process("tcp://8.8.8.8:1", ["wrist"], 8, 32, 1, 0.01)


def test_busy_processes_run_inside_the_context_and_never_after_it() -> None:
    with BusyProcesses(2) as busy:
        pids = busy.pids
        assert len(pids) == 2
        assert all(runs(pid) for pid in pids)
    assert not any(runs(pid) for pid in pids)


def test_an_error_inside_the_context_ends_the_busy_processes() -> None:
    pids: list[int] = []

    def measure() -> None:
        with BusyProcesses(1) as busy:
            pids.extend(busy.pids)
            raise RuntimeError("measured badly")

    with pytest.raises(RuntimeError, match="measured badly"):
        measure()
    assert pids
    assert not any(runs(pid) for pid in pids)


def test_busy_processes_end_when_their_parent_is_killed() -> None:
    program = (
        "import time\nfrom flexor.runtime.timing.busy_processes import BusyProcesses\n"
        "with BusyProcesses(1) as busy:\n    print(*busy.pids, flush=True)\n    time.sleep(100)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert pids
    assert all(runs(pid) for pid in pids)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(GONE_TIMEOUT_S)
    parent.stdout.close()
    wait_until_gone(pids)


def test_bench_latency_writes_its_keys_and_prints_its_table(
    micro_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.setattr(bench, "REPLIES", 2)
    file = tmp_path / "latency.json"
    options = ["--n", "3", "--busy", "1", "--busy", "2", "--image-size", "32", "--threads", "1", "--json", str(file)]
    done = CliRunner().invoke(app, ["bench", "latency", str(micro_bundle.path), *options])
    assert done.exit_code == 0, done.output
    result = json.loads(file.read_text())
    durations = {"n", "p50_ms", "p95_ms", "p99_ms"}
    assert set(result["idle"]) == {"engine", "policy", "reply", "overhead", "entropy_reply_ratio"}
    assert [beside.pop("processes") for beside in result["busy"]] == [1, 2]
    conditions = [result["idle"], *result["busy"]]
    assert [set(beside) for beside in conditions] == 3 * [set(result["idle"])]
    found_everywhere = [result]
    for condition in conditions:
        found_everywhere += [condition["engine"], condition["policy"]]
        found_everywhere += [condition[what][entropy] for what in ("reply", "overhead") for entropy in condition[what]]
    for found in found_everywhere:
        assert durations <= set(found)
        assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    for condition in conditions:
        ratio = condition["reply"]["entropy_on"]["p50_ms"] / condition["reply"]["entropy_off"]["p50_ms"]
        assert condition["entropy_reply_ratio"] == pytest.approx(ratio)
    assert result["entropy_reply_ratio"] == result["idle"]["entropy_reply_ratio"]
    assert (result["engine"], result["precision"], result["threads"], result["n"]) == ("torch", "fp32", 1, 3)
    assert result["hash"] == micro_bundle.hash
    assert "env" in result
    for row in ("engine, alone", "policy, alone", "engine, beside 2 busy", "reply, entropy on, alone", "p99 ms"):
        assert row in done.output


def test_ctrl_c_ends_a_measurement_with_130_and_leaves_nothing(micro_bundle: Bundle) -> None:
    program = (
        "import sys\nfrom flexor.cli import bench, main\nbench.ROUNDS = bench.REPLIES = 1\n"
        "sys.argv = ['flexor', 'bench', 'latency', sys.argv[1], '--busy', '1', '--n', '1']\nmain.main()\n"
    )
    command = [sys.executable, "-c", program, str(micro_bundle.path)]
    bench_process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while not (busy := [pid for pid in children(bench_process.pid) if is_busy_process(pid)]):
            assert time.monotonic() < deadline, "no busy process was started"
            time.sleep(0.05)
        bench_process.send_signal(signal.SIGINT)
        said = bench_process.communicate(timeout=GONE_TIMEOUT_S)[1]
    finally:
        bench_process.kill()
    assert bench_process.returncode == 130, said
    assert "Traceback" not in said
    wait_until_gone(busy)


def test_bench_latency_of_an_unknown_bundle_is_an_error_in_one_line() -> None:
    command = [sys.executable, "-m", "flexor.cli.main", "bench", "latency", "no-such-bundle"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no bundle 'no-such-bundle'")
