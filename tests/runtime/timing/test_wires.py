"""The wires that are compared carry the same request and answer, and say clearly when the other side is broken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgpack
import numpy as np
import pytest
from fake_policy import FakePolicy
from numpy.typing import NDArray
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.errors import FlexorError
from flexor.runtime.observation import ActionChunk, Observation
from flexor.runtime.timing.reply_timer import synthetic_observations
from flexor.runtime.timing.wires import blob_wire
from flexor.runtime.timing.wires.own_wire import OFFERS
from flexor.runtime.timing.wires.packed_arrays import pack, unpack
from flexor.runtime.timing.wires.rounds import UNTIMED, time_wires
from flexor.runtime.timing.wires.silent_policy import SilentPolicy
from flexor.runtime.timing.wires.wire import WIRES, Wire
from flexor.runtime.timing.wires.wire_server import WireServer

GONE_TIMEOUT_S = 30.0
OBSERVATIONS = synthetic_observations(("base", "wrist"), 8, 24)
every_wire = pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES.keys())


class Seeing(FakePolicy):
    """Keeps a copy of what it was shown: what a wire delivers may be a view of a message."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Observation] = []

    def infer(
        self, observation: Observation, noise_seed: int, action_prefix: NDArray[np.float32] | None = None
    ) -> ActionChunk:
        images = {name: image.copy() for name, image in observation.images.items()}
        self.shown.append(Observation(images, observation.state.copy(), observation.prompt))
        return super().infer(observation, noise_seed, action_prefix)


@every_wire
def test_every_wire_delivers_the_observation_and_brings_the_chunk_back(wire: Wire, tmp_path: Path) -> None:
    policy = Seeing()
    with wire.serve(policy, str(tmp_path)) as address:
        client = wire.connect(address)
        try:
            chunks = [client.infer(observation, step) for step, observation in enumerate(OBSERVATIONS[:3])]
        finally:
            client.close()
    for asked, shown, chunk in zip(OBSERVATIONS, policy.shown, chunks, strict=False):
        assert shown.prompt == asked.prompt
        np.testing.assert_array_equal(shown.state, asked.state)
        assert shown.state.dtype == np.float32
        assert list(shown.images) == ["base", "wrist"]
        for name, image in asked.images.items():
            np.testing.assert_array_equal(shown.images[name], image)
            assert shown.images[name].dtype == np.uint8
        assert chunk.actions.dtype == np.float32
        np.testing.assert_array_equal(chunk.actions, np.full((10, 7), asked.state[0]))
    assert len(policy.shown) == 3


@every_wire
def test_what_trips_in_the_server_is_told_to_the_client(wire: Wire, tmp_path: Path) -> None:
    failing = Observation(OBSERVATIONS[0].images, OBSERVATIONS[0].state, "fail")
    with wire.serve(FakePolicy(), str(tmp_path)) as address:
        client = wire.connect(address)
        try:
            with pytest.raises(FlexorError, match="RuntimeError: the policy tripped"):
                client.infer(failing, 0)
        finally:
            client.close()


def test_a_websocket_server_that_is_not_there_is_named() -> None:
    with pytest.raises(FlexorError, match=r"no websocket server answers at ws://127\.0\.0\.1:1: .*refused"):
        WIRES["peer"].connect("ws://127.0.0.1:1")


def test_a_blob_server_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_wire, "REPLY_MS", 50)
    client = WIRES["blob"].connect(f"ipc://{tmp_path}/nobody.sock")
    try:
        with pytest.raises(FlexorError, match=r"blob server at ipc://.*nobody\.sock does not answer"):
            client.infer(OBSERVATIONS[0], 0)
    finally:
        client.close()


def test_a_server_process_that_cannot_start_says_why() -> None:
    with pytest.raises(FlexorError, match=r"no-such-wire server did not start .* KeyError"), WireServer("no-such-wire"):
        pass


