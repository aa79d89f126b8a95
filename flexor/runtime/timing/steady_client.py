"""SteadyClient: a robot's side in a process of its own that asks at a steady pace until it is told to stop.

Run as a program it reads one line of JSON {address, cameras, state_dim, period_s} from its standard input,
writes `asking` when its first chunks have come, and once its standard input ends one line of JSON: every request.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from flexor.errors import FlexorError
from flexor.runtime.child_process import end
from flexor.runtime.observation import Observation
from flexor.runtime.serving.client import PolicyClient, ServerRefused, ServerTimeout
from flexor.runtime.timing.reply_timer import OBSERVATIONS, engine_ms, synthetic_observations

READY_TIMEOUT_S = 180.0  # a cold start of the server reads torch from disk
REPLY_TIMEOUT_S = 10.0
STOP_S = 30.0
WARM_UP_REPLIES = 5
IMAGE_SIZE = 224  # pixels a side
NOISE_SEED = 7  # of every request, so that the same weights give the same chunk


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, and how it ended.

    Attributes:
        observation: which of `observations()` was asked with.
        began_s, ended_s: monotonic clock, which the processes of a machine share.
        told: chunk, or how it was lost: timeout, superseded, expired, busy, or the code of an error.
        engine_ms: the engine's share; of a chunk alone, as the two below.
        adapter: that the chunk is of.
        actions: [H][A], robot units.
    """

    observation: int
    began_s: float
    ended_s: float
    told: str = "chunk"
    engine_ms: float = 0.0
    adapter: str = ""
    actions: Sequence[Sequence[float]] = ()

    @property
    def reply_ms(self) -> float:
        """From asking to the chunk in hand."""
        return 1000.0 * (self.ended_s - self.began_s)


def observations(cameras: Sequence[str], state_dim: int) -> list[Observation]:
    """What is asked with, in turn; the same each time."""
    return synthetic_observations(cameras, state_dim, IMAGE_SIZE)


class SteadyClient:
    """A context in which one episode is open and its robot asks, once a period, or at once after a late reply.

    Args:
        address: of the server; it may still be starting.
        cameras, state_dim: of the bundle.
        period_s: from one request to the next.
    """

    def __init__(self, address: str, cameras: Sequence[str], state_dim: int, period_s: float) -> None:
        self._setting: dict[str, Any] = {"address": address, "cameras": list(cameras), "state_dim": state_dim}
        self._setting["period_s"] = period_s

    def __enter__(self) -> SteadyClient:
        self._said = tempfile.TemporaryFile()
        command = [sys.executable, "-m", "flexor.runtime.timing.steady_client"]
        # In a session of its own: Ctrl-C is for the parent, whose end closes the client's standard input.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, start_new_session=True
        )
        try:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.write(json.dumps(self._setting).encode() + b"\n")
            self._process.stdin.flush()
            there = select.select([self._process.stdout], [], [], READY_TIMEOUT_S + REPLY_TIMEOUT_S)[0]
            if not there or self._process.stdout.readline() != b"asking\n":
                raise self._failure("did not get its first chunks")
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def check(self) -> None:
        """Raise FlexorError when it is not running any more."""
        if self._process.poll() is not None:
            raise self._failure(f"ended with code {self._process.returncode}")

    def finish(self) -> list[Asked]:
        """Ask no more; every request since `asking`, in order.

        Raises:
            FlexorError: it failed before, with what it said last, or does not end.
        """
        try:
            told, _ = self._process.communicate(timeout=REPLY_TIMEOUT_S + STOP_S)
        except subprocess.TimeoutExpired as error:
            raise self._failure("does not end") from error
        if self._process.returncode:
            raise self._failure(f"ended with code {self._process.returncode}")
        return [Asked(**request) for request in json.loads(told)]

    def _failure(self, what: str) -> FlexorError:
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip().splitlines() or ["nothing"]
        return FlexorError(f"the client that asks {self._setting['address']} {what}; it said: {said[-1]}")

    def _close(self) -> None:
        end(self._process, patience_s=STOP_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._said.close()


def main() -> None:
    """Ask as the first line of standard input says, until there is no more of it."""
    setting = json.loads(sys.stdin.buffer.readline())
    images = observations(setting["cameras"], setting["state_dim"])
    asked: list[Asked] = []
    with PolicyClient(setting["address"], REPLY_TIMEOUT_S) as client:
        client.wait_ready(READY_TIMEOUT_S)
        client.begin_episode("bench")
        for call in range(WARM_UP_REPLIES):
            client.infer(images[call % OBSERVATIONS], call, noise_seed=NOISE_SEED)
        print("asking", flush=True)
        while not select.select([sys.stdin.buffer], [], [], 0.0)[0]:
            which, began = len(asked) % OBSERVATIONS, time.monotonic()
            try:
                chunk = client.infer(images[which], WARM_UP_REPLIES + len(asked), noise_seed=NOISE_SEED)
            except ServerTimeout:
                asked.append(Asked(which, began, time.monotonic(), "timeout"))
            except ServerRefused as error:
                asked.append(Asked(which, began, time.monotonic(), error.code))
            else:
                ended = time.monotonic()
                engine, adapter = engine_ms(chunk), chunk.provenance.adapter
                asked.append(Asked(which, began, ended, "chunk", engine, adapter, chunk.actions.tolist()))
            time.sleep(max(0.0, began + setting["period_s"] - time.monotonic()))
        with suppress(ServerTimeout, ServerRefused):
            client.end_episode("unknown")
    json.dump([asdict(request) for request in asked], sys.stdout)


if __name__ == "__main__":
    main()
