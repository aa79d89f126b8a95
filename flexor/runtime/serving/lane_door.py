"""LaneDoor: the server's Unix socket for clients on this machine that share memory, and those that came through it.

The door is private to the server's user, as the control socket is. A lane carries `memory` and `infer` and nothing
else; who wants anything else asks the data socket.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Collection
from pathlib import Path

import zmq

from flexor.runtime.serving.address import AddressError
from flexor.runtime.serving.peers import LanePeer

MAX_LANES = 64  # further clients find the door closed, and send frames
BACKLOG = 16


class LaneDoor:
    """Listens at `path`, which is claimed, and tells `poller` what to wait for; for one thread.

    Args:
        path: None means no door, and no peers.

    Raises:
        AddressError: it cannot listen there.
    """

    def __init__(self, path: Path | None, poller: zmq.Poller) -> None:
        self._poller = poller
        self._peers: dict[int, LanePeer] = {}
        self._listener: socket.socket | None = None
        self._spare = -1
        if path is None:
            return
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        before = os.umask(0o177)
        try:
            listener.bind(os.fspath(path))
            listener.listen(BACKLOG)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            raise AddressError(f"cannot listen at {path}: {error.strerror}; give another --bind") from error
        finally:
            os.umask(before)
        self._listener = listener
        self._spare = os.open(os.devnull, os.O_RDONLY)
        poller.register(listener.fileno(), zmq.POLLIN)

    def __len__(self) -> int:
        return len(self._peers)

    def ready(self, happened: Collection[object]) -> list[LanePeer]:
        """Let in who knocks; the peers that have sent something, by what a poll found."""
        if self._listener is not None and self._listener.fileno() in happened:
            self._let_in(self._listener)
        return [peer for fd, peer in self._peers.items() if fd in happened]

    def peers(self) -> list[LanePeer]:
        """All of them."""
        return list(self._peers.values())

    def drop(self, peer: LanePeer) -> None:
        """The peer is gone, or has to go."""
        if self._peers.pop(peer.fd, None) is not None:
            self._poller.unregister(peer.fd)
            peer.close()

    def close(self) -> None:
        """Hang up. What was sent can still be read by the peers."""
        for peer in self.peers():
            self.drop(peer)
        if self._listener is not None:
            self._poller.unregister(self._listener.fileno())
            self._listener.close()
            self._listener = None
            os.close(self._spare)

    def _let_in(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._turn_away(listener)
            return  # else it went away before it was let in
        if len(self._peers) >= MAX_LANES:
            connection.close()
            return
        peer = LanePeer(connection)
        self._peers[peer.fd] = peer
        self._poller.register(peer.fd, zmq.POLLIN)

    def _turn_away(self, listener: socket.socket) -> None:
        """No file handle is left: let one in with the spare one, to hang up; who knocks on would end every poll."""
        os.close(self._spare)
        with contextlib.suppress(OSError):
            listener.accept()[0].close()
        self._spare = os.open(os.devnull, os.O_RDONLY)
