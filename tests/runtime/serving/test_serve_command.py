"""`flexor serve` as a process: a real bundle, a real engine, and nothing left behind however it is asked to stop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_policy import FakePolicy

from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.observation import Observation
from flexor.runtime.serving.channel import ServerRefused
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.server import PolicyServer

TIMEOUT_S = 60.0
Serve = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """serve(*arguments) -> a process of `flexor serve`, killed at the end."""
    children: list[subprocess.Popen[str]] = []

    def begin(*arguments: str | Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flexor.cli.main", "serve", *map(str, arguments)]
        children.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return children[-1]

    yield begin
    for child in children:
        child.kill()
        child.communicate(timeout=TIMEOUT_S)


def ready_line(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    return server.stdout.readline()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_served_bundle_answers_until_a_signal_and_leaves_no_file(
    number: signal.Signals, code: int, serve: Serve, micro_bundle: Bundle, address: str, folder: Path
) -> None:
    report = folder / "report" / "served.json"
    server = serve(micro_bundle.path, "entropy=never", "--bind", address, "--threads", "1", "--json", report)
    line = ready_line(server)
    assert line.startswith(f"ready {address} {micro_bundle.id} torch cpu fp32 threads=1")
    images = {camera: np.full((48, 64, 3), 90, np.uint8) for camera in micro_bundle.cameras}
    with PolicyClient(address, TIMEOUT_S) as client:
        hello = client.hello()
        assert hello["ready"]
        assert hello["hash"] == micro_bundle.hash
        state = np.zeros(hello["state_dim"], np.float32)
        chunk = client.infer(Observation(images, state, "put the red cube on the plate"), noise_seed=1)
        again = client.infer(Observation(images, state, "put the red cube on the plate"), noise_seed=1)
        assert chunk.actions.shape == (hello["horizon"], hello["action_dim"])
        np.testing.assert_array_equal(chunk.actions, again.actions)
        for bad in (np.full_like(state, np.nan), state[:-1]):
            with pytest.raises(ServerRefused, match="state") as caught:
                client.infer(Observation(images, bad, "put the red cube on the plate"))
            assert caught.value.code == "bad_observation"
        with pytest.raises(ServerRefused, match="camera"):
            client.infer(Observation({"elsewhere": images[micro_bundle.cameras[0]]}, state, "put"))
    server.send_signal(number)
    server.wait(TIMEOUT_S)
    assert server.returncode == code
    assert [file.name for file in folder.iterdir()] == ["report"]
    told: dict[str, Any] = json.loads(report.read_text())
    assert told["replies"] == {"hello": 1, "ok": 1, "chunk": 2, "error": 3}  # ok: it took the memory
    assert told["bundle"] == micro_bundle.id


def test_a_second_server_at_the_same_address_is_told_so(
    serve: Serve, policy: FakePolicy, start: Callable[..., PolicyServer], address: str
) -> None:
    start(policy)
    second = serve("no-such-bundle", "--bind", address)
    assert second.wait(TIMEOUT_S) == 1
    assert second.stderr is not None
    assert f"error: a server already listens at {address}" in second.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-bundle"], "no-such-bundle"),
        (["no-such-bundle", "max_waitng=3"], "max_waiting"),
        (["no-such-bundle", "--bind", "tcp://0.0.0.0:5555"], "not on this machine"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(arguments: list[str], words: str, serve: Serve) -> None:
    server = serve(*arguments)
    assert server.wait(TIMEOUT_S) == 1
    assert server.stderr is not None
    told = server.stderr.read()
    assert words in told
    assert "Traceback" not in told


def test_8bit_serves_by_bitsandbytes_and_no_other_precision_beside_it(
    serve: Serve, micro_bundle: Bundle, address: str
) -> None:
    server = serve(micro_bundle.path, "--8bit", "--bind", address)
    assert ready_line(server).startswith(f"ready {address} {micro_bundle.id} torch cpu bnb8 threads=1")
    refused = serve(micro_bundle.path, "--8bit", "--precision", "bf16", "--bind", address)
    _, error = refused.communicate(timeout=TIMEOUT_S)
    assert refused.returncode == 2 and "--precision is bf16" in " ".join(error.replace("│", " ").split())
