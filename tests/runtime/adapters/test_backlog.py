"""What the disk refuses is done later, in the order in which it was decided."""

from __future__ import annotations

import pytest

from flexor.runtime.adapters.backlog import Backlog


def test_what_the_disk_refuses_waits_in_order_and_what_fails_otherwise_holds_nothing_up() -> None:
    backlog, refusals = Backlog(), [OSError("full")]
    done: list[str] = []

    def first() -> None:
        if refusals:
            raise refusals.pop()
        backlog.do(lambda: done.append("added by the first"))
        done.append("first")

    def broken() -> None:
        raise ValueError("broken")

    with pytest.raises(OSError, match="full"):
        backlog.do(first)
    backlog.add(broken)
    with pytest.raises(ValueError, match="broken"):
        backlog.do(lambda: done.append("last"))
    assert done == ["first", "last", "added by the first"]
    backlog.work()
    assert len(done) == 3