def test_a_server_process_ends_with_the_process_that_started_it() -> None:
    program = (
        "import time\nfrom flexor.runtime.timing.wires.wire_server import WireServer\n"
        "with WireServer('blob') as server:\n    print(server._process.pid, flush=True)\n    time.sleep(100)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(GONE_TIMEOUT_S)
    parent.stdout.close()
    deadline = time.monotonic() + GONE_TIMEOUT_S
    while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < deadline, "the server outlived its parent"
        time.sleep(0.05)


def test_rounds_time_every_wire_as_often_and_leave_the_first_requests_of_a_round_out() -> None:
    done: list[int] = []
    times = time_wires(["multipart", "blob"], OBSERVATIONS, 2, 3, 0.0, done.append)
    assert {name: len(found) for name, found in times.items()} == {"multipart": 6, "blob": 6}
    assert all(found > 0 for of_one in times.values() for found in of_one)
    assert done == [1, 2]
    assert UNTIMED > 0


def test_shared_memory_is_timed_and_never_frames_in_its_place(tmp_path: Path) -> None:
    with WIRES["shm"].serve(FakePolicy(), str(tmp_path)) as address:
        (tmp_path / "flexor.lane.sock").unlink()
        client = WIRES["shm"].connect(address)
        try:
            for step in range(OFFERS):
                client.infer(OBSERVATIONS[0], step)
            with pytest.raises(FlexorError, match="did not take the memory"):
                client.infer(OBSERVATIONS[0], OFFERS)
        finally:
            client.close()


def test_the_silent_policy_is_silent() -> None:
    chunk = SilentPolicy().infer(OBSERVATIONS[0], 7)
    assert (chunk.actions.shape, chunk.actions.dtype, chunk.provenance.noise_seed) == ((10, 7), np.float32, 7)
    assert not chunk.actions.any()


def test_an_array_is_packed_as_openpi_packs_it() -> None:
    array = np.array([[1.5, -2.0]], np.float32)
    by_hand = {b"__ndarray__": True, b"data": bytes.fromhex("0000c03f000000c0"), b"dtype": "<f4", b"shape": [1, 2]}
    assert msgpack.unpackb(pack({"state": array, "prompt": "go"})) == {"state": by_hand, "prompt": "go"}
    read = unpack(msgpack.packb({"state": by_hand, "n": 3}) or b"")
    assert read["n"] == 3
    assert read["state"].dtype == np.float32
    np.testing.assert_array_equal(read["state"], array)


@pytest.mark.parametrize(
    "blob",
    [b"\xc1", b"", pack({"state": np.zeros(3)})[:-2], msgpack.packb([1]), msgpack.packb({b"__ndarray__": True})],
    ids=["no msgpack", "nothing", "cut", "a list", "an array without data"],
)
def test_a_blob_that_is_none_is_refused(blob: bytes) -> None:
    with pytest.raises(FlexorError, match="a peer sent"):
        unpack(blob)


def test_bench_wire_writes_its_keys_and_prints_its_table(tmp_path: Path) -> None:
    file = tmp_path / "wire.json"
    done = CliRunner().invoke(
        app, ["bench", "wire", "--n", "4", "--rounds", "2", "--image-size", "16", "--json", str(file)]
    )
    assert done.exit_code == 0, done.output
    result = json.loads(file.read_text())
    for name in ("multipart", "shm", "blob", "peer"):
        assert 0 < result[f"{name}_p50_us"] <= result[f"{name}_p95_us"] <= result[f"{name}_p99_us"]
        assert result[f"{name}_n"] == 4
        assert WIRES[name].title in done.output
    assert result["image_bytes"] == 2 * 16 * 16 * 3
    assert result["env"]["cpu"]


def test_bench_wire_without_websockets_says_what_to_type() -> None:
    program = (
        "import sys\nsys.modules['websockets'] = None\n"
        "from flexor.cli.main import main\nsys.argv = ['flexor', 'bench', 'wire', '--n', '1']\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "pip install 'flexor[bench]'" in done.stderr
    assert "Traceback" not in done.stderr
