"""Readiness of a server process: a wait that ends at once when it has died, with the end of its log."""

from __future__ import annotations

import time

from flexor.errors import FlexorError
from flexor.flywheel.server_process import ServerProcess
from flexor.runtime.serving.client import PolicyClient, ServerTimeout

LIMIT_S = 180.0  # a cold start reads torch from disk, on a machine that may be busy
LOOK_EVERY_S = 1.0


def wait_ready(server: ServerProcess) -> None:
    """Return when a server's policy is warm.

    Raises:
        FlexorError: it ended, or is not ready after LIMIT_S.
    """
    deadline = time.monotonic() + LIMIT_S
    with PolicyClient(server.address) as client:
        while True:
            server.check()
            try:
                client.wait_ready(LOOK_EVERY_S)
                return
            except ServerTimeout as error:
                if time.monotonic() > deadline:
                    raise FlexorError(f"the server is not ready after {LIMIT_S:g} s: {error}") from error
