"""The entry of the command, from which on Ctrl-C leaves no traceback, also while Python imports the rest."""

from __future__ import annotations

import os
import signal
from types import FrameType

INTERRUPTED = 130


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)  # nothing is open yet, and an exception in the middle of an import is seldom kept whole


def main() -> None:
    """Run the command line of this process and exit with its code."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # and not where a shell has it ignored
        signal.signal(signal.SIGINT, _leave)
    from flexor.cli.main import main as command

    signal.signal(signal.SIGINT, before)
    command()


if __name__ == "__main__":
    main()
