"""What a directory of adapters remembers survives a kill, and what it must not keep goes."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_store import KEPT, AdapterStore
from flexor.runtime.adapters.adapter_writer import next_version
from flexor.runtime.adapters.audit_log import AUDIT, read_audit
from flexor.runtime.adapters.store_state import STATE, StoreState
from flexor.runtime.adapters.verification import Verifier

Write = Callable[..., Path]


def test_what_was_noted_is_there_when_the_directory_is_opened_again(root: Path, write: Write) -> None:
    name = write().name
    with AdapterStore(root) as store:
        store.note(name, "ACTIVE", {"active": name, "history": ("base",), "seen": 1}, sha256="0" * 64)
        store.count(name, True)
        store.count(name, False)
    with AdapterStore(root) as store:
        record = store.record(name)
        assert record is not None
        assert (record.state, record.episodes, record.successes, record.sha256) == ("ACTIVE", 2, 1, "0" * 64)
        assert (store.state.active, store.state.history, store.state.seen) == (name, ("base",), 1)
    assert [entry["event"] for entry in read_audit(root)[0]] == ["adapter.active"]


def test_one_server_has_a_directory_at_a_time(root: Path) -> None:
    with AdapterStore(root):
        with pytest.raises(AdapterError, match="another server's") as caught:
            AdapterStore(root)
        assert caught.value.reason == "busy"
    AdapterStore(root).close()


def test_a_state_that_cannot_be_read_means_the_base_and_nothing_old_counts_as_new(root: Path, write: Write) -> None:
    write(version=7)
    (root / STATE).write_text('{"schema_version": 1, "act')
    with pytest.raises(AdapterError, match="move it away"):
        StoreState.read(root)
    with AdapterStore(root) as store:
        assert (store.state.active, store.state.seen) == ("base", 7)
    assert (root / f"{STATE}.broken").exists()
    assert read_audit(root)[0][0]["event"] == "state.broken"


def test_the_log_goes_on_after_a_line_that_was_cut(root: Path) -> None:
    with AdapterStore(root) as store:
        store.log("first", "base")
        with (root / AUDIT).open("ab") as stream:
            stream.write(b'{"at": "2026-')
        store.log("second", "base")
    entries, unreadable = read_audit(root)
    assert ([entry["event"] for entry in entries], unreadable) == (["first", "second"], 1)


def test_the_last_three_that_were_active_stay_and_unannounced_ones_are_never_touched(root: Path, write: Write) -> None:
    names = [write(seed=seed).name for seed in range(12)]
    with AdapterStore(root) as store:
        # 0 to 3 were rejected, 4 to 8 active one after the other, 9 is; 10 and 11 were not announced yet.
        store.update(active=names[9], history=("base", *names[4:9]), seen=10)
        store.prune()
        assert store.ids() == [*names[3:6], *names[6:9], names[9], *names[10:]]
    assert KEPT == 3


def test_what_is_served_or_tried_cannot_be_removed_and_other_names_lead_nowhere(root: Path, write: Write) -> None:
    first, second = write(seed=1).name, write(seed=2).name
    with AdapterStore(root) as store:
        store.update(active=first)
        with pytest.raises(AdapterError, match="rollback") as caught:
            store.remove(first)
        assert caught.value.reason == "in_use"
        store.remove(second)
        assert store.ids() == [first]
        for name in (second, "../x", "", "base"):
            with pytest.raises(AdapterError) as caught:
                store.remove(name)
            assert caught.value.reason == "unknown"


def test_the_next_version_is_above_all_that_lie_there_and_all_that_the_server_has_seen(
    root: Path, write: Write
) -> None:
    write(version=3)
    assert next_version(root) == 4
    with AdapterStore(root) as store:
        store.update(seen=7)
    assert next_version(root) == 8
    (root / STATE).write_text("{")
    assert next_version(root) == 4, "as its server will see it"


def test_what_is_told_of_an_adapter_can_be_written_down_and_read_again(root: Path, write: Write) -> None:
    name = write().name
    told: list[dict[str, object]] = []
    with AdapterStore(root) as store:
        store.announce = told.append
        store.note(name, "REJECTED", reason="altered", told="a file \udcff of no name")
    record = StoreState.read(root).records[name]
    assert record.told == told[0]["told"] == "a file \\udcff of no name"


def test_a_folder_that_cannot_be_listed_is_torn(
    write: Write, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    path = write()
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(AdapterError, match="cannot be read") as caught:
        verifier.verify(path)
    assert caught.value.reason == "torn"
