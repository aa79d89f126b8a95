"""Addresses: both ends derive the same three, and a dead server's files are taken over while a live one's are not."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flexor.runtime.serving.address import AddressError, Addresses, Claim

DIES_HOLDING = """
import os, signal, sys
from flexor.runtime.serving.address import Addresses
from flexor.runtime.serving.server_sockets import ServerSockets
sockets = ServerSockets(Addresses.of(sys.argv[1]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_control_and_events_lie_beside_the_data_socket() -> None:
    addresses = Addresses.of("ipc:///tmp/x/policy.sock")
    assert addresses.control == "ipc:///tmp/x/policy.control.sock"
    assert addresses.events == "ipc:///tmp/x/policy.events.sock"


def test_a_relative_path_means_the_current_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(folder)
    assert Addresses.of("ipc://p.sock").data == f"ipc://{folder}/p.sock"


def test_the_default_address_follows_the_runtime_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert Addresses.of().data == "ipc:///run/user/7/flexor/policy.sock"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert Addresses.of().data == f"ipc:///tmp/flexor-{os.getuid()}/policy.sock"


def test_a_tcp_server_keeps_its_control_socket_as_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    addresses = Addresses.of("tcp://127.0.0.1:5555")
    assert addresses.data == "tcp://127.0.0.1:5555"
    assert addresses.control == "ipc:///run/user/7/flexor/policy-5555.control.sock"


@pytest.mark.parametrize(
    "address",
    [
        "policy.sock",
        "udp://127.0.0.1:5",
        "ipc://",
        "ipc://@abstract",
        "ipc://*",
        "ipc:///tmp/folder/",
        "ipc:///tmp/" + "x" * 100,
        "tcp://0.0.0.0:5555",
        "tcp://192.168.1.5:5555",
        "tcp://*:5555",
        "tcp://robot.example:5555",
        "tcp://127.0.0.1:*",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:70000",
        "tcp://127.0.0.1",
    ],
)
def test_an_address_that_cannot_be_served_is_refused_by_name(address: str) -> None:
    with pytest.raises(AddressError) as caught:
        Addresses.of(address)
    assert address.rpartition("/")[2][:20] in str(caught.value)


def test_a_second_claim_is_refused_until_the_first_is_released(address: str, folder: Path) -> None:
    first, second = Claim(Addresses.of(address)), Claim(Addresses.of(address))
    first.acquire()
    with pytest.raises(AddressError, match="already listens"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    assert list(folder.iterdir()) == []


def test_the_files_of_a_killed_server_are_taken_over(address: str, folder: Path) -> None:
    died = subprocess.run([sys.executable, "-c", DIES_HOLDING, address], timeout=60)
    assert died.returncode == -9
    assert any(file.is_socket() for file in folder.iterdir())
    claim = Claim(Addresses.of(address))
    claim.acquire()
    assert not any(file.is_socket() for file in folder.iterdir())
    claim.release()
    assert list(folder.iterdir()) == []


def test_a_socket_that_someone_else_serves_is_not_taken(address: str, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(folder / "policy.sock"))
        other.listen(1)
        with pytest.raises(AddressError, match="already listens"):
            Claim(Addresses.of(address)).acquire()
    assert (folder / "policy.sock").is_socket()


def test_a_file_that_is_no_socket_is_not_removed(address: str, folder: Path) -> None:
    (folder / "policy.sock").write_text("precious")
    with pytest.raises(AddressError, match="is no socket"):
        Claim(Addresses.of(address)).acquire()
    assert (folder / "policy.sock").read_text() == "precious"


def test_the_default_folder_is_private(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    claim = Claim(Addresses.of())
    claim.acquire()
    assert stat.S_IMODE((folder / "flexor").stat().st_mode) == 0o700
    claim.release()
    (folder / "flexor").chmod(0o777)
    with pytest.raises(AddressError, match="not a private folder"):
        Claim(Addresses.of()).acquire()
